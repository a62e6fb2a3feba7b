"""The shapes of learning rates over a run, as functions of a step's time and of array values of its length."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scaling.specs.training import (
    ConstantSchedule,
    CosineSchedule,
    InverseSqrtSchedule,
    LinearSchedule,
    ScheduleSpec,
    WSDSchedule,
)


class Horizon(NamedTuple):
    """How long a run is, as array values, so that runs of every length share a program.

    Attributes:
      num_steps: of the run, int32.
      stable_steps: before its decay begins, int32; only warm-up–stable–decay reads it.
    """

    num_steps: jax.Array
    stable_steps: jax.Array


def horizon_of(spec: ScheduleSpec, num_steps: int) -> Horizon:
    """Returns the horizon of a run."""
    stable = spec.decay_start(num_steps) if isinstance(spec, WSDSchedule) else num_steps
    return Horizon(jnp.int32(num_steps), jnp.int32(stable))


def make_schedule(spec: ScheduleSpec) -> Callable[[jax.Array, Horizon], jax.Array]:
    """Returns the factor on the peak learning rate as a function of time, in steps, and of a run's horizon.

    Time is of the middle of a step, step + ½: the first step already moves, and the last is not wasted.
    """

    def rise(done: jax.Array, whole: float) -> jax.Array:
        return jnp.minimum(1.0, done / whole) if whole else jnp.ones_like(done)

    def descend(left: jax.Array, final_fraction: float) -> jax.Array:
        return final_fraction + (1.0 - final_fraction) * left

    def factor(time: jax.Array, horizon: Horizon) -> jax.Array:
        progress = time / horizon.num_steps
        match spec:
            case ConstantSchedule():
                return rise(progress, spec.warmup_fraction)
            case CosineSchedule() | LinearSchedule():
                warmup = spec.warmup_fraction
                done = jnp.clip((progress - warmup) / (1.0 - warmup), 0.0, 1.0) if warmup < 1.0 else progress
                left = 0.5 * (1.0 + jnp.cos(jnp.pi * done)) if isinstance(spec, CosineSchedule) else 1.0 - done
                return rise(progress, warmup) * descend(left, spec.final_fraction)
            case InverseSqrtSchedule():
                return jnp.minimum(time / spec.warmup_steps, jnp.sqrt(spec.warmup_steps / time))
            case WSDSchedule():
                decay_steps = horizon.num_steps - horizon.stable_steps
                done = jnp.clip((time - horizon.stable_steps) / decay_steps, 0.0, 1.0)
                left = 1.0 - (jnp.sqrt(done) if spec.decay == "one_minus_sqrt" else done)
                return rise(time, spec.warmup_steps) * descend(left, spec.final_fraction)

    return factor
