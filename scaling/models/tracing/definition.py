"""A user's Flax module as two pure functions of plain nested dicts, whether it is of NNX or of Linen.

Dims: B batch; an example has the dims of its task.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx

from scaling.specs.base import InputError
from scaling.specs.code import describe_signature
from scaling.specs.task import TaskShape

PyTree = Any  # of arrays

# What modules call the switch of training, and its value then; Flax's own layers have no other.
TRAIN_SWITCHES = {"train": True, "training": True, "is_training": True, "deterministic": False}


class Definition(NamedTuple):
    """A module as two pure functions.

    Attributes:
      init: key → `{"params": …, "state": …}`, plain nested dicts of arrays; state is batch statistics and the like.
      apply: (variables, inputs [B, …], train, key) → (outputs, state). All random bits follow from the key.
    """

    init: Callable[[jax.Array], dict[str, PyTree]]
    apply: Callable[..., tuple[jax.Array, PyTree]]


def define(make: Callable[..., Any], width: int, task: TaskShape, settings: Mapping[str, Any]) -> Definition:
    """Returns the module that a user's function makes.

    Args:
      make: (width, task, **settings) → module; an NNX module takes its random numbers from `rngs`, which `make` gets
        where it has a parameter of that name.
      width: the user's dial of the size.
      task: what it must fit.
      settings: further arguments.

    Raises:
      InputError: the function makes something else.
    """
    takes_rngs = "rngs" in describe_signature(make)

    def construct(key: jax.Array) -> Any:
        streams = {"rngs": nnx.Rngs(params=key, default=jax.random.fold_in(key, 1))} if takes_rngs else {}
        return make(width, task, **settings, **streams)

    made: list[type] = []

    def look(key: jax.Array) -> None:
        made.append(type(construct(key)))

    jax.eval_shape(look, jax.random.key(0))
    (kind,) = made
    if issubclass(kind, linen.Module):
        return _define_linen(make(width, task, **settings), task)
    if issubclass(kind, nnx.Module):
        return _define_nnx(construct)
    raise InputError(f"it makes {kind.__name__}; return a module of flax.nnx or of flax.linen")


def example_inputs(task: TaskShape, batch_size: int) -> jax.ShapeDtypeStruct:
    """Returns what a module is called with, [B, …], as shape and dtype."""
    dtype = jnp.float32 if task.vocab_size is None else jnp.int32
    return jax.ShapeDtypeStruct((batch_size, *task.dims), dtype)


# --- NNX ------------------------------------------------------------------------------------------------------------


def _define_nnx(construct: Callable[[jax.Array], Any]) -> Definition:
    def split(module: Any) -> Any:
        return nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)

    # Traced once: the graph, and where its arrays are.
    graph, params_like, random_like, _, state_like = split(nnx.eval_shape(lambda: construct(jax.random.key(0))))

    def init(key: jax.Array) -> dict[str, PyTree]:
        _, params, _, _, state = split(construct(key))
        return {"params": _nest(nnx.to_flat_state(params)), "state": _nest(nnx.to_flat_state(state))}

    def random_state(key: jax.Array) -> Any:
        """Returns every stream as it stands at the beginning of a pass: a key of its own, drawn from not yet."""
        fresh = []
        for path, variable in nnx.to_flat_state(random_like):
            own = jax.random.fold_in(key, zlib.crc32("/".join(map(str, path)).encode()))
            is_key = isinstance(variable, nnx.RngKey)
            fresh.append((path, variable.replace(own if is_key else jnp.zeros((), jnp.uint32))))
        return nnx.from_flat_state(fresh)

    def apply(
        variables: dict[str, PyTree], inputs: jax.Array, *, train: bool, key: jax.Array | None
    ) -> tuple[jax.Array, PyTree]:
        module: Any = nnx.merge(
            graph,
            _like(params_like, variables["params"]),
            random_state(jax.random.key(0) if key is None else key),
            _like(state_like, variables["state"]),
        )
        if train:
            module.train()
        else:
            module.eval()
        outputs = module(inputs, **_switches(type(module).__call__, train))
        return outputs, _nest(nnx.to_flat_state(split(module)[4]))

    return Definition(init, apply)


def _nest(flat: Iterable[tuple[tuple[Any, ...], Any]]) -> PyTree:
    """Returns variables by path as nested dicts of arrays; places in lists have their number as name."""
    root: dict[str, Any] = {}
    for path, variable in flat:
        node = root
        for name in path[:-1]:
            node = node.setdefault(str(name), {})
        node[str(path[-1])] = variable.get_value() if isinstance(variable, nnx.Variable) else variable
    return root


def _like(like: Any, tree: PyTree) -> Any:
    """Returns nested dicts of arrays as the state of a module."""
    filled = []
    for path, variable in nnx.to_flat_state(like):
        node = tree
        for name in path:
            node = node[str(name)]
        filled.append((path, variable.replace(node)))
    return nnx.from_flat_state(filled)


# --- Linen ----------------------------------------------------------------------------------------------------------


def _define_linen(module: linen.Module, task: TaskShape) -> Definition:
    call: Any = type(module).__call__

    def streams(key: jax.Array) -> dict[str, jax.Array]:
        return {"params": key, "dropout": jax.random.fold_in(key, 1)}

    def init(key: jax.Array) -> dict[str, PyTree]:
        like = example_inputs(task, 2)
        made: Any = module.init(streams(key), jnp.zeros(like.shape, like.dtype), **_switches(call, False))
        collections = dict(linen.meta.unbox(made))
        params = collections.pop("params", {})
        collections.pop("intermediates", None)
        return {"params": params, "state": collections}

    def apply(
        variables: dict[str, PyTree], inputs: jax.Array, *, train: bool, key: jax.Array | None
    ) -> tuple[jax.Array, PyTree]:
        state = variables["state"]
        mutable = list(state) if train else []
        outputs, changed = module.apply(
            {"params": variables["params"], **state},
            inputs,
            **_switches(call, train),
            rngs=streams(jax.random.key(0) if key is None else key),
            mutable=mutable,
        )
        return outputs, {**state, **changed}

    return Definition(init, apply)


def _switches(call: Callable[..., Any], train: bool) -> dict[str, Any]:
    """Returns the arguments by which a module's call is told whether it trains."""
    names = describe_signature(call)
    return {name: value == train for name, value in TRAIN_SWITCHES.items() if name in names}
