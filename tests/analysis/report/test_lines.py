"""Claims about lines: the fewest that hold one setting at each place, along the axis that was varied."""

import numpy as np
import pandas as pd
import pytest

from analysis.report.lines import find_axes, find_lines, find_shapes, find_swept
from analysis.report.subject import ReportOptions, study_table
from tests.analysis.report.tables import make_grid, make_profiles, make_sweep


def study(table, **options):
    return study_table("runs.csv", table, ReportOptions(**options))


def test_the_axis_is_what_was_varied():
    data = pd.DataFrame(
        {"data_unique": [10, 20, 40], "data_seen": [100, 100, 200], "num_params": 5.0, "loss": [3, 2, 1]}
    )
    assert find_axes(study(data))[0] == "data_unique"
    assert find_axes(study(make_sweep()))[0] == "peak_lr"


def test_an_amount_that_follows_from_another_is_no_axis_before_it():
    data = pd.DataFrame({"data_unique": [10, 20, 40], "data_seen": [100, 200, 400], "loss": [3, 2, 1]})
    assert find_axes(study(data)) == ["data_unique", "data_seen"]


def test_lines_hold_every_other_amount():
    lines = find_lines(study(make_grid(("a", "b"))), "data_seen")
    assert lines.keys == ("num_params",)
    assert len(lines.names) == 8
    assert (lines.points["seeds"] == 2).all()
    assert lines.names[0] == "a, N = 1,000,000"


def test_budgets_that_are_about_equal_are_one():
    table = make_profiles()
    table["train_flops"] *= np.random.default_rng(0).uniform(0.97, 1.03, len(table))
    lines = find_lines(study(table), "num_params")
    assert lines.keys == ("train_flops",)
    assert len(lines.names) == 3


def test_runs_without_few_lines_are_points():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"num_params": generator.uniform(1, 9, 40), "data_seen": generator.uniform(1, 9, 40)})
    lines = find_lines(study(table.assign(loss=1.0 / table["data_seen"])), "data_seen")
    assert lines.is_scatter
    assert len(lines.points) == 40


def test_a_recipe_that_follows_from_size_is_no_sweep():
    table = make_grid().assign(peak_lr=lambda rows: rows["num_params"] ** -0.3)
    assert find_swept(study(table)) == ()
    assert find_swept(study(make_sweep())) == ("peak_lr",)


def test_depth_is_an_axis_where_sizes_follow_from_it():
    table = pd.DataFrame({"model.depth": [1, 2, 4], "num_params": [10.0, 20.0, 40.0], "loss": [3.0, 2.0, 1.0]})
    subject = study(table)
    assert find_shapes(subject) == ("model.depth",)
    assert find_axes(subject)[0] == "model.depth"
    chosen = study(table.assign(**{"model.num_params": [10, 20, 40]}))
    assert find_shapes(chosen) == ()
    assert find_axes(chosen)[0] == "num_params"


@pytest.mark.parametrize("column", ["lr", "momentum"])
def test_a_setting_that_the_caller_names_is_one(column):
    table = make_sweep().rename(columns={"peak_lr": column})
    assert find_swept(study(table)) == ()
    assert find_swept(study(table, settings=(column,))) == (column,)
