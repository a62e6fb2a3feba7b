"""Histories: sparse rows become columns that keep what was missing, what is no number, and what came last."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.tables.files.json_files import flatten
from launch.imports.histories import Pivot, build_history, count_values, encode, read_history


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


def points(*attempts, name="loss", value=float):
    """Returns points of one metric, a second apart: its steps attempt by attempt, and the attempt as its value."""
    steps = [(step, number) for number, attempt in enumerate(attempts) for step in attempt]
    return [(name, step, 100.0 + i, value(number)) for i, (step, number) in enumerate(steps)]


def pivot_of(*points):
    pivot = Pivot()
    for point in sorted(points, key=lambda point: point[2]):
        pivot.add(*point)
    return pivot


def test_a_metric_that_went_back_ends_where_it_ended():
    pivot = pivot_of(*points(range(0, 1001, 100), range(500, 801, 100)))
    assert pivot.build()["_step"].to_pylist() == list(range(0, 801, 100))
    assert pivot.build()["loss"].to_pylist() == [0.0] * 5 + [1.0] * 4
    assert pivot.last() == {"loss": 1.0}
    assert pivot.notices() == (
        "4 values were logged again at the same step; the later ones are kept",
        "2 values of an abandoned attempt, at or after the step of a restart, are superseded and left out",
    )


def test_what_another_metric_logged_in_the_abandoned_attempt_is_superseded_too():
    losses = points(range(0, 1001, 100), range(500, 801, 100))
    evals = [("eval", 500, 105.5, 5.0), ("eval", 1000, 110.5, 6.0)]
    pivot = pivot_of(*losses, *evals)
    assert "eval" not in pivot.build().column_names
    assert pivot.last() == {"loss": 1.0}
    before = pivot_of(*losses, ("eval", 400, 104.5, 4.0), evals[1])
    assert before.last() == {"loss": 1.0, "eval": 4.0}


def test_metrics_at_other_step_scales_do_not_disturb_each_other():
    losses = points(range(0, 1001, 100), range(500, 801, 100))
    epochs = [("epoch_loss", epoch, 101.5 + 2 * epoch, float(epoch)) for epoch in range(7)]
    test = [("test", 0, 999.0, 1.5)]
    pivot = pivot_of(*losses, *epochs, *test)
    assert pivot.last() == {"loss": 1.0, "epoch_loss": 6.0, "test": 1.5}
    backwards = [("epoch_loss", epoch, 101.5 + i, float(i)) for i, epoch in enumerate((0, 1, 2, 3, 1, 2))]
    pivot = pivot_of(*points(range(0, 1001, 100)), *backwards)
    assert pivot.build()["loss"].drop_null().to_pylist() == [0.0] * 11
    assert pivot.last() == {"loss": 0.0, "epoch_loss": 5.0}


def test_values_that_come_late_supersede_nothing():
    pivot = pivot_of(*points([0, 1, 2, 4, 3, 5]), *points([0, 2, 1, 4, 5], name="eval"))
    assert pivot.notices() == ()
    assert pivot.build()["_step"].to_pylist() == [0, 1, 2, 3, 4, 5]


def test_a_run_that_was_killed_right_after_its_restart_has_no_history():
    pivot = pivot_of(*points(range(3)))
    pivot.purge(0)
    assert (pivot.build(), pivot.last()) == (None, {})
    assert pivot.notices()[0].startswith("3 values of an abandoned attempt")
