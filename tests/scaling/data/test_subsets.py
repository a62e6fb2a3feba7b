"""Subsets: they nest, they keep their promise about classes at every prefix, and records prove it."""

import numpy as np
import pytest

from scaling.data.subsets import digest_prefixes, draw_order, shuffled
from scaling.record import SubsetManifest

LABELS = np.random.default_rng(0).choice(7, size=3000, p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.015, 0.005])
ORDERS = ("independent", "stratified", "balanced")


def counts_by_prefix(drawn: np.ndarray, labels: np.ndarray = LABELS, num_classes: int = 7) -> np.ndarray:
    return np.cumsum(labels[drawn][:, None] == np.arange(num_classes), axis=0)  # [m, K]


def test_shuffled_is_a_fixed_permutation():
    assert sorted(shuffled(1000, 1)) == list(range(1000))
    assert shuffled(8, seed=1).tolist() == [3, 5, 2, 7, 0, 6, 1, 4]
    assert (shuffled(1000, 1) != shuffled(1000, 2)).mean() > 0.99


@pytest.mark.parametrize("order", ORDERS)
def test_a_smaller_draw_is_the_beginning_of_a_larger_one(order):
    largest = draw_order(LABELS, 7, order, seed=3, size=70)
    for size in (7, 8, 33, 69):
        assert draw_order(LABELS, 7, order, 3, size).tolist() == largest[:size].tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_draws_have_no_repeats_and_depend_on_the_seed(order):
    one, other = (draw_order(LABELS, 7, order, seed, 70) for seed in (0, 1))
    assert len(set(one.tolist())) == 70
    assert set(one.tolist()) != set(other.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_every_stratified_prefix_is_within_one_of_the_class_proportions(seed):
    counts = counts_by_prefix(draw_order(LABELS, 7, "stratified", seed, len(LABELS)))
    due = np.arange(1, len(LABELS) + 1)[:, None] * np.bincount(LABELS)[None] / len(LABELS)
    assert np.abs(counts - due).max() <= 1.0


@pytest.mark.parametrize(
    "sizes", [[1, 1], [5, 1, 1, 1], [9] * 9, [100, 1, 1, 1, 50], [60, 1, 2, 3, 4, 5, 6], [3, 0, 7]]
)
def test_stratification_holds_for_awkward_class_sizes(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    counts = counts_by_prefix(draw_order(labels, len(sizes), "stratified", 0, len(labels)), labels, len(sizes))
    due = np.arange(1, len(labels) + 1)[:, None] * np.array(sizes)[None] / len(labels)
    assert np.abs(counts - due).max() <= 1.0


def test_every_balanced_prefix_is_within_one_of_equal_classes():
    size = 7 * int(np.bincount(LABELS).min())
    counts = counts_by_prefix(draw_order(LABELS, 7, "balanced", 0, size))
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


def test_independent_draws_follow_no_class():
    counts = counts_by_prefix(draw_order(LABELS, 7, "independent", 0, 1000))[-1]
    assert np.abs(counts - 1000 * np.bincount(LABELS) / len(LABELS)).max() > 1.0


def manifest(size: int, seed: int = 0, digests: dict[str, str] | None = None) -> SubsetManifest:
    indices = draw_order(LABELS, 7, "independent", seed, size)
    return SubsetManifest(
        source="x",
        source_sha256="hash",
        order="independent",
        seed=seed,
        size=size,
        digests=digest_prefixes(indices, (100, 200, 400, size)) if digests is None else digests,
        class_counts=(),
        evaluation_size=1,
        evaluation_sha256="",
    )


def test_two_records_prove_that_their_subsets_nest():
    assert manifest(100).is_prefix_of(manifest(200))
    assert manifest(200).is_prefix_of(manifest(200))


def test_nothing_is_proven_of_other_draws_or_in_the_wrong_direction():
    assert not manifest(100).is_prefix_of(manifest(200, seed=1))
    assert not manifest(200).is_prefix_of(manifest(100))
    assert not manifest(100).is_prefix_of(manifest(200).model_copy(update={"source_sha256": "other"}))


def test_digests_see_the_order_of_examples():
    indices = np.arange(100)
    swapped = indices.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert digest_prefixes(indices, (3, 100))["3"] == digest_prefixes(swapped, (3, 100))["3"]
    assert digest_prefixes(indices, (100,)) != digest_prefixes(swapped, (100,))
