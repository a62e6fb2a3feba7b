"""The examples of step s, as a pure function of (seed, s): each epoch is a keyed permutation that takes no memory."""

from types import ModuleType

import jax.numpy as jnp
import numpy as np

from scaling.data.permutation import Array, mix, permute


@np.errstate(over="ignore")  # uint32 arithmetic is meant to wrap around
def batch_indices(step: Array, batch_size: int, size: Array, seed: Array) -> Array:
    """Returns which examples of a subset make the batch of a step, [batch_size] uint32 below `size`.

    Positions run on through the epochs: batch s holds positions s·B … s·B + B - 1, and position p is example
    `permutation(seed, p // m)[p % m]`. So every batch is full, every example is seen once an epoch, and a batch larger
    than m holds several epochs. Every argument but `batch_size` may be traced; positions must stay below 2**32.

    Args:
      step: scalar, from 0.
      batch_size: B.
      size: m, scalar.
      seed: scalar.
    """
    xp: ModuleType = np if all(isinstance(x, (int, np.generic, np.ndarray)) for x in (step, size, seed)) else jnp
    return indices_at(xp, batch_positions(xp, step, batch_size), size, seed)


@np.errstate(over="ignore")
def batch_positions(xp: ModuleType, step: Array, batch_size: int) -> Array:
    """Returns where in the whole run the examples of a step's batch stand, [batch_size] uint32."""
    return xp.asarray(step, xp.uint32) * xp.uint32(batch_size) + xp.arange(batch_size, dtype=xp.uint32)


def indices_at(xp: ModuleType, positions: Array, size: Array, seed: Array) -> Array:
    """Returns which examples of a subset, uint32 below `size`, are at positions of a run that goes on through epochs.

    Args:
      xp: numpy or jax.numpy.
      positions: uint32 of any shape, below 2**32.
      size: m, scalar.
      seed: scalar.
    """
    size = xp.asarray(size, xp.uint32)
    return permute(xp, positions % size, size, mix(xp, xp.asarray(seed, xp.uint32), positions // size))
