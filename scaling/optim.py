"""Optimisers and learning-rate schedules; the peak learning rate and the weight decay stay outside, as array values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from scaling.cell import ConstantSchedule, CosineSchedule, OptimizerSpec, ScheduleSpec, SGDSpec


def make_direction(spec: OptimizerSpec) -> optax.GradientTransformation:
    """Returns the transformation from gradients to the direction that one unit of learning rate subtracts."""
    if isinstance(spec, SGDSpec):
        return optax.trace(decay=spec.momentum) if spec.momentum else optax.identity()
    return optax.scale_by_adam(b1=spec.b1, b2=spec.b2, eps=spec.eps)


def make_schedule(spec: ScheduleSpec) -> Callable[[jax.Array], jax.Array]:
    """Returns the factor on the peak learning rate as a function of progress through the run, 0 to 1."""

    def factor(progress: jax.Array) -> jax.Array:
        warmup = spec.warmup_fraction
        rising = jnp.minimum(1.0, progress / warmup) if warmup else jnp.ones_like(progress)
        match spec:
            case CosineSchedule():
                done = jnp.clip((progress - warmup) / (1.0 - warmup), 0.0, 1.0) if warmup < 1.0 else progress
                cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
                return rising * (spec.final_fraction + (1.0 - spec.final_fraction) * cosine)
            case ConstantSchedule():
                return rising

    return factor


def apply_update(params: object, direction: object, lr: jax.Array, weight_decay: jax.Array) -> object:
    """Returns params - lr · (direction + weight_decay · params); biases and gains (rank below 2) do not decay."""

    def update(p: jax.Array, d: jax.Array) -> jax.Array:
        return p - lr * (d + weight_decay * p) if p.ndim > 1 else p - lr * d

    return jax.tree.map(update, params, direction)
