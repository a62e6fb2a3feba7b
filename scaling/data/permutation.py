"""Keyed hashes and permutations that are the same on every platform, on host and device, and take no memory."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Multiplications by odd numbers and right shifts are invertible modulo a power of two; so many rounds of both leave
# no trace of the order that the frequencies in tests/scaling/data/test_permutation.py show; two rounds fail there.
ROUNDS = 8

Array = Any  # a NumPy or JAX array: the same code serves the host and the device


def shuffled(size: int, seed: int) -> np.ndarray:
    """Returns a permutation of 0 … size - 1 that is the same on every platform and NumPy, [size] int64.

    It sorts the raw output of the Philox counter generator (Salmon et al. 2011), which is fixed by its definition,
    while the streams of `Generator.permutation` may change between NumPy releases. Takes memory: see `permute`.

    >>> shuffled(5, seed=0).tolist()
    [0, 2, 1, 4, 3]
    """
    return np.argsort(np.random.Philox(key=seed).random_raw(size), kind="stable")


@np.errstate(over="ignore")
def permute(xp: ModuleType, positions: Array, size: Array, key: Array) -> Array:
    """Returns the images of positions under a keyed bijection of 0 … size - 1, uint32 of the positions' shape.

    A hash that is invertible on the next power of two, walked along its cycle until it lands inside (Black and Rogaway,
    "Ciphers with arbitrary finite domains", 2002). Needs no memory, so it serves any size below 2**31.

    Args:
      xp: numpy or jax.numpy.
      positions: uint32 below `size`.
      size: scalar uint32.
      key: uint32, scalar or one for each position.
    """
    mask = size - xp.uint32(1)
    for shift in (1, 2, 4, 8, 16):
        mask = mask | (mask >> xp.uint32(shift))
    bits = xp.bitwise_count(mask).astype(xp.uint32)
    half = xp.maximum((bits + xp.uint32(1)) // xp.uint32(2), xp.uint32(1))
    # All words at once: written out round by round they were a third of what there is to compile of a small network.
    numbers = xp.arange(2 * ROUNDS, dtype=xp.uint32).reshape(ROUNDS, 2, *[1] * xp.ndim(key))
    words = mix(xp, xp.asarray(key, xp.uint32)[None, None], numbers)  # [ROUNDS, 2, …]

    turn = _compiled_turn if xp is jnp else _turn

    def scramble(x: Array) -> Array:
        for factor, summand in words:
            x = turn(x, factor, summand, mask, half)
        return x

    def walk(x: Array) -> Array:
        return xp.where(x < size, x, scramble(x))

    images = scramble(positions)
    if xp is jnp:
        return lax.while_loop(lambda x: jnp.any(x >= size), walk, images)
    while (images >= size).any():
        images = walk(images)
    return images


def _turn(x: Array, factor: Array, summand: Array, mask: Array, half: Array) -> Array:
    x = (x * (factor | np.uint32(1)) + summand) & mask
    return x ^ (x >> half)


_compiled_turn = jax.jit(_turn)  # is traced once, and not once a round


@np.errstate(over="ignore")
def mix(xp: ModuleType, key: Array, value: Array) -> Array:
    """Returns a hash of two uint32 (the finaliser of MurmurHash3, Appleby 2011), of their broadcast shape."""
    x = xp.asarray(key, xp.uint32) ^ (xp.asarray(value, xp.uint32) * xp.uint32(0x9E3779B9) + xp.uint32(0x7F4A7C15))
    x = (x ^ (x >> xp.uint32(16))) * xp.uint32(0x85EBCA6B)
    x = (x ^ (x >> xp.uint32(13))) * xp.uint32(0xC2B2AE35)
    return x ^ (x >> xp.uint32(16))
