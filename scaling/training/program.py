"""The compiled calls of a job: many steps each, for one cell or a population, on one device or a mesh.

Dims: P population, B batch, S steps of a chunk.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.data.feeding.augment import augment
from scaling.data.feeding.placement import DeviceData, Standard
from scaling.data.order.batches import batch_indices, batch_positions
from scaling.devices.ahead_of_time import abstract
from scaling.devices.hardware import device_memory
from scaling.devices.options import compile_lightly
from scaling.devices.sharding import (
    batch_sharding,
    check_division,
    gather_params,
    make_mesh,
    state_shardings,
)
from scaling.learning.metrics import Metric, Parts, measure
from scaling.learning.objectives import evaluation_sums, is_regression, keep_real, make_batch
from scaling.learning.optim import to_dtype
from scaling.learning.pretraining import check_pretraining, pretrain_layers
from scaling.learning.step import Hyper, TrainState, make_learner
from scaling.models.network import PyTree, Variables, build
from scaling.models.shape import Shape
from scaling.specs.data import AugmentationSpec
from scaling.specs.execution import DEFAULT, Execution, MeshSpec
from scaling.specs.sharing import program_training
from scaling.specs.training import TrainingSpec
from scaling.training.memory import check_memory

# The most steps in one call of `run`: as many losses have room in what it returns.
MAX_CHUNK = 512

# What the members of a population share, and what has a leading axis P.
_SHARED: Any = None
_OWN: Any = 0
STATE_AXES = TrainState(_SHARED, variables=_OWN, optimizer=_OWN, average=_OWN, monitor=_OWN, diverged_at=_OWN)


class Stacked(NamedTuple):
    """Which arrays of a population's data have a leading axis P: `order` and what is standard always have."""

    inputs: bool
    labels: bool

    @property
    def axes(self) -> Any:
        """The axes for `vmap`."""
        inputs, labels = (_OWN if has_axis else _SHARED for has_axis in self)
        return DeviceData(inputs, labels, _OWN, Standard(_OWN, _OWN, _OWN, _OWN))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where arrays live.

    Attributes:
      mesh: the devices; None for the default device alone.
    """

    mesh: Mesh | None

    def sharding(self, *axes: Any) -> NamedSharding | None:
        """Returns the sharding of an array by mesh axes, replicated over the others."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec(*axes))

    def put(self, array: Any) -> jax.Array:
        """Carries an array to every device."""
        return self._carry(array, self.sharding())

    def put_batches(self, array: np.ndarray) -> jax.Array:
        """Carries this host's part of batches [S, B / H, …] to the devices of its examples."""
        if self.mesh is None:
            return jax.device_put(array)
        return jax.make_array_from_process_local_data(batch_sharding(self.mesh, (None,)), array)

    def put_members(self, array: Any) -> jax.Array:
        """Carries an array [P, …] to the devices of its members."""
        return self._carry(array, self.sharding("population"))

    def _carry(self, array: Any, sharding: NamedSharding | None) -> jax.Array:
        if sharding is None or jax.process_count() == 1:
            return jax.device_put(array, sharding)
        whole = np.asarray(array)  # `device_put` would compare what the processes give
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)


@functools.cache
def make_layout(spec: MeshSpec) -> Layout:
    """Returns the layout of a mesh; a mesh of one device is none, so that nothing is partitioned."""
    alone = spec.num_devices == 1 and jax.process_count() == 1
    return Layout(None if alone else make_mesh(spec))


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """The compiled calls of all jobs with one model shape, optimiser, schedule, batch size and execution.

    With a population, states, seeds, `Hyper` and results have a leading axis P.

    Attributes:
      layout: where their arrays live.
      state_shardings: the state shardings of a TrainState; None without a mesh.
      init: seeds → TrainState.
      pretrain: (state, hyper, data) → state before the first step; None without pre-training.
      run: (state, hyper, data, number of steps, int32, up to MAX_CHUNK) → (state, losses); donates the state. The
        losses are [MAX_CHUNK], of which the first so many are of these steps, or [MAX_CHUNK, P].
      run_batches: (state, hyper, inputs [S, B, …], labels [S, B], standard, number of steps) → the same, of one cell.
      evaluate: (variables, standard, inputs, labels, is_real [B]) → ((summed loss, number right, number of
        predictions), what `measure` says of each metric by name), of the examples that are real and not padding.
      metrics: those that are measured beside the loss and what is right.
    """

    layout: Layout
    state_shardings: PyTree
    init: Callable[[jax.Array], TrainState]
    pretrain: Callable[[TrainState, Hyper, DeviceData], TrainState] | None
    run: Callable[..., tuple[TrainState, PyTree]]
    run_batches: Callable[..., tuple[TrainState, PyTree]]
    evaluate: Callable[..., tuple[tuple[jax.Array, jax.Array, jax.Array], dict[str, Parts]]]
    metrics: tuple[Metric, ...]

    def abstract_state(self, seeds: Any) -> TrainState:
        """Returns a state as shapes, dtypes and shardings, for seeds like these."""
        state: TrainState = jax.eval_shape(self.init, seeds)
        if self.state_shardings is None:
            return state
        described: TrainState = abstract(state, self.state_shardings)
        return described


def get_program(
    shape: Shape,
    training: TrainingSpec,
    augmentation: AugmentationSpec | None = None,
    execution: Execution = DEFAULT,
    stacked: Stacked | None = None,
    metrics: tuple[Metric, ...] = (),
) -> Program:
    """Returns the program of all cells with this shape, optimiser, schedule, batch size and augmentation.

    The compiled calls take the number of steps as a value: a run may stop anywhere without a new compilation.

    Args:
      shape: the shape of the network.
      training: of which peak learning rate, weight decay and length do not matter.
      augmentation: the augmentation of images.
      execution: how to run.
      stacked: the arrays that a population has stacked; None for one cell.
      metrics: to measure in evaluations, beside the loss and what is right.

    Raises:
      InputError: the batch or the network cannot be divided as the execution asks.
    """
    same = {"chunk_steps": None} | ({"population": 1} if stacked is None else {})
    same_execution = execution.model_copy(update=same)
    return _make_program(shape, program_training(training), augmentation, same_execution, stacked, metrics)


@functools.lru_cache(maxsize=32)
def _make_program(
    shape: Shape,
    training: TrainingSpec,
    augmentation: AugmentationSpec | None,
    execution: Execution,
    stacked: Stacked | None,
    metrics: tuple[Metric, ...],
) -> Program:
    layout = make_layout(execution.mesh)
    check_memory(shape, training, execution, device_memory())
    if layout.mesh is not None:
        check_division(shape, training.batch_size, execution)
    if training.pretraining is not None:
        check_pretraining(shape)
    task, batch_size = shape.task, training.batch_size
    learner, model = make_learner(shape, training, execution, layout.mesh), build(shape, execution)
    on_mesh = None if layout.mesh is None else batch_sharding(layout.mesh)
    gather = gather_params(layout.mesh, shape)

    def divide(x: jax.Array) -> jax.Array:
        """Returns examples divided among the devices."""
        return x if on_mesh is None else lax.with_sharding_constraint(x, on_mesh)

    def examples_at(step: jax.Array, hyper: Hyper, data: DeviceData) -> tuple[jax.Array, jax.Array]:
        chosen = data.order[divide(batch_indices(step, batch_size, hyper.size, hyper.seed))]  # [B]
        inputs = data.inputs[chosen]
        if augmentation is not None:
            positions = batch_positions(jnp, step, batch_size)
            images = inputs.reshape(batch_size, *task.dims)  # [B, H, W, C]
            inputs = augment(jnp, augmentation, images, positions, hyper.seed).reshape(inputs.shape)
        return prepare_inputs(inputs, data.standard), prepare_labels(data.labels[chosen], data.standard)

    def step_on(state: TrainState, hyper: Hyper, inputs: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array]:
        key = _objective_key(hyper.seed, state.step)
        return learner.step(state, hyper, make_batch(task, divide(inputs), divide(labels), key))

    def step(state: TrainState, hyper: Hyper, data: DeviceData) -> tuple[TrainState, jax.Array]:
        return step_on(state, hyper, *examples_at(state.step, hyper, data))

    def pretrain(state: TrainState, hyper: Hyper, data: DeviceData) -> TrainState:
        assert training.pretraining is not None  # noqa: S101  (below, it is None only where this is not called)
        params = pretrain_layers(
            shape,
            training.pretraining,
            state.variables["params"],
            lambda step: examples_at(step, hyper, data)[0],
            jax.random.fold_in(jax.random.key(hyper.seed), 2),
        )
        average = params if training.ema_decay else {}
        return state._replace(variables={**state.variables, "params": params}, average=average)

    def evaluate(
        variables: Variables, standard: Standard, inputs: jax.Array, labels: jax.Array, is_real: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], dict[str, Parts]]:
        # Every evaluation asks the same questions: the masks and orders of seed 0, step 0.
        seen, dtype = prepare_inputs(divide(inputs), standard), jnp.dtype(training.precision)
        batch = make_batch(task, seen, prepare_labels(labels, standard), _objective_key(0, 0))
        cast = {"params": gather(to_dtype(variables["params"], dtype)), "state": variables["state"]}
        outputs, _ = model.apply(cast, to_dtype(batch.inputs, dtype), train=False, key=None)
        counted = keep_real(batch, is_real)
        assert counted.weights is not None  # noqa: S101  (keep_real)
        predicted, targets = outputs.logits.astype(jnp.float32), counted.targets
        if is_regression(counted):  # in the labels' units
            predicted, targets = restore_labels(predicted.reshape(labels.shape), standard), labels
        return evaluation_sums(outputs, counted), measure(metrics, predicted, targets, counted.weights)

    init: Callable[..., Any] = learner.init
    if stacked is not None:
        init = jax.vmap(init, out_axes=STATE_AXES)
        step = jax.vmap(step, in_axes=(STATE_AXES, 0, stacked.axes), out_axes=(STATE_AXES, 0))
        pretrain = jax.vmap(pretrain, in_axes=(STATE_AXES, 0, stacked.axes), out_axes=STATE_AXES)
        evaluate = jax.vmap(evaluate, in_axes=(0, 0, None, None, None))

    states: PyTree = None
    if layout.mesh is not None:
        seeds = jax.ShapeDtypeStruct(() if stacked is None else (execution.population,), jnp.uint32)
        states = state_shardings(layout.mesh, jax.eval_shape(init, seeds), shape, population=stacked is not None)
    everywhere = layout.sharding()
    like_state: dict[str, PyTree] = {} if states is None else {"out_shardings": states}
    like_sums: dict[str, PyTree] = {} if states is None else {"out_shardings": everywhere}
    like_step: dict[str, PyTree] = {} if states is None else {"out_shardings": (states, everywhere)}

    def resident_step(state: TrainState, _: jax.Array, hyper: Hyper, data: DeviceData) -> tuple[TrainState, jax.Array]:
        return step(state, hyper, data)

    def streamed_step(
        state: TrainState, index: jax.Array, hyper: Hyper, inputs: jax.Array, labels: jax.Array, standard: Standard
    ) -> tuple[TrainState, jax.Array]:
        seen = prepare_inputs(inputs[index], standard), prepare_labels(labels[index], standard)
        return step_on(state, hyper, *seen)

    return Program(
        layout=layout,
        state_shardings=states,
        init=compile_lightly(init, **like_state),
        pretrain=None if training.pretraining is None else jax.jit(pretrain, donate_argnums=0, **like_state),
        run=_repeat(resident_step, execution.loop, like_step),
        run_batches=_repeat(streamed_step, execution.loop, like_step),
        evaluate=jax.jit(evaluate, **like_sums),
        metrics=metrics,
    )


def _repeat(step: Callable[..., Any], loop: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Returns (state, …, number of steps) → (state, losses) from (state, number of the step, …) → (state, loss)."""
    if loop == "step":
        once = jax.jit(step, donate_argnums=0, **options)

        def run_each(state: TrainState, *rest: PyTree) -> tuple[TrainState, PyTree]:
            losses = []
            for index in range(int(rest[-1])):
                state, loss = once(state, np.int32(index), *rest[:-1])
                losses.append(loss)
            return state, losses

        return run_each

    def run(state: TrainState, *rest: PyTree) -> tuple[TrainState, jax.Array]:
        def body(index: jax.Array, carried: PyTree) -> PyTree:
            state, losses = carried
            state, loss = step(state, index, *rest[:-1])
            return state, lax.dynamic_update_index_in_dim(losses, loss, index, 0)

        losses = jnp.zeros((MAX_CHUNK, *state.diverged_at.shape), jnp.float32)
        return lax.fori_loop(0, rest[-1], body, (state, losses))

    return jax.jit(run, donate_argnums=0, **options)


def prepare_inputs(inputs: jax.Array, standard: Standard) -> jax.Array:
    """Returns what the model sees: tokens as they are, numbers as float32 (inputs - shift) · scale."""
    if standard.shift.size == 0:
        return inputs
    return (inputs.astype(jnp.float32) - standard.shift[None]) * standard.scale[None]


def prepare_labels(labels: jax.Array, standard: Standard) -> jax.Array:
    """Returns what the model is to predict: classes as they are, numbers shifted and scaled."""
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        return labels
    shift, scale = _by_number(labels, standard)
    return (labels - shift) * scale


def restore_labels(numbers: jax.Array, standard: Standard) -> jax.Array:
    """Returns predicted numbers, [B] or [B, M], in the labels' own units."""
    shift, scale = _by_number(numbers, standard)
    return numbers / scale + shift


def _by_number(labels: jax.Array, standard: Standard) -> tuple[jax.Array, jax.Array]:
    """Returns the shift and scale of labels [B] or [B, M], as many dims as they have."""
    if labels.ndim == 1:
        return standard.label_shift, standard.label_scale
    return standard.label_shift[None], standard.label_scale[None]


def _objective_key(seed: jax.Array | int, step: jax.Array | int) -> jax.Array:
    """Returns the key of a step's masks and orders, apart from the key of its dropout."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1)
