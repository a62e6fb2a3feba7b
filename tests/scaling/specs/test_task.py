"""Tasks: dims, what is counted per token, and what follows from an image's shape or a vocabulary."""

import dataclasses
import typing

import pytest

from scaling.specs.task import Objective, TaskShape, image_task, settle_task, token_task


def test_an_example_has_the_dims_of_its_image_or_its_features():
    assert image_task(8, 10).dims == (8, 8, 3)
    assert image_task(8, 10).num_features == 192
    assert TaskShape(64, None, 10).dims == (64,)
    assert token_task(9, 12).dims == (12,)


@pytest.mark.parametrize("objective", typing.get_args(Objective))
def test_counts_are_per_token_where_a_model_speaks_of_tokens(objective):
    speaks = objective not in ("classify", "regress")
    assert token_task(9, 12, objective).predicts_tokens == speaks
    assert not TaskShape(12, None, 3, objective=objective).predicts_tokens  # numbers are no tokens


def test_a_task_is_settled_by_what_was_set_and_settled_once():
    wider = settle_task(dataclasses.replace(image_task(8, 10), image_shape=(16, 4, 1)))
    assert (wider.num_features, wider.num_classes) == (64, 10)
    larger = settle_task(dataclasses.replace(token_task(9, 12), vocab_size=100))
    assert (larger.num_features, larger.num_classes) == (12, 100)
    labelled = TaskShape(12, 100, 3)
    assert settle_task(labelled) == labelled
    assert settle_task(wider) == wider
