"""Validation: hold-outs by size, rollouts, and a tournament that the right law wins beyond the cut."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.laws.registry import get_law
from analysis.tables.table import read_table
from analysis.validation.validate import hold_out, roll, run_tournament
from tests.places import TABLES


@pytest.fixture(scope="module")
def table():
    return get_law("power_floor").sample(levels=16, noise=0.003, seeds=2, seed=1)


def test_a_hold_out_fits_up_to_the_cut_and_is_tested_beyond(table):
    found = hold_out(table, "power_floor", "loss", by="data_unique", cut=1e4)
    beyond = table["data_unique"] > 1e4
    assert found.fit.n == int((~beyond).sum())
    assert found.fit.ranges["data_unique"][1] <= 1e4
    assert found.score.rmse < 0.05


def test_a_law_without_the_floor_fails_beyond_where_the_floor_matters(table):
    ranking = run_tournament(table, ["power", "power_floor", "m3"], "loss", by="data_unique")
    order = list(ranking["law"])
    assert order.index("power_floor") < order.index("power")


def test_a_rollout_scores_every_window(table):
    found = roll(table, "power_floor", "loss", by="data_unique")
    assert len(found.windows) >= 3
    assert found.pooled.rmse < 0.05


def test_a_law_that_cannot_be_fitted_is_listed_with_its_reason(table):
    ranking = run_tournament(table, ["power_floor", "chinchilla"], "loss", by="data_unique")
    row = ranking[ranking["law"] == "chinchilla"].iloc[0]
    assert "num_params" in row["reason"]


def test_a_cut_beyond_all_runs_is_refused(table):
    with pytest.raises(AnalysisError, match="cut"):
        hold_out(table, "power_floor", "loss", by="data_unique", cut=1e12)


def test_a_horizon_leaves_out_what_lies_beyond_it(table):
    far, near = (hold_out(table, "power_floor", "loss", by="data_unique", cut=1e3, horizon=h) for h in (None, 10.0))
    assert near.rows["data_unique"].max() <= 1e4 < far.rows["data_unique"].max()
    assert near.fit.params == far.fit.params
    with pytest.raises(AnalysisError, match="horizon=1 must be above 1"):
        hold_out(table, "power_floor", "loss", by="data_unique", cut=1e3, horizon=1)


def test_windows_by_several_columns_are_pooled():
    joint = get_law("chinchilla").sample(levels=7, noise=0.003, seed=1)
    found = roll(joint, "chinchilla", by=["num_params", "data_seen"], windows=2)
    assert list(found.windows["by"]) == ["num_params"] * 2 + ["data_seen"] * 2
    assert found.pooled.n == found.windows["n_test"].sum() == sum(len(one.rows) for one in found.holdouts)
    with pytest.raises(AnalysisError, match="belong to one column"):
        roll(joint, "chinchilla", by=["num_params", "data_seen"], cuts=[1e9])


def test_named_cuts_are_the_windows(table):
    found = roll(table, "power_floor", "loss", by="data_unique", cuts=[2e4, 5e3])
    assert list(found.windows["cut"]) == [5e3, 2e4]
    assert list(found.windows["n_fit"]) == [int((table["data_unique"] <= cut).sum()) for cut in (5e3, 2e4)]
    with pytest.raises(AnalysisError, match="at least one value"):
        roll(table, "power_floor", "loss", by="data_unique", cuts=[])


def test_a_window_with_too_few_points_says_so_and_nothing_is_pooled(table):
    smallest = float(table["data_unique"].min())
    found = roll(table, "power_floor", "loss", by="data_unique", cuts=[smallest, 1e4])
    assert found.windows["status"].iloc[0] == "failed"
    assert "2 points for 3 parameters" in found.reason
    assert found.pooled is None
    ranking = run_tournament(table, ["power_floor", "power"], "loss", by="data_unique", cuts=[smallest, 1e4])
    assert list(ranking["law"]) == ["power", "power_floor"]  # a line passes through two points
    assert np.isnan(ranking["rank"][1])


def test_too_few_levels_for_a_rollout_are_counted(table):
    few = table[table["data_unique"] <= np.unique(table["data_unique"])[1]]
    with pytest.raises(AnalysisError, match="2 levels in 4 rows"):
        roll(few, "power_floor", "loss", by="data_unique")


def test_on_the_public_points_of_chinchilla_two_exponents_beat_one():
    path = TABLES / "chinchilla_epoch.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    names = {"num_params": "Model Size", "train_flops": "Training FLOP"}
    points = read_table(path, columns=names, derive=("data_seen",), keep=("loss<3.44",))
    ranking = run_tournament(points, ["chinchilla", "kaplan_nd"], "loss", by="train_flops", windows=3)
    assert ranking.attrs["rows"] == 240
    assert list(ranking["law"]) == ["chinchilla", "kaplan_nd"]
    assert ranking["rmse"][0] < 0.015
