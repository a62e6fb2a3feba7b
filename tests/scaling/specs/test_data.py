"""Data: fields that came later leave old cells alone, and sources that cannot be meant are refused."""

import json

import pytest

from scaling.specs.base import parse
from scaling.specs.data import ArraysSource, DataSpec, DigitsSource, NpzSource, TableSource, TextSource, count_unique

# As the first release wrote it; a field that shows up here gives every old cell another name.
FIRST = {
    "digits": '{"evaluation_size":5000,"order":"independent","size":10,"source":{"kind":"digits"}}',
    "table": '{"delimiter":",","header":false,"kind":"table","label_column":-1,"path":"x.csv"}',
}


def test_later_fields_are_left_out_at_their_defaults():
    assert DataSpec(source=DigitsSource(), size=10).canonical_json() == FIRST["digits"]
    assert TableSource(path="x.csv").canonical_json() == FIRST["table"]


def test_a_source_is_read_back_by_its_kind():
    data = DataSpec(source=TextSource(sequence_length=32), size=10, duplication=0.5)
    assert parse(DataSpec, data.canonical_json(), "here") == data
    assert json.loads(data.canonical_json())["source"]["documents"] == {"kind": "stdlib"}


@pytest.mark.parametrize(("size", "share", "unique"), [(10, 0.0, 10), (10, 0.5, 5), (3, 0.5, 2), (7, 0.99, 1)])
def test_repeats_are_rounded_down_so_that_an_example_is_left(size, share, unique):
    assert count_unique(size, share) == unique


@pytest.mark.parametrize("given", [{"evaluation_inputs": "x"}, {"evaluation_labels": "y"}])
def test_half_an_evaluation_set_is_refused(given):
    with pytest.raises(ValueError, match="evaluation_inputs and evaluation_labels go together; name both arrays, or"):
        NpzSource(path="x.npz", **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArraysSource(sha256="abc"), "sha256"),
        (lambda: TextSource(sequence_length=1), "sequence_length"),
        (lambda: TextSource(held_out=1.0), "held_out"),
        (lambda: TableSource(path="x.csv", delimiter="::"), "delimiter"),
        (lambda: DataSpec(source=DigitsSource(), size=10, duplication=1.0), "duplication"),
        (lambda: DataSpec(source=DigitsSource(), size=10, label_noise=1.1), "label_noise"),
        (lambda: DataSpec(source=DigitsSource(), size=10, order="sorted"), "order"),
    ],
)
def test_values_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("acuracy",)}, "data.metrics='acuracy' is no metric of this package; did you mean 'accuracy'"),
        ({"metrics": ("mine:",)}, "pattern"),
        ({"metrics": ("auc", "auc")}, "data.metrics='auc' is there 2 times"),
        ({"evaluation_sets": ({"name": "ema", "source": {"kind": "digits"}},)}, "begins with 'ema'"),
        ({"evaluation_sets": ({"name": "params_far", "source": {"kind": "digits"}},)}, "begins with 'params'"),
        ({"evaluation_sets": ({"name": "a b", "source": {"kind": "digits"}},)}, "pattern"),
        ({"evaluation_sets": ({"name": "far", "source": {"kind": "digits"}},) * 2}, "'far' is there 2 times"),
    ],
)
def test_metrics_and_evaluation_sets_have_names_that_are_known_and_free(changes, message):
    with pytest.raises(ValueError, match=message):
        DataSpec(source=DigitsSource(), size=1, **changes)


def test_cells_without_metrics_or_sets_of_their_own_keep_their_text():
    assert "metrics" not in DataSpec(source=DigitsSource(), size=1).canonical_json()
    assert "evaluation_sets" not in DataSpec(source=DigitsSource(), size=1).canonical_json()
