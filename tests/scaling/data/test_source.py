"""Sources: pool and evaluation set never meet, and hashes tell every other content apart."""

import dataclasses

import numpy as np
import pytest

from scaling.data.source import (
    SelectedRows,
    Source,
    draw_evaluation,
    hash_examples,
    hold_out,
    split_examples,
    task_shape,
)
from scaling.specs.base import InputError
from scaling.specs.task import TaskShape

INPUTS, LABELS = np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20) % 4
GROUPS = np.arange(20) // 3  # six of three, and one of two


def test_pool_and_evaluation_set_are_all_examples_once():
    pool, held_out = hold_out("some", 20, 6)
    assert sorted([*pool, *held_out]) == list(range(20))
    assert (len(held_out), held_out.tolist()) == (6, sorted(held_out))
    smaller = hold_out("some", 20, 2)[1]
    assert set(smaller) < set(held_out)  # of one order, that is everyone's


def test_whole_groups_are_held_out_and_what_is_too_many_is_in_neither():
    pool, held_out = hold_out("some", 20, 4, GROUPS)
    assert len(held_out) == 4
    assert not set(GROUPS[pool]) & set(GROUPS[held_out])
    assert 20 - len(pool) in (5, 6)  # of two groups


def test_given_evaluation_examples_are_taken_in_everyones_order():
    assert draw_evaluation(20, 6).tolist() == draw_evaluation(20, 20)[:6].tolist()
    assert sorted(draw_evaluation(20, 20)) == list(range(20))


@pytest.mark.parametrize(
    ("size", "groups", "message"),
    [
        (20, None, "data.evaluation_size=20 leaves none of the 20 examples of some to train on; choose fewer than 20"),
        (19, GROUPS, "data.evaluation_size=19 needs all 7 groups of some and leaves none to train on; choose fewer"),
    ],
)
def test_an_evaluation_set_that_leaves_nothing_is_refused(size, groups, message):
    with pytest.raises(InputError) as caught:
        hold_out("some", 20, size, groups)
    assert str(caught.value) == message


def test_a_split_source_has_classes_or_numbers_and_its_pools_groups():
    source = split_examples("some", INPUTS, LABELS, 6, GROUPS * 10, scaling="standardize")
    assert (source.num_classes, source.labels.dtype, source.scaling) == (4, np.int32, "standardize")
    pool = hold_out("some", 20, 6, GROUPS)[0]
    assert source.groups.tolist() == GROUPS[pool].tolist()
    np.testing.assert_array_equal(source.inputs, INPUTS[pool])
    numbers = split_examples("some", INPUTS, LABELS / 2, 6, objective="regress")
    assert (numbers.num_classes, numbers.labels.dtype, numbers.groups) == (1, np.float32, None)


def test_a_hash_tells_values_types_shapes_and_labels_apart():
    others = [
        hash_examples(INPUTS, LABELS),
        hash_examples(INPUTS, None),
        hash_examples(INPUTS, LABELS[::-1]),
        hash_examples(INPUTS[::-1], LABELS),
        hash_examples(INPUTS.astype(np.float64), LABELS),
        hash_examples(INPUTS.reshape(20, 3, 1), LABELS),
        hash_examples(INPUTS, LABELS.astype(np.int32)),
    ]
    assert len(set(others)) == len(others)
    assert hash_examples(INPUTS.copy(), LABELS.copy()) == others[0]


def test_rows_are_read_by_their_own_index_in_the_type_of_choice():
    rows = SelectedRows(INPUTS, np.array([7, 3, 3]), np.dtype(np.uint8))
    assert (len(rows), rows.shape, rows.dtype) == (3, (3, 3), np.uint8)
    np.testing.assert_array_equal(rows[np.array([1, 0])], INPUTS[[3, 7]])
    np.testing.assert_array_equal(SelectedRows(INPUTS)[:2], INPUTS[:2])
    assert not np.shares_memory(SelectedRows(INPUTS)[:2], INPUTS)


TOKENS = Source("t", np.zeros((8, 13), np.int32), None, np.zeros((2, 13), np.int32), None, 9, "next_token", 9)


def test_a_task_counts_the_tokens_that_a_network_sees():
    assert TOKENS.example_tokens == 12  # the last is predicted alone
    assert task_shape(TOKENS) == TaskShape(12, 9, 9, None, "next_token")
    masked = dataclasses.replace(TOKENS, objective="masked", boundary=8)
    assert task_shape(masked) == TaskShape(13, 9, 9, None, "masked", 8)
    labelled = dataclasses.replace(TOKENS, objective="classify", labels=np.zeros(8, np.int32), num_classes=3)
    assert (labelled.example_tokens, task_shape(labelled)) == (1, TaskShape(13, 9, 3))


def test_known_hashes_stand_for_reading_everything():
    assert dataclasses.replace(TOKENS, known_hashes=("a", "b")).sha256 == "a"
    assert dataclasses.replace(TOKENS, known_hashes=("a", "b")).eval_sha256 == "b"
    assert TOKENS.sha256 == hash_examples(TOKENS.inputs, None)
