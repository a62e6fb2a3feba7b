"""The train step and the loop of one run: many steps a call, compiled once for cells that differ in values only."""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from scaling.cell import LayerwiseSpec, OptimizerSpec, ScheduleSpec, TrainingSpec
from scaling.data.augment import augment
from scaling.data.batches import batch_indices, batch_positions
from scaling.data.placement import DeviceData, StreamedData
from scaling.data.specs import AugmentationSpec
from scaling.models import Shape
from scaling.models.network import Model, Variables, build, compile_init
from scaling.objectives import Batch, evaluation_sums, keep_real, make_batch, training_loss
from scaling.optim import Horizon, apply_update, horizon_of, make_direction, make_schedule
from scaling.parametrization import UpdateTrees, epsilon_factor, update_trees
from scaling.pretraining import check_pretraining, pretrain_layers
from scaling.spec import InputError

# Chunks of a stream that the device has been given and has not finished: one that runs and one that follows it.
CHUNKS_RUNNING = 2


class TrainState(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      step: steps done, int32.
      variables: of the model.
      optimizer: state of the optimiser.
      diverged_at: the first step whose loss was not finite, int32; -1 while there is none.
    """

    step: jax.Array
    variables: Variables
    optimizer: Any
    diverged_at: jax.Array


class Hyper(NamedTuple):
    """What may differ between cells that share a program: array values, never constants of the compiled code.

    Attributes:
      peak_lr, weight_decay: float32.
      horizon: of the run.
      size: m, uint32.
      seed: of the batch order, uint32.
    """

    peak_lr: jax.Array
    weight_decay: jax.Array
    horizon: Horizon
    size: jax.Array
    seed: jax.Array


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of all cells with one model shape, optimiser, schedule and batch size.

    Attributes:
      init: seed → TrainState.
      pretrain: (state, hyper, data) → state before the first step; None without pre-training.
      run: (state, hyper, data, stop) → state after step `stop`; donates the state.
      run_chunk: (state, hyper, inputs [S, B, …], labels [S, B], shift, scale, number of steps) → (state, step); donates
        the state.
      evaluate: (variables, inputs, labels, is_real [B], shift, scale) → (summed loss, number right, number of
        predictions), of the examples that are real and not padding.
    """

    init: Callable[[jax.Array], TrainState]
    pretrain: Callable[[TrainState, Hyper, DeviceData], TrainState] | None
    run: Callable[[TrainState, Hyper, DeviceData, jax.Array], TrainState]
    run_chunk: Callable[..., tuple[TrainState, jax.Array]]
    evaluate: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


def prepare_inputs(inputs: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns what the model sees: tokens as they are, numbers as float32 (inputs - shift) · scale."""
    return inputs if shift.size == 0 else (inputs.astype(jnp.float32) - shift[None]) * scale[None]


def train_step(
    model: Model,
    direction: optax.GradientTransformation,
    factors: UpdateTrees,
    schedule: Callable[[jax.Array, Horizon], jax.Array],
    state: TrainState,
    hyper: Hyper,
    batch: Batch,
) -> TrainState:
    """Returns the state after one optimiser step; a pure function."""

    def batch_loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "state": state.variables["state"]}
        key = jax.random.fold_in(jax.random.key(hyper.seed), state.step)
        outputs, model_state = model.apply(variables, batch.inputs, train=True, key=key)
        return training_loss(outputs, batch), model_state

    (loss, model_state), gradients = jax.value_and_grad(batch_loss, has_aux=True)(state.variables["params"])
    update, optimizer = direction.update(gradients, state.optimizer, state.variables["params"])
    lr = hyper.peak_lr * schedule(state.step + 0.5, hyper.horizon)
    params = apply_update(state.variables["params"], update, lr, hyper.weight_decay, factors.lr, factors.weight_decay)
    first_bad = (state.diverged_at < 0) & ~jnp.isfinite(loss)
    return TrainState(
        step=state.step + 1,
        variables={"params": params, "state": model_state},
        optimizer=optimizer,
        diverged_at=jnp.where(first_bad, state.step + 1, state.diverged_at),
    )


def get_program(shape: Shape, training: TrainingSpec, augmentation: AugmentationSpec | None = None) -> Program:
    """Returns the program of all cells with this shape, optimiser, schedule, batch size and augmentation.

    The compiled calls take the last step as a value: a run may stop anywhere to be evaluated without a new compilation.
    """
    values_aside = training.optimizer.model_copy(update={"peak_lr": 1.0, "weight_decay": 0.0})
    return _make_program(
        shape, values_aside, training.schedule, training.batch_size, training.pretraining, augmentation
    )


@functools.lru_cache(maxsize=32)
def _make_program(
    shape: Shape,
    optimizer: OptimizerSpec,
    schedule: ScheduleSpec,
    batch_size: int,
    pretraining: LayerwiseSpec | None,
    augmentation: AugmentationSpec | None,
) -> Program:
    model, task = build(shape), shape.task
    factors = update_trees(shape, optimizer.kind)
    direction = make_direction(optimizer, factors.roles, epsilon_factor(shape))
    factor = make_schedule(schedule)

    def init(seed: jax.Array) -> TrainState:
        variables = model.init(jax.random.key(seed))
        return TrainState(jnp.int32(0), variables, direction.init(variables["params"]), jnp.int32(-1))

    def examples_at(step: jax.Array, hyper: Hyper, data: DeviceData) -> tuple[jax.Array, jax.Array]:
        chosen = data.order[batch_indices(step, batch_size, hyper.size, hyper.seed)]  # [B]
        inputs = data.inputs[chosen]
        if augmentation is not None:
            positions = batch_positions(jnp, step, batch_size)
            images = inputs.reshape(batch_size, *task.dims)  # [B, H, W, C]
            inputs = augment(jnp, augmentation, images, positions, hyper.seed).reshape(inputs.shape)
        return prepare_inputs(inputs, data.shift, data.scale), data.labels[chosen]

    def step_on(state: TrainState, hyper: Hyper, inputs: jax.Array, labels: jax.Array) -> TrainState:
        batch = make_batch(task, inputs, labels, _objective_key(hyper.seed, state.step))
        return train_step(model, direction, factors, factor, state, hyper, batch)

    def pretrain(state: TrainState, hyper: Hyper, data: DeviceData) -> TrainState:
        assert pretraining is not None  # noqa: S101  (below, it is None only where this is not called)
        params = pretrain_layers(
            shape,
            pretraining,
            state.variables["params"],
            lambda step: examples_at(step, hyper, data)[0],
            jax.random.fold_in(jax.random.key(hyper.seed), 2),
        )
        return state._replace(variables={**state.variables, "params": params})

    def run(state: TrainState, hyper: Hyper, data: DeviceData, stop: jax.Array) -> TrainState:
        def body(_: Any, state: TrainState) -> TrainState:
            return step_on(state, hyper, *examples_at(state.step, hyper, data))

        return lax.fori_loop(state.step, stop, body, state)

    def run_chunk(
        state: TrainState,
        hyper: Hyper,
        inputs: jax.Array,
        labels: jax.Array,
        shift: jax.Array,
        scale: jax.Array,
        num_steps: jax.Array,
    ) -> tuple[TrainState, jax.Array]:
        def body(index: jax.Array, state: TrainState) -> TrainState:
            return step_on(state, hyper, prepare_inputs(inputs[index], shift, scale), labels[index])

        state = lax.fori_loop(0, num_steps, body, state)
        return state, state.step + 0  # a copy that outlives the donated state: ready when the chunk is done

    def evaluate(
        variables: Variables,
        inputs: jax.Array,
        labels: jax.Array,
        is_real: jax.Array,
        shift: jax.Array,
        scale: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        # Every evaluation asks the same questions: the masks and orders of seed 0, step 0.
        batch = make_batch(task, prepare_inputs(inputs, shift, scale), labels, _objective_key(0, 0))
        outputs, _ = model.apply(variables, batch.inputs, train=False, key=None)
        return evaluation_sums(outputs, keep_real(batch, is_real))

    if pretraining is not None:
        check_pretraining(shape)
    first = jax.jit(pretrain, donate_argnums=0) if pretraining is not None else None
    return Program(
        compile_init(init),
        first,
        jax.jit(run, donate_argnums=0),
        jax.jit(run_chunk, donate_argnums=0),
        jax.jit(evaluate),
    )


def _objective_key(seed: jax.Array | int, step: jax.Array | int) -> jax.Array:
    """Returns the key of a step's masks and orders, apart from the key of its dropout."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1)


def evaluation_steps(num_steps: int, num_evaluations: int) -> list[int]:
    """Returns the steps after which a run is evaluated: each twice the one before, the last at the end.

    >>> evaluation_steps(1000, 4)
    [125, 250, 500, 1000]
    """
    return sorted({max(1, round(num_steps / 2**halvings)) for halvings in range(num_evaluations)})


def run_steps(
    program: Program, training: TrainingSpec, size: int, seed: int, data: DeviceData | StreamedData
) -> Iterator[tuple[int, Variables, bool]]:
    """Yields (steps done, variables, whether the loss is finite) at each evaluation point; stops at divergence.

    Raises:
      InputError: there is pre-training, and the data is streamed.
    """
    hyper = Hyper(
        peak_lr=jnp.float32(training.optimizer.peak_lr),
        weight_decay=jnp.float32(training.optimizer.weight_decay),
        horizon=horizon_of(training.schedule, training.num_steps),
        size=jnp.uint32(size),
        seed=jnp.uint32(seed),
    )
    if program.pretrain is not None and isinstance(data, StreamedData):
        raise InputError(
            f"training.pretraining reads its examples on the device, where data.size={size} of them do not fit; choose "
            "fewer, or leave training.pretraining out"
        )
    state = program.init(jnp.uint32(seed))
    stops = evaluation_steps(training.num_steps, training.num_evaluations)
    states = (
        _run_resident(program, state, hyper, data, stops)
        if isinstance(data, DeviceData)
        else _run_streamed(program, state, hyper, data, stops)
    )
    for stop, at_stop in zip(stops, states, strict=True):
        diverged_at = int(at_stop.diverged_at)
        if diverged_at >= 0:
            yield diverged_at, at_stop.variables, False
            return
        yield stop, at_stop.variables, True


def _run_resident(
    program: Program, state: TrainState, hyper: Hyper, data: DeviceData, stops: Sequence[int]
) -> Iterator[TrainState]:
    """Yields the state at each stop."""
    if program.pretrain is not None:
        state = program.pretrain(state, hyper, data)
    for stop in stops:
        state = program.run(state, hyper, data, jnp.int32(stop))
        yield state


def _run_streamed(
    program: Program, state: TrainState, hyper: Hyper, data: StreamedData, stops: Sequence[int]
) -> Iterator[TrainState]:
    """Yields the state at each stop. While the device works on a chunk, the next ones are read and carried to it."""
    chunks, done = data.chunks(stops), 0
    running: collections.deque[Any] = collections.deque()
    for stop in stops:
        while done < stop:
            asked = time.monotonic()
            chunk = next(chunks)
            if all(step.is_ready() for step in running):
                data.waiting_seconds += time.monotonic() - asked
            num_steps = len(chunk["labels"])
            carried = jax.device_put([_pad_steps(chunk[name], data.chunk_steps) for name in ("inputs", "labels")])
            if len(running) == CHUNKS_RUNNING:
                running.popleft().block_until_ready()
            state, step = program.run_chunk(state, hyper, *carried, data.shift, data.scale, jnp.int32(num_steps))
            running.append(step)
            done += num_steps
        yield state


def _pad_steps(array: np.ndarray, num_steps: int) -> np.ndarray:
    """Returns an array [S, …] with as many steps as every chunk has, so that one compilation serves all."""
    if len(array) == num_steps:
        return array
    padded = np.zeros((num_steps, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
