"""Subsets: they nest, they keep their promise about classes at every prefix, and records prove it."""

import numpy as np
import pytest

from scaling.data.order.subsets import KeyedOrder, change_labels, digest_prefixes, draw_subset, repeat_places
from scaling.data.source import Source
from scaling.specs.data import DataSpec, DigitsSource
from tests.scaling.data.order.orders import GROUPS, LABELS, draw, source_of

ORDERS = ("independent", "stratified", "balanced", "grouped")


def counts_by_prefix(drawn: np.ndarray, labels: np.ndarray = LABELS, num_classes: int = 7) -> np.ndarray:
    return np.cumsum(labels[drawn][:, None] == np.arange(num_classes), axis=0)  # [m, K]


@pytest.mark.parametrize("order", ORDERS)
def test_a_smaller_draw_is_the_beginning_of_a_larger_one(order):
    largest = draw(order, 70, seed=3)
    for size in (7, 8, 33, 69):
        assert draw(order, size, seed=3).tolist() == largest[:size].tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_draws_have_no_repeats_and_depend_on_the_seed(order):
    one, other = (draw(order, 70, seed) for seed in (0, 1))
    assert len(set(one.tolist())) == 70
    assert set(one.tolist()) != set(other.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_every_stratified_prefix_is_within_one_of_the_class_proportions(seed):
    counts = counts_by_prefix(draw("stratified", len(LABELS), seed))
    due = np.arange(1, len(LABELS) + 1)[:, None] * np.bincount(LABELS)[None] / len(LABELS)
    assert np.abs(counts - due).max() <= 1.0


@pytest.mark.parametrize(
    "sizes", [[1, 1], [5, 1, 1, 1], [9] * 9, [100, 1, 1, 1, 50], [60, 1, 2, 3, 4, 5, 6], [3, 0, 7]]
)
def test_stratification_holds_for_awkward_class_sizes(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    counts = counts_by_prefix(draw("stratified", len(labels), 0, labels, len(sizes)), labels, len(sizes))
    due = np.arange(1, len(labels) + 1)[:, None] * np.array(sizes)[None] / len(labels)
    assert np.abs(counts - due).max() <= 1.0


def test_every_balanced_prefix_is_within_one_of_equal_classes():
    size = 7 * int(np.bincount(LABELS).min())
    counts = counts_by_prefix(draw("balanced", size))
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


def test_independent_draws_follow_no_class():
    counts = counts_by_prefix(draw("independent", 1000))[-1]
    assert np.abs(counts - 1000 * np.bincount(LABELS) / len(LABELS)).max() > 1.0


def test_digests_see_the_order_of_examples():
    indices = np.arange(100)
    swapped = indices.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert digest_prefixes(indices, (3, 100))["3"] == digest_prefixes(swapped, (3, 100))["3"]
    assert digest_prefixes(indices, (100,)) != digest_prefixes(swapped, (100,))


def test_digests_of_orders_that_take_no_memory_are_those_of_their_indices():
    order = KeyedOrder(3000, 5000, seed=2)
    assert digest_prefixes(order, (10, 3000)) == digest_prefixes(order[:], (10, 3000))


def test_grouped_draws_finish_one_group_before_the_next():
    drawn = GROUPS[draw("grouped", 3000)]
    starts = np.flatnonzero(np.diff(drawn)) + 1
    assert len(starts) + 1 == len(np.unique(GROUPS))
    assert drawn[0] != GROUPS[draw("grouped", 1, seed=1)][0] or drawn[-1] != GROUPS[draw("grouped", 3000, seed=1)][-1]


@pytest.mark.parametrize("pool", [1, 2, 1000, 2**20 - 1])
def test_an_order_that_takes_no_memory_is_a_permutation(pool):
    assert (np.sort(KeyedOrder(pool, pool, 5)[:]) == np.arange(pool)).all()


@pytest.mark.parametrize("pool", [10**9, 2**31 - 1])
def test_a_billion_indices_are_permuted_where_they_are_read(pool):
    order = KeyedOrder(pool, pool, seed=1)
    somewhere = np.random.default_rng(0).integers(0, pool, 200_000)
    places = np.unique(np.concatenate([np.arange(100_000), pool - 1 - np.arange(100_000), somewhere]))
    images = order[places]
    assert len(np.unique(images)) == len(places)
    assert (images.min() >= 0) and (images.max() < pool)
    assert np.abs(np.histogram(images, 20, (0, pool))[0] / len(places) - 0.05).max() < 0.003
    assert (KeyedOrder(10, pool, seed=1)[:] == images[:10]).all()
    assert (KeyedOrder(10, pool, seed=2)[:] != images[:10]).any()


def test_noise_changes_its_share_of_labels_to_any_other_class_and_nests():
    labels = np.random.default_rng(0).integers(0, 5, 20_000).astype(np.int32)
    changed, noisy = change_labels(labels, 5, 0.3, seed=1)
    assert ((changed != labels) == noisy).all()
    assert noisy.mean() == pytest.approx(0.3, abs=0.01)
    shifts = np.bincount((changed - labels)[noisy] % 5, minlength=5) / noisy.sum()
    assert shifts[0] == 0
    assert shifts[1:] == pytest.approx([0.25] * 4, abs=0.02)
    more, _ = change_labels(labels, 5, 0.6, seed=1)
    assert (more[noisy] == changed[noisy]).all()  # a larger share keeps the changes of a smaller one
    assert change_labels(labels[:100], 5, 0.3, seed=1)[0].tolist() == changed[:100].tolist()


def test_repeats_take_their_share_and_nest():
    places, distinct = repeat_places(10_000, 0.25, seed=3)
    assert sorted(set(places.tolist())) == list(range(distinct))
    assert distinct == 7500
    assert (places != repeat_places(10_000, 0.25, seed=4)[0]).any()
    assert repeat_places(777, 0.25, seed=3)[0].tolist() == places[:777].tolist()
    assert repeat_places(5, 0.0, seed=3)[0].tolist() == [0, 1, 2, 3, 4]
    firsts = [np.flatnonzero(places == k)[0] for k in range(50)]
    assert firsts == sorted(firsts)


def test_a_subset_counts_what_was_done_to_it():
    spec = DataSpec(source=DigitsSource(), size=1000, label_noise=0.2, duplication=0.1)
    source = source_of()
    subset = draw_subset(spec, source, seed=4)
    inputs, labels = subset.read(np.arange(1000))
    assert subset.num_unique == len(np.unique(inputs)) < 1000
    assert subset.num_noisy() == int((labels != source.labels[inputs[:, 0]]).sum()) > 0
    assert subset.class_counts() == tuple(np.bincount(labels, minlength=7).tolist())
    plain = draw_subset(DataSpec(source=DigitsSource(), size=1000), source, seed=4)
    assert (plain.num_unique, plain.num_noisy(), plain.num_in_evaluation()) == (1000, 0, 0)


def test_examples_that_equal_an_evaluation_example_are_found():
    inputs = np.random.default_rng(0).integers(0, 255, (500, 13)).astype(np.uint8)
    inputs[[3, 7, 11]] = inputs[[400, 401, 400]]
    labels = np.zeros(400, np.int32)
    source = Source("some", inputs[:400], labels, inputs[400:], labels[:100], 2)
    subset = draw_subset(DataSpec(source=DigitsSource(), size=400), source, 0)
    assert subset.num_in_evaluation() == 3
    small = draw_subset(DataSpec(source=DigitsSource(), size=20), source, 0)
    assert small.num_in_evaluation() == np.isin(small.order[:], [3, 7, 11]).sum()
