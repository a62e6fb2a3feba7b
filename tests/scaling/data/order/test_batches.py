"""Batches: every example once an epoch, whatever the sizes, and the same on host and device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data.order.batches import batch_indices

on_device = jax.jit(batch_indices, static_argnums=1)


def positions(num_batches: int, batch_size: int, size: int, seed: int) -> np.ndarray:
    return np.concatenate([batch_indices(step, batch_size, size, seed) for step in range(num_batches)])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 128, 129, 1000])
@pytest.mark.parametrize("batch_size", [1, 8, 128])
def test_every_example_is_seen_once_an_epoch_and_batches_run_on(size, batch_size):
    seen = positions(3 * size // batch_size + 2, batch_size, size, seed=5)
    for epoch in range(3):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


@pytest.mark.parametrize("size", [1, 5, 100, 51_200, 2**31 - 1])
def test_host_and_device_agree(size):
    for step in (0, 1, 1000):
        host = batch_indices(step, 64, size, 3)
        device = on_device(jnp.int32(step), 64, jnp.uint32(size), jnp.uint32(3))
        assert host.tolist() == device.tolist()


def test_one_compilation_serves_all_sizes_seeds_and_steps():
    before = on_device._cache_size()
    for step, size, seed in ((0, 10, 0), (5, 10_000, 1), (7, 3, 2)):
        on_device(jnp.int32(step), 32, jnp.uint32(size), jnp.uint32(seed))
    assert on_device._cache_size() <= before + 1


def test_epochs_and_seeds_differ():
    first, second = positions(2, 1000, 1000, seed=0).reshape(2, 1000)
    other = positions(1, 1000, 1000, seed=1)
    for a, b in ((first, second), (first, other)):
        assert (a == b).sum() < 8  # about one of a thousand stays in place
