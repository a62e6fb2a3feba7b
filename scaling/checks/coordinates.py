"""The coordinate check: how large a network's activations and their changes are, as its width or depth grows.

A parametrisation that lets one learning rate serve every size keeps activations, and their changes in training, at one
size (Yang et al. 2022, appendix D.1; Dey et al. 2025, section 3). Here they are measured: a few real training steps on
one batch, at several widths or depths. `analysis/checks` draws and judges the rows,
and `scaling models --check-coordinates` prints them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from scaling.devices.options import compile_lightly
from scaling.learning.objectives import Batch, make_batch
from scaling.learning.step import TrainState, make_hyper, make_learner
from scaling.models.layers.core import Dense, Dims, Layer, Repeat, Residual, walk
from scaling.models.layers.image import Conv
from scaling.models.layers.sequence import LSTM, Attention, Embed, Experts
from scaling.models.layers.traced import TracedModule
from scaling.models.network import Model, Variables, build
from scaling.models.registry import make_shape
from scaling.models.shape import Shape, make_layers
from scaling.specs.models import NetworkSpec
from scaling.specs.schedules import ConstantSchedule
from scaling.specs.task import TaskShape
from scaling.specs.training import OptimizerSpec, TrainingSpec

Axis = Literal["width", "depth"]

# Layers whose outputs are followed, beside the blocks of a deep network: products with a matrix, and sums of residual
# layers. Readouts are not among them, being followed as the logits of the network.
WATCHED = (Dense, Conv, Embed, Attention, LSTM, Experts, Residual)

# What some layers say of their insides: attention scores and a router's logits.
SCORES = ("scores", "router")

# Each program runs a few small steps once, so on CPUs most of the time would go into compiling it well: two to four
# times as long as with these options.
FAST_COMPILATION = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True}


class Watch(NamedTuple):
    """A place in a network.

    Attributes:
      path: the path of the layer's output among the taps.
      label: the same for all depths: of repeated layers the first, middle and last are followed.
      kind: `hidden`, or `scores` for what a softmax takes inside the network.
    """

    path: str
    label: str
    kind: str


def measure_coordinates(
    spec: NetworkSpec,
    task: TaskShape,
    axis: Axis,
    values: Sequence[int],
    *,
    optimizer: OptimizerSpec,
    num_steps: int = 4,
    seeds: Sequence[int] = (0, 1, 2),
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """Returns mean |x| of every followed output x and of its change x_t - x_0: a row a place, size, seed and step.

    Columns: `parametrization axis value seed step path kind l1`; kind is `hidden`, `scores` or `logits` for outputs,
    and `update` for changes of any of them.

    Args:
      spec: the network; its parametrisation is the one under test.
      task: what it must fit.
      axis: what grows, `width` or `depth`.
      values: to try; the first one is the base, where every parametrisation is the standard one.
      optimizer: with a learning rate that makes a difference within so few steps.
      num_steps: t goes from 0 to this.
      seeds: the seeds of initial values; the batch is the same for all.
      batch_size: examples.
    """
    inputs, labels = synthetic_examples(task, batch_size)
    batch = make_batch(task, inputs, labels, jax.random.key(0))
    rows = []
    for value in values:
        shape = make_shape(resized(spec, axis, value, values[0]), task)
        places = list(watched_places(make_layers(shape), task.dims, in_blocks=axis == "width"))
        sizes = _measure(shape, optimizer, batch, places, num_steps, seeds)
        rows += [
            {
                "parametrization": spec.parametrization,
                "axis": axis,
                "value": value,
                "seed": seed,
                "step": step,
                "path": path,
                "kind": kind,
                "l1": float(found[number, step]),
            }
            for (path, kind), found in sizes.items()
            for number, seed in enumerate(seeds)
            for step in range(kind == "update", num_steps + 1)  # at t = 0 nothing has changed
        ]
    return rows


def synthetic_examples(task: TaskShape, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Returns inputs and labels [B] that can be learnt: numbers are normal and labels follow a random linear rule.

    Each token follows from the one before by a fixed random permutation of the vocabulary.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    if task.vocab_size is None:
        numbers = jax.random.normal(keys[0], (batch_size, task.num_features))
        rule = jax.random.normal(keys[1], (task.num_features, task.num_classes))
        return numbers.reshape(batch_size, *task.dims), (numbers @ rule).argmax(-1)
    follower = jax.random.permutation(keys[0], task.vocab_size)
    tokens = [jax.random.randint(keys[1], (batch_size,), 0, task.vocab_size)]
    for _ in range(task.num_features - (task.objective != "next_token")):
        tokens.append(follower[tokens[-1]])
    return jnp.stack(tokens, axis=1), jax.random.randint(keys[2], (batch_size,), 0, task.num_classes)


def resized(spec: NetworkSpec, axis: Axis, value: int, base: int) -> NetworkSpec:
    """Returns a network of another width or depth, on whose other axis its own size is the base."""
    own = {"base_width": spec.width, "base_depth": getattr(spec, "depth", None) or 1}
    return spec.model_copy(update={**own, axis: value, f"base_{axis}": base})


def _measure(
    shape: Shape,
    optimizer: OptimizerSpec,
    batch: Batch,
    places: Sequence[Watch],
    num_steps: int,
    seeds: Sequence[int],
) -> dict[tuple[str, str], jax.Array]:
    """Returns mean |x| by (label, kind), each [seeds, 1 + steps]."""
    training = TrainingSpec(optimizer=optimizer, schedule=ConstantSchedule(), num_steps=num_steps)
    model, learner = build(shape), make_learner(shape, training)

    def run(seed: jax.Array) -> dict[tuple[str, str], jax.Array]:
        hyper = make_hyper(training, 0, 0)._replace(seed=seed)

        def body(state: TrainState, _: None) -> tuple[TrainState, dict[tuple[str, str], jax.Array]]:
            outputs = _outputs(model, state.variables, batch, places)
            return learner.step(state, hyper, batch)[0], outputs

        _, outputs = jax.lax.scan(body, learner.init(seed), length=num_steps + 1)
        sizes = {place: _mean_size(x) for place, x in outputs.items()}
        return sizes | {(label, "update"): _mean_size(x - x[:1]) for (label, _), x in outputs.items()}

    return compile_lightly(lambda seeds: jax.lax.map(run, seeds), FAST_COMPILATION)(jnp.array(seeds, jnp.uint32))


def _mean_size(x: jax.Array) -> jax.Array:
    """Returns mean |x| of each step."""
    return jnp.abs(x).reshape(len(x), -1).mean(axis=-1)


def _outputs(model: Model, variables: Variables, batch: Batch, places: Sequence[Watch]) -> dict[tuple[str, str], Any]:
    """Returns the followed outputs by (label, kind), in training mode: batch norm has no statistics yet at t = 0."""
    taps: dict[str, jax.Array] = {}
    outputs, _ = model.apply(variables, batch.inputs, train=True, key=jax.random.key(0), taps=taps)
    tapped = {(place.label, place.kind): taps[place.path] for place in places if place.path in taps}
    return tapped | {("logits", "logits"): outputs.logits}


def watched_places(layer: Layer, dims: Dims, path: str = "", label: str = "", *, in_blocks: bool) -> Iterator[Watch]:
    """Yields the places to follow; some are inside layers that tell nothing of their insides.

    Of repeated blocks the outputs are followed, and with `in_blocks` what happens inside. Where the depth varies there
    is no saying which inner place of one network is that of another.
    """
    if isinstance(layer, TracedModule):
        yield from _watched_products(layer, dims)
        return
    is_repeated = isinstance(layer, Repeat)
    for part in layer.parts(dims):
        for name, name_in_label in _copies(part.name, part.copies, is_repeated):
            inside, labelled = f"{path}/{name}", f"{label}/{name_in_label}".removeprefix("/")
            if is_repeated or (isinstance(part.layer, WATCHED) and getattr(part.layer, "role", "hidden") != "output"):
                yield Watch(inside, labelled, "hidden")
            if is_repeated and not in_blocks:
                continue
            if isinstance(part.layer, Attention | Experts):
                yield from (Watch(f"{inside}/{score}", f"{labelled}/{score}", "scores") for score in SCORES)
            yield from watched_places(part.layer, part.dims, inside, labelled, in_blocks=in_blocks)


def _watched_products(layer: TracedModule, dims: Dims) -> Iterator[Watch]:
    """Yields the products with matrices of a user's network, but for its readouts."""
    for visit in walk(layer, dims, expand=True):
        for name, weight in visit.layer.weights(visit.dims).items():
            if weight.is_matmul and weight.role != "output":
                path = "/".join((*visit.path, name))
                yield Watch(f"/{path}", path, "hidden")


def _copies(name: str, copies: int, is_repeated: bool) -> list[tuple[str, str]]:
    """Returns (name, name in the label) of the copies to follow."""
    if not is_repeated:
        return [(name, name)]
    chosen = {"first": 0, "middle": (copies - 1) // 2, "last": copies - 1}
    return [(f"{name}_{number}", f"{name}_{which}") for which, number in chosen.items()]
