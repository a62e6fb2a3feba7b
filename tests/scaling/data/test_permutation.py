"""Keyed permutations: fixed on every platform, bijections of any size, and without a trace of the order before."""

import collections

import numpy as np
import pytest

from scaling.data import permutation
from scaling.data.permutation import mix, permute, shuffled


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


def test_shuffled_is_a_fixed_permutation():
    assert sorted(shuffled(1000, 1)) == list(range(1000))
    assert shuffled(8, seed=1).tolist() == [3, 5, 2, 7, 0, 6, 1, 4]
    assert (shuffled(1000, 1) != shuffled(1000, 2)).mean() > 0.99
