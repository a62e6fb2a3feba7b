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


@pytest.mark.parametrize("size", [1, 2, 3, 5, 127, 128, 129, 1000])
def test_a_keyed_permutation_is_a_bijection_of_every_size(size):
    positions = np.arange(size, dtype=np.uint32)
    for key in (0, 1, 2**32 - 1):
        images = permute(np, positions, np.uint32(size), np.uint32(key))
        assert images.dtype == np.uint32
        assert sorted(images) == list(range(size))


def test_each_position_may_have_a_key_of_its_own():
    positions, keys = np.arange(50, dtype=np.uint32), np.arange(50, dtype=np.uint32) % 3
    mixed = permute(np, positions, np.uint32(50), keys)
    for key in range(3):
        alone = permute(np, positions, np.uint32(50), np.uint32(key))
        assert (mixed[keys == key] == alone[keys == key]).all()


def murmur(word: int) -> int:
    """Returns MurmurHash3's finaliser of a word, in Python's own integers."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> shift)) * factor % 2**32
    return word ^ (word >> 16)


def test_a_hash_is_murmurs_of_both_of_its_words():
    for key, value in ((0, 0), (7, 1), (2**32 - 1, 2**31), (12_345, 678)):
        both = key ^ ((value * 0x9E3779B9 + 0x7F4A7C15) % 2**32)
        assert int(mix(np, np.uint32(key), np.uint32(value))) == murmur(both)
    assert len(set(mix(np, np.uint32(7), np.arange(1000, dtype=np.uint32)).tolist())) == 1000
