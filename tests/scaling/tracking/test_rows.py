"""Claims about rows: one a step, each with its place on every axis, and none that could still change."""

import json

import pytest

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec, MLPSpec
from scaling.specs.training import AdamWSpec, LayerwiseSpec, TrainingSpec
from scaling.tracking.rows import AXES, make_rows
from tests.told_runs import BATCH_SIZE, END, EXAMPLE_FLOPS, NUM_STEPS, make_points

DATA = DataSpec(source=DigitsSource(), size=100, evaluation_size=400)
TRAINING = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=BATCH_SIZE, num_steps=NUM_STEPS)
CELL = Cell(model=MLPSpec(num_params=3000), data=DATA, training=TRAINING)
SPEC = json.loads(CELL.canonical_json())


def test_every_step_is_one_row_with_all_axes():
    rows = make_rows(SPEC, make_points(CELL, 0, NUM_STEPS))
    assert [row.place for row in rows] == [row.values["step"] for row in rows] == list(range(1, NUM_STEPS + 1))
    for row in rows:
        seen = row.place * BATCH_SIZE
        assert row.values["data_seen"] == seen
        assert row.values["train_flops"] == pytest.approx(seen * EXAMPLE_FLOPS, rel=1e-12)
        assert row.values["train_seconds"] == pytest.approx(row.place / 100.0)
        assert set(row.values) >= {"train/loss", *AXES}
    assert [row.place for row in rows if "eval/loss" in row.values] == [5, 10, 20, NUM_STEPS]
    assert rows[-1].values["eval/error"] == pytest.approx(rows[-1].values["eval/loss"] / 4)


@pytest.mark.parametrize("end", [None, END], ids=["nothing known", "described"])
def test_a_row_that_is_here_never_changes(end):
    points = make_points(CELL, 0, NUM_STEPS)
    final = make_rows(SPEC, points, end=END)
    for count in range(len(points)):
        rows = make_rows(SPEC, points[:count], end=end, is_over=False)
        assert [row.place for row in rows] == [row.place for row in final[: len(rows)]]
        for row, last in zip(rows, final, strict=False):
            assert row.values == pytest.approx(last.values, rel=1e-12)


def test_rows_come_as_soon_as_their_axes_are_known():
    points = [point for point in make_points(CELL, 0, 12) if point["step"] != 5 or "loss" not in point]
    assert len(make_rows(SPEC, points, end=END, is_over=False)) == 11  # all but the last, which may be evaluated yet
    before = [point for point in points if point["step"] < 10]
    assert make_rows(SPEC, before, is_over=False) == []
    assert make_rows(SPEC, before[:4], end=END, is_over=False) == []  # no speed yet


def test_flops_before_the_first_step_are_on_the_axis():
    training = TRAINING.model_copy(update={"pretraining": LayerwiseSpec(num_steps=3, peak_lr=0.1)})
    spec = json.loads(CELL.model_copy(update={"training": training}).canonical_json())
    points = make_points(CELL, 0, NUM_STEPS)
    for point in points:
        if "train_flops" in point:
            point["train_flops"] += 1e6
    first = make_rows(spec, points)[0]
    assert first.values["train_flops"] == pytest.approx(1e6 + BATCH_SIZE * EXAMPLE_FLOPS, rel=1e-12)


def test_a_run_that_diverged_goes_on_to_its_last_row():
    points = [*make_points(CELL, 0, 12), {**make_points(CELL, 9, 10)[-1], "step": 8, "loss": None, "metrics": {}}]
    rows = make_rows(SPEC, points)
    assert [row.place for row in rows] == [*range(1, 13), 13]
    assert rows[-1].values["step"] == 8
    assert "eval/loss" not in rows[-1].values


def test_a_model_without_steps_has_one_row():
    cell = Cell(model=LogisticRegressionSpec(), data=DATA)
    spec, points = json.loads(cell.canonical_json()), make_points(cell, 0, 1)
    (row,) = make_rows(spec, points)
    assert (row.place, row.values["data_seen"], "step" in row.values) == (0, 100, False)
    assert make_rows(spec, points, is_over=False) == []
    assert make_rows(spec, []) == []
