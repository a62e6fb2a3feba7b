"""Plans: what every cell costs by itself, and what the study costs in all."""

import pytest

from launch.commands.plan import plan_cells, summarise_plan
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.schedules import WSDSchedule
from scaling.specs.study import Series, Study, at_horizons
from scaling.specs.training import AdamWSpec, TrainingSpec


def leaves() -> Study:
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), schedule=WSDSchedule(), num_steps=200)
    data = DataSpec(source=DigitsSource(), size=300, evaluation_size=100)
    cell = Cell(model=MLPSpec(width=8), data=data, training=training)
    series = Series(label="net", cells=at_horizons(cell, [50, 100, 200]))
    return Study(name="leaves", question="?", series=(series,))


def test_leaves_have_the_flops_of_their_own_runs_and_the_trunk_is_paid_once():
    short, middle, long = plan_cells(leaves(), None)
    assert long["train_flops"] == 4 * short["train_flops"]
    step = short["train_flops"] / 50
    spent = [row["train_flops_spent"] / step for row in (short, middle, long)]
    assert spent == pytest.approx([50, 60, 120])  # from steps 0, 40 and 80 on


def test_a_summary_tells_lengths_apart():
    rows = summarise_plan(plan_cells(leaves(), None))
    assert [row["D"] for row in rows] == [128 * steps for steps in (50, 100, 200)]
