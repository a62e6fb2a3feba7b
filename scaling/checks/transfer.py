"""Learning-rate transfer: the training loss at each learning rate, for networks of growing width or depth.

Where the optimum stays, a learning rate tuned on a small network serves a large one (Yang et al. 2022, figure 1).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from scaling.checks.coordinates import Axis, resized
from scaling.learning.objectives import make_batch
from scaling.learning.step import TrainState, make_hyper, make_learner
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.specs.models import NetworkSpec
from scaling.specs.schedules import ConstantSchedule, ScheduleSpec
from scaling.specs.task import TaskShape
from scaling.specs.training import OptimizerSpec, TrainingSpec

# The last share of the steps whose batches the final loss is a mean of: one batch alone is noisy.
FINAL_SHARE = 0.1


def sweep_learning_rates(
    spec: NetworkSpec,
    task: TaskShape,
    axis: Axis,
    values: Sequence[int],
    learning_rates: Sequence[float],
    *,
    optimizer: OptimizerSpec,
    inputs: jax.Array,
    labels: jax.Array,
    num_steps: int,
    batch_size: int = 64,
    seeds: Sequence[int] = (0, 1),
    schedule: ScheduleSpec | None = None,
) -> list[dict[str, Any]]:
    """Returns the final training loss of every size, learning rate and seed: nats, not finite where it diverged.

    Columns: `parametrization axis value seed peak_lr loss`. The loss is the mean over the batches of the last tenth of
    the steps, each taken before the network has learnt from it.

    Args:
      spec: the network; its parametrisation is the one under test.
      task: what it must fit.
      axis: what grows, `width` or `depth`.
      values: to try; the first one is the base, where every parametrisation is the standard one.
      learning_rates: peaks to try, all in one program.
      optimizer: the rule; its own peak learning rate is not used.
      inputs: [n, …] examples, seen in order: step s takes those from s · batch_size on, and begins again at the end.
      labels: [n], theirs.
      num_steps: the number of steps of each run.
      batch_size: examples of each step.
      seeds: the seeds of initial values.
      schedule: the schedule of the learning rate; constant by default.
    """
    rows = []
    for value in values:
        shape = make_shape(resized(spec, axis, value, values[0]), task)
        losses = _final_losses(
            shape,
            optimizer,
            schedule or ConstantSchedule(),
            num_steps,
            batch_size,
            seeds,
            learning_rates,
            inputs,
            labels,
        )
        rows += [
            {
                "parametrization": spec.parametrization,
                "axis": axis,
                "value": value,
                "seed": seed,
                "peak_lr": lr,
                "loss": float(losses[row, column]),
            }
            for row, seed in enumerate(seeds)
            for column, lr in enumerate(learning_rates)
        ]
    return rows


def _final_losses(
    shape: Shape,
    optimizer: OptimizerSpec,
    schedule: ScheduleSpec,
    num_steps: int,
    batch_size: int,
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    inputs: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """Returns [seeds, learning rates]."""
    training = TrainingSpec(optimizer=optimizer, schedule=schedule, batch_size=batch_size, num_steps=num_steps)
    learner, num_final = make_learner(shape, training), max(1, round(FINAL_SHARE * num_steps))

    def run(seed: jax.Array, peak_lr: jax.Array) -> jax.Array:
        hyper = make_hyper(training, 0, 0)._replace(peak_lr=peak_lr, seed=seed)

        def body(state: TrainState, step: jax.Array) -> tuple[TrainState, jax.Array]:
            chosen = (step * batch_size + jnp.arange(batch_size)) % len(inputs)
            batch = make_batch(shape.task, inputs[chosen], labels[chosen], jax.random.fold_in(jax.random.key(1), step))
            return learner.step(state, hyper, batch)

        _, losses = jax.lax.scan(body, learner.init(seed), jnp.arange(num_steps))
        return losses[-num_final:].mean()

    over_rates = jax.vmap(run, in_axes=(None, 0))
    sweep = jax.jit(lambda seeds, rates: jax.lax.map(lambda seed: over_rates(seed, rates), seeds))
    return sweep(jnp.array(seeds, jnp.uint32), jnp.array(learning_rates, jnp.float32))
