"""From a shape to a network that runs: two pure functions, defined by Flax modules and free of them above this line."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

import scaling.models.modules.image
import scaling.models.modules.sequence  # noqa: F401  (both register their modules)
from scaling.models.layers.core import Dims, Layer, walk
from scaling.models.layers.traced import TracedModule
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.models.modules.repeat import split_module
from scaling.models.parametrization import parametrized_layers
from scaling.models.shape import Shape
from scaling.models.tracing.program import tap_products
from scaling.specs.base import InputError
from scaling.specs.execution import DEFAULT, Execution

PyTree = Any  # of arrays: parameters, gradients, states of optimisers
Variables = dict[str, PyTree]


class Outputs(NamedTuple):
    """What a network says of a batch.

    Attributes:
      logits: [B, K], or [B, T, V] where tokens are predicted.
      auxiliary: (loss weight, logits) of auxiliary classifiers, in training.
      penalty: to add to the loss in training: routed experts' balance; 0 for other networks.
    """

    logits: jax.Array
    auxiliary: tuple[tuple[float, jax.Array], ...]
    penalty: jax.Array | float


class Model(NamedTuple):
    """A network as two pure functions.

    Attributes:
      init: key → variables, `{"params": …, "state": …}` of plain nested dicts of arrays.
      apply: (variables, inputs, train, key) → (Outputs, state); `taps`, a dict, receives every layer's output by path.
    """

    init: Callable[[jax.Array], Variables]
    apply: Callable[..., tuple[Outputs, Mapping[str, Any]]]


@functools.lru_cache(maxsize=32)
def build(shape: Shape, execution: Execution = DEFAULT) -> Model:
    """Returns the network of a shape, under its parametrisation, with the implementations of an execution."""
    layers, dims = parametrized_layers(shape), shape.task.dims
    if isinstance(layers, TracedModule):
        return _build_traced(layers, dims, execution)

    graph, _ = _outline(shape)

    def init(key: jax.Array) -> Variables:
        _, params, state = split_module(make_module(layers, dims, key))
        return {"params": params, "state": state}

    def apply(
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        key: jax.Array | None,
        taps: dict[str, jax.Array] | None = None,
    ) -> tuple[Outputs, Mapping[str, Any]]:
        module: Any = nnx.merge(graph, nnx.State(variables["params"]), nnx.State(variables["state"]))
        context = Context(train=train, key=key, taps=taps, execution=execution)
        if shape.task.image_shape:
            inputs = inputs.reshape(inputs.shape[0], *dims)
        logits = module(inputs, context)
        return Outputs(logits, tuple(context.auxiliary), sum(context.penalties, start=0.0)), split_module(module)[2]

    return Model(init, apply)


@functools.lru_cache(maxsize=32)
def _outline(shape: Shape) -> tuple[Any, Variables]:
    """Returns what all modules of a shape have in common: their definition, and their variables without values."""
    layers, dims = parametrized_layers(shape), shape.task.dims
    graph, params, state = split_module(nnx.eval_shape(lambda: make_module(layers, dims, None)))
    check_arrays(layers, dims, params)
    return graph, {"params": params, "state": state}


def _build_traced(layers: TracedModule, dims: Dims, execution: Execution) -> Model:
    """Returns a user's network: its own functions, under the factors of a parametrisation."""
    for name in ("scan_blocks", "remat"):
        if getattr(execution, name) != getattr(DEFAULT, name):
            raise InputError(
                f"execution.{name}={getattr(execution, name)!r}: a module of code has no blocks that are known here; "
                "leave it out, or let the module do so itself (jax.lax.scan, jax.checkpoint)"
            )
    init_factors, forward_factors = {}, {}
    for visit in walk(layers, dims, expand=True):
        assert isinstance(visit.layer, TracedModule)  # noqa: S101  (it holds no other)
        for name, scale in visit.layer.scales:
            init_factors[(*visit.path, name)], forward_factors[(*visit.path, name)] = scale
    definition = layers.definition

    def init(key: jax.Array) -> Variables:
        variables: Variables = definition.init(key)
        return {**variables, "params": _multiply_at(variables["params"], init_factors)}

    def apply(
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        key: jax.Array | None,
        taps: dict[str, jax.Array] | None = None,
    ) -> tuple[Outputs, Mapping[str, Any]]:
        inputs = inputs.reshape(inputs.shape[0], *dims)

        def run(params: PyTree, state: PyTree, inputs: jax.Array) -> tuple[jax.Array, PyTree]:
            scaled = {"params": _multiply_at(params, forward_factors), "state": state}
            logits, state = definition.apply(scaled, inputs, train=train, key=key)
            return logits, state

        arguments = (variables["params"], variables["state"], inputs)
        if taps is None:
            logits, state = run(*arguments)
        else:
            (logits, state), products = tap_products(run, arguments[0], arguments[1:])
            taps.update({"/" + "/".join(path): x for path, x in products.items()})
        return Outputs(logits, (), 0.0), state

    return Model(init, apply)


def _multiply_at(tree: PyTree, factors: Mapping[tuple[str, ...], float]) -> PyTree:
    """Returns nested dicts of arrays, some of them multiplied."""
    if all(factor == 1.0 for factor in factors.values()):
        return tree

    def multiply(path: Any, x: jax.Array) -> jax.Array:
        factor = factors.get(tuple(str(key.key) for key in path), 1.0)
        return x if factor == 1.0 else factor * x

    return jax.tree_util.tree_map_with_path(multiply, tree)


def check_arrays(layers: Layer, dims: Dims, params: Variables) -> None:
    """Checks that modules have the arrays that their layers count, so that N and FLOPs are those of what is trained.

    Args:
      layers: the network.
      dims: the dims of one example.
      params: the parameters of its module, as arrays or as shapes.

    Raises:
      RuntimeError: a module of this project has another array than its layer says; names it.
    """
    counted = {
        (*visit.path, name): weight.shape
        for visit in walk(layers, dims, expand=True)
        for name, weight in visit.layer.weights(visit.dims).items()
    }
    leaves = jax.tree_util.tree_leaves_with_path(params)
    real = {tuple(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
    for path in sorted(counted.keys() | real.keys()):
        if counted.get(path) != real.get(path):
            raise RuntimeError(
                f"array {'/'.join(path)}: its layer counts {counted.get(path)} and its module has {real.get(path)}; "
                "make `weights` of the layer say what the module makes"
            )


def abstract_variables(shape: Shape) -> Variables:
    """Returns a network's variables as shapes and dtypes, without making an array."""
    if isinstance(parametrized_layers(shape), TracedModule):
        variables: Variables = jax.eval_shape(build(shape).init, jax.random.key(0))
        return variables
    return jax.tree.map(lambda x: x, _outline(shape)[1])  # dicts that are the caller's own
