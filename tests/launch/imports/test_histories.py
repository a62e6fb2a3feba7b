"""Histories: sparse rows become columns that keep what was missing, what is no number, and what came last."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from launch.imports.histories import Pivot, build_history, count_values, encode, flatten, read_history


def test_what_a_row_lacks_is_missing_and_not_nan(tmp_path):
    table = build_history([{"loss": 2.0}, {"loss": float("nan"), "eval": {"acc": 0.5}}, {"eval": {"acc": None}}])
    assert count_values(table) == {"loss": 2, "eval.acc": 1}
    pq.write_table(table, tmp_path / "history.parquet")
    found = read_history(tmp_path / "history.parquet", ["loss", "eval.acc", "nothing"])
    assert found.keys() == {"loss", "eval.acc"}
    assert found["loss"].present.tolist() == [True, True, False]
    np.testing.assert_array_equal(found["loss"].numbers, [2.0, np.nan, np.nan])
    assert found["eval.acc"].present.tolist() == [False, True, False]


def test_a_column_with_a_text_keeps_it_and_its_numbers(tmp_path):
    pq.write_table(build_history([{"x": 1.5}, {"x": "late"}, {}]), tmp_path / "history.parquet")
    found = read_history(tmp_path / "history.parquet", ["x"])["x"]
    assert found.texts == [1.5, "late", None]
    np.testing.assert_array_equal(found.numbers, [1.5, np.nan, np.nan])


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (float("inf"), "Infinity"),
        ({"a": (float("-inf"), {1})}, {"a": ["-Infinity", [1]]}),
        (np.array([1.0, np.nan]), [1.0, "NaN"]),
        (np.float32(0.5), 0.5),
        (ValueError("odd"), "odd"),
    ],
)
def test_any_value_can_be_held_by_json(value, held):
    assert encode(value) == held


def test_nested_names_are_dotted():
    assert dict(flatten({"model": {"depth": 2, "head": {"size": 64}}, "lr": 0.1})) == {
        "model.depth": 2, "model.head.size": 64, "lr": 0.1,
    }  # fmt: skip


def test_a_step_that_is_logged_again_replaces_what_was_there_and_it_is_said():
    pivot = Pivot()
    for name, step, seconds, value in (("loss", 1, 20.0, 3.0), ("loss", 0, 10.0, 4.0), ("loss", 1, 30.0, 2.0)):
        pivot.add(name, step, seconds, value)
    assert pivot.build().to_pylist() == [
        {"_step": 0.0, "_timestamp": 10.0, "_runtime": 0.0, "loss": 4.0},
        {"_step": 1.0, "_timestamp": 30.0, "_runtime": 20.0, "loss": 2.0},
    ]
    assert pivot.last() == {"loss": 2.0}
    assert pivot.notices() == ("1 values were logged again at the same step; the later ones are kept",)
    assert Pivot().build() is None
