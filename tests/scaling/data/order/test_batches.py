"""Batches: every example once an epoch, whatever the sizes, and the same on host and device."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data import permutation
from scaling.data.order.batches import batch_indices
from scaling.data.permutation import mix, permute

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


def _chi_square(counts: np.ndarray) -> float:
    """Returns Pearson's statistic against equal counts, per degree of freedom."""
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum() / (counts.size - 1))


def _draw(size: int, epochs: int) -> np.ndarray:
    keys = mix(np, np.uint32(7), np.arange(epochs, dtype=np.uint32))
    one = np.arange(size, dtype=np.uint32)
    return np.stack([permute(np, one, np.uint32(size), key) for key in keys]).astype(np.int64)


def _worst_statistics(size: int) -> tuple[float, float]:
    drawn = _draw(size, epochs=6000)
    places = _chi_square(np.stack([np.bincount(column, minlength=size) for column in drawn.T]))
    steps = np.bincount((drawn[:, 1] - drawn[:, 0]) % size, minlength=size)[1:]
    return places, _chi_square(steps)


@pytest.mark.parametrize("size", [5, 8, *(pytest.param(size, marks=pytest.mark.slow) for size in (24, 100))])
def test_permutations_look_random(size):
    places, steps = _worst_statistics(size)
    assert places < 2.0
    assert steps < 3.0


@pytest.mark.slow
def test_all_orders_of_four_are_about_equally_frequent():
    counts = collections.Counter(map(tuple, _draw(4, epochs=12_000).tolist()))
    assert len(counts) == 24
    assert _chi_square(np.array(list(counts.values()))) < 2.0


def test_two_rounds_would_not_look_random(monkeypatch):
    monkeypatch.setattr(permutation, "ROUNDS", 2)
    assert max(_worst_statistics(24)) > 3.0
