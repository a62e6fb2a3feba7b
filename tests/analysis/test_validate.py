"""Validation: hold-outs by size, rollouts, and a tournament that the right law wins beyond the cut."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.laws import get_law
from analysis.scores import score_log
from analysis.validate import hold_out, roll, run_tournament


@pytest.fixture(scope="module")
def table():
    return get_law("power_floor").sample(levels=16, noise=0.003, seeds=2, seed=1)


def test_the_score_is_the_root_mean_square_of_logs():
    score = score_log([2.0, 2.0], [1.0, 4.0])
    assert score.rmse == pytest.approx(np.log(2))
    assert score.bias == pytest.approx(0.0)


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
