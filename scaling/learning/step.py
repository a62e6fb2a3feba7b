"""One optimiser step of one network as a pure function, and all that a run carries from step to step.

Dims: B batch, K parts of a batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh

from scaling.devices.sharding import gather_params
from scaling.learning.objectives import Batch, training_loss
from scaling.learning.optim import apply_update, make_direction, to_dtype
from scaling.models.layers.core import walk
from scaling.models.layers.sequence import Experts
from scaling.models.network import PyTree, Variables, abstract_variables, build
from scaling.models.parametrization import epsilon_factor, update_trees
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.schedules import MIDDLE_OF_STEP, Horizon, ScheduleSpec
from scaling.specs.training import TrainingSpec

# Raise when a step computes something else than before: checkpoints of other versions are not continued.
TRAINING_VERSION = 1

# A loss spikes where it lies above its moving mean by so many mean deviations; the means remember so many steps.
SPIKE_DEVIATIONS, MEMORY_STEPS = 6.0, 100


Value = Any  # a scalar of NumPy's, or of JAX's where it is on a device or traced


class Monitor(NamedTuple):
    """What a run watches besides its loss.

    Attributes:
      level, deviation: moving mean of the loss, and of its distance from that, float32.
      spikes: steps whose loss lay far above, int32.
      noise, signal: moving means of the trace of the gradients' covariance over B, and of the squared norm of the true
        gradient, both estimated without bias from parts of batches (McCandlish et al. 2018, appendix A); float32, 0
        without parts.
    """

    level: jax.Array
    deviation: jax.Array
    spikes: jax.Array
    noise: jax.Array
    signal: jax.Array


class TrainState(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      step: steps done, int32; the members of a population share it.
      variables: the variables of the model.
      optimizer: state of the optimiser.
      average: moving average of the parameters; empty without one.
      monitor: what is watched.
      diverged_at: the first step whose loss was not finite, int32; -1 while there is none.
    """

    step: jax.Array
    variables: Variables
    optimizer: PyTree
    average: PyTree
    monitor: Monitor
    diverged_at: jax.Array


class Hyper(NamedTuple):
    """What may differ between cells that share a program: array values, never constants of the compiled code.

    Attributes:
      peak_lr, weight_decay: float32.
      horizon: the horizon of the run.
      size: m, uint32.
      seed: the seed of initial values, batch order and dropout, uint32.
    """

    peak_lr: Value
    weight_decay: Value
    horizon: Horizon
    size: Value
    seed: Value


def horizon_of(schedule: ScheduleSpec, num_steps: int) -> Horizon:
    """Returns the horizon of a run as values of the host, int32."""
    return Horizon(*map(np.int32, schedule.horizon(num_steps)))


def make_hyper(training: TrainingSpec, size: int, seed: int) -> Hyper:
    """Returns the values of one cell: its training's, m and its seed; they are on the host still."""
    return Hyper(
        peak_lr=np.float32(training.optimizer.peak_lr),
        weight_decay=np.float32(training.optimizer.weight_decay),
        horizon=horizon_of(training.schedule, training.num_steps),
        size=np.uint32(size),
        seed=np.uint32(seed),
    )


class Learner(NamedTuple):
    """A network with its rule of learning, as two pure functions.

    Attributes:
      init: seed → TrainState.
      step: (state, hyper, batch) → (state after one optimiser step, loss before it).
    """

    init: Callable[[jax.Array], TrainState]
    step: Callable[[TrainState, Hyper, Batch], tuple[TrainState, jax.Array]]


def make_learner(
    shape: Shape, training: TrainingSpec, execution: Execution = DEFAULT, mesh: Mesh | None = None
) -> Learner:
    """Returns the learner of a shape; peak learning rate, weight decay and length of the run are left to `Hyper`.

    Args:
      shape: the shape of the network.
      training: how it is trained.
      execution: how it is run.
      mesh: the devices that parameters are divided among, if they are.

    Raises:
      InputError: the network cannot learn from parts of batches, or its objective has no log Z.
    """
    check_learner(shape, training, execution)
    model = build(shape, execution)
    factors = update_trees(shape, training.optimizer.update)
    direction = make_direction(training.optimizer, factors.roles, epsilon_factor(shape), training.moments)
    clip = optax.identity() if training.clip_norm is None else optax.clip_by_global_norm(training.clip_norm)
    dtype = jnp.dtype(training.precision)
    gather = gather_params(mesh, shape)
    num_groups = training.noise_scale_parts or 1
    parts_in_group = max(1, execution.micro_batches // num_groups)

    def init(seed: jax.Array) -> TrainState:
        variables = model.init(jax.random.key(seed))
        zero = jnp.float32(0.0)
        return TrainState(
            step=jnp.int32(0),
            variables=variables,
            optimizer=direction.init(variables["params"]),
            average=variables["params"] if training.ema_decay else {},
            monitor=Monitor(zero, zero, jnp.int32(0), zero, zero),
            diverged_at=jnp.int32(-1),
        )

    def part_gradient(variables: Variables, part: Batch, key: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
        """Returns loss, model state and gradients."""

        def part_loss(params: PyTree) -> tuple[jax.Array, PyTree]:
            cast = {"params": gather(to_dtype(params, dtype)), "state": variables["state"]}
            outputs, state = model.apply(cast, to_dtype(part.inputs, dtype), train=True, key=key)
            return training_loss(outputs, part, training.z_loss, execution.cross_entropy), state

        (loss, state), gradients = jax.value_and_grad(part_loss, has_aux=True)(variables["params"])
        return loss, state, gradients

    def group_gradient(variables: Variables, group: Batch, key: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
        """Returns loss, model state and gradients of a group of parts, which pass one after another."""
        if parts_in_group == 1:
            return part_gradient(variables, group, key)
        return _sum_parts(part_gradient, variables, split_batch(group, parts_in_group), key)[:3]

    def step(state: TrainState, hyper: Hyper, batch: Batch) -> tuple[TrainState, jax.Array]:
        key = jax.random.fold_in(jax.random.key(hyper.seed), state.step)
        noise = signal = jnp.float32(0.0)
        if num_groups == 1:
            loss, model_state, gradients = group_gradient(state.variables, batch, key)
        else:
            groups = split_batch(batch, num_groups)
            loss, model_state, gradients, small = _sum_parts(group_gradient, state.variables, groups, key)
            noise, signal = noise_scale_terms(small, _square(gradients), num_groups)
        gradients, _ = clip.update(gradients, optax.EmptyState())
        before = state.variables["params"]
        update, optimizer = direction.update(gradients, state.optimizer, before)
        lr = hyper.peak_lr * training.schedule.factor(state.step + MIDDLE_OF_STEP, hyper.horizon)
        params = apply_update(before, update, lr, hyper.weight_decay, factors.lr, factors.weight_decay)
        average = _follow(state.average, params, state.step, training.ema_decay) if training.ema_decay else {}
        first_bad = (state.diverged_at < 0) & ~jnp.isfinite(loss)
        later = TrainState(
            step=state.step + 1,
            variables={"params": params, "state": model_state},
            optimizer=optimizer,
            average=average,
            monitor=_watch(state.monitor, loss, state.step, noise, signal),
            diverged_at=jnp.where(first_bad, state.step + 1, state.diverged_at),
        )
        return later, loss

    return Learner(init, step)


def split_batch(batch: Batch, num_parts: int) -> Batch:
    """Returns a batch whose arrays are [K, B / K, …]; part k holds the examples k, k + K, k + 2K and so on.

    So each of several devices, which hold consecutive examples, has its equal share of every part.
    """

    def split(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(x.shape[0] // num_parts, num_parts, *x.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)


def noise_scale_terms(small: jax.Array, large: jax.Array, num_parts: int) -> tuple[jax.Array, jax.Array]:
    """Returns unbiased estimates of the trace of the gradients' covariance over B, and of the true gradient's square.

    Their ratio is the simple noise scale over B: the batch size, in batches, at which noise and signal are equal.
    McCandlish et al. 2018, equations A.2 and A.3, with B_big = B and B_small = B / K.

    Args:
      small: mean squared norm of the gradients of the parts.
      large: squared norm of the gradient of the whole.
      num_parts: K.
    """
    return (small - large) / (num_parts - 1), (num_parts * large - small) / (num_parts - 1)


def check_learner(shape: Shape, training: TrainingSpec, execution: Execution = DEFAULT) -> None:
    """Checks that a network can learn as it is told to.

    Raises:
      InputError: names the field, and what stands against it.
    """
    parts, micro = training.noise_scale_parts, execution.micro_batches
    if training.batch_size % micro:
        raise InputError(
            f"execution.micro_batches={micro} does not divide training.batch_size={training.batch_size}; "
            "choose a divisor"
        )
    if parts is not None and micro > 1 and micro % parts:
        raise InputError(
            f"execution.micro_batches={micro} are no multiple of training.noise_scale_parts={parts}; choose a multiple"
        )
    if parts is not None or micro > 1:
        field = f"execution.micro_batches={micro}" if micro > 1 else f"training.noise_scale_parts={parts}"
        if abstract_variables(shape)["state"]:
            raise InputError(f"{field}: batch norm takes its statistics over whole batches; leave it out, or use layer")
        if any(isinstance(visit.layer, Experts) for visit in walk(make_layers(shape), shape.task.dims)):
            raise InputError(f"{field}: routed experts balance their load over whole batches; leave it out")
    if training.z_loss and shape.task.objective == "regress":
        raise InputError(f"training.z_loss={training.z_loss}: a predicted number has no log Z; leave it out")


def _shares(parts: Batch) -> jax.Array:
    """Returns which share of the whole's predictions each part has, [K]."""
    num_parts = len(parts.targets)
    if parts.weights is None:
        return jnp.full(num_parts, 1.0 / num_parts, jnp.float32)
    counted = parts.weights.reshape(num_parts, -1).sum(axis=-1)
    return counted / jnp.maximum(counted.sum(), 1.0)


def _sum_parts(
    gradient: Callable[..., tuple[PyTree, PyTree, PyTree]], variables: Variables, parts: Batch, key: jax.Array
) -> tuple[PyTree, PyTree, PyTree, jax.Array]:
    """Returns loss, model state and gradients of a whole from its parts [K, …], and the parts' mean squared norm."""
    num_parts = len(parts.targets)

    def add(total: PyTree, numbered: PyTree) -> tuple[PyTree, None]:
        number, share, part = numbered
        loss, _, gradients = gradient(variables, part, jax.random.fold_in(key, number))
        weighted = jax.tree.map(lambda x: share * x, (loss, gradients))
        return jax.tree.map(jnp.add, total, (*weighted, _square(gradients) / num_parts)), None

    start = (jnp.float32(0.0), jax.tree.map(jnp.zeros_like, variables["params"]), jnp.float32(0.0))
    (loss, gradients, square), _ = lax.scan(add, start, (jnp.arange(num_parts), _shares(parts), parts))
    return loss, variables["state"], gradients, square


def _square(tree: PyTree) -> jax.Array:
    """Returns the squared norm of all arrays together."""
    return optax.tree.norm(tree, squared=True)


def _follow(average: PyTree, params: PyTree, step: jax.Array, decay: float) -> PyTree:
    """Returns the moving average after a step; early on it forgets faster, so that it does not remember the start."""
    share_kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda mean, x: share_kept * mean + (1.0 - share_kept) * x, average, params)


def _watch(monitor: Monitor, loss: jax.Array, step: jax.Array, noise: jax.Array, signal: jax.Array) -> Monitor:
    """Returns the monitor after a step; a spike's loss enters the moving means no higher than the bar it went over."""
    bar = monitor.level + SPIKE_DEVIATIONS * monitor.deviation
    is_spike = (step >= MEMORY_STEPS) & (loss > bar)
    loss_seen = jnp.where(is_spike, bar, loss)
    share = jnp.maximum(1.0 / MEMORY_STEPS, 1.0 / (step + 1.0))
    return Monitor(
        level=monitor.level + share * (loss_seen - monitor.level),
        deviation=monitor.deviation + share * (jnp.abs(loss_seen - monitor.level) - monitor.deviation),
        spikes=monitor.spikes + is_spike,
        noise=monitor.noise + share * (noise - monitor.noise),
        signal=monitor.signal + share * (signal - monitor.signal),
    )
