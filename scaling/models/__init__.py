"""Model families: a specification and a task give a shape, its exact counts, and two pure functions."""

import dataclasses
import importlib
import zlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
from flax import nnx

# Families trained by gradient descent, by kind: a module with `shape`, `count_params`, `count_flops` and `build`.
# Families with a solver of their own live in `classical`. To add one: its specification joins `ModelSpec` in cell.py,
# its module joins here.
GRADIENT_FAMILIES = {"mlp": "scaling.models.mlp"}

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """What a model must fit.

    Attributes:
      num_features: F numbers, or T tokens, in an example.
      vocab_size: V for tokens; None for numbers.
      num_classes: K.
    """

    num_features: int
    vocab_size: int | None
    num_classes: int


class Model(NamedTuple):
    """A network as two pure functions.

    Attributes:
      init: key → variables, `{"params": …, "state": …}` of plain nested dicts of arrays.
      apply: (variables, inputs, train, key) → (outputs, state).
    """

    init: Callable[[jax.Array], Variables]
    apply: Callable[..., tuple[jax.Array, Mapping[str, Any]]]


def gradient_family(kind: str) -> ModuleType:
    """Returns the module of a family that is trained by gradient descent."""
    return importlib.import_module(GRADIENT_FAMILIES[kind])


def as_model(define: Callable[[jax.Array], nnx.Module]) -> Model:
    """Returns the two pure functions of a Flax NNX module, which serves as a definition only.

    Args:
      define: key → module; called with `(inputs, train=…, key=…)` afterwards.
    """
    graph = _split(nnx.eval_shape(lambda: define(jax.random.key(0))))[0]

    def init(key: jax.Array) -> Variables:
        _, params, state = _split(define(key))
        return {"params": params, "state": state}

    def apply(variables: Variables, inputs: jax.Array, *, train: bool, key: jax.Array | None) -> Any:
        module: Any = nnx.merge(graph, nnx.State(variables["params"]), nnx.State(variables["state"]))
        outputs = module(inputs, train=train, key=key)
        return outputs, _split(module)[2]

    return Model(init, apply)


def named_rngs(key: jax.Array, name: str) -> nnx.Rngs:
    """Returns the random stream of a named submodule; adding another submodule does not change it."""
    return nnx.Rngs(jax.random.fold_in(key, zlib.crc32(name.encode())))


def _split(module: nnx.Module) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Returns a module's definition, its parameters and its other state, the last two as plain nested dicts."""
    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, params, state = parts
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(state)
