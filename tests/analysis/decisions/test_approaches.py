"""The three approaches stand beside each other with their disagreement; one that a table does not allow says why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.allocation import allocate
from analysis.decisions.approaches import NAMES, compare_approaches
from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from tests.places import TABLES

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
VECTOR = np.array([list(TRUTH.values())])


def make_runs(noise=0.002, seed=0, spread=8.0, truth=TRUTH):
    """Six budgets of nine sizes around the optimum, with ten evaluations of each run."""
    rng, parts = np.random.default_rng(seed), []
    for flops in np.geomspace(1e18, 1e21, 6):
        middle = allocate("chinchilla", np.array([list(truth.values())]), flops=flops).num_params[0]
        for N in middle * np.geomspace(1 / spread, spread, 9):
            D = flops / 6 / N * np.geomspace(0.02, 1, 10)
            run = {"cell": f"c{len(parts)}", "num_params": N, "data_seen": D, "train_flops": 6 * N * D}
            part = pd.DataFrame(run).assign(step=range(10), is_final=[False] * 9 + [True], status="ok")
            clean = get_law("chinchilla").predict(truth, part)
            parts.append(part.assign(loss=clean * np.exp(noise * rng.standard_normal())))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def runs():
    return make_runs()


@pytest.fixture(scope="module")
def found(runs):
    return compare_approaches(runs, flops=1e22, resamples=400)


def test_all_approaches_recover_the_surface_that_made_the_runs(found):
    assert tuple(item.name for item in found.found) == NAMES
    assert not found.missing
    for item in found.found:
        assert item.size_exponent.value == pytest.approx(0.28 / 0.62, abs=0.025)
        assert item.size_exponent.value + item.data_exponent.value == pytest.approx(1, abs=0.01)
        assert item.size_exponent.low < item.size_exponent.value < item.size_exponent.high
    best = allocate("chinchilla", VECTOR, flops=1e22).num_params[0]
    assert found["parametric"].num_params.value == pytest.approx(best, rel=0.05)
    assert found["envelope"].num_params.value == pytest.approx(best, rel=0.25)


def test_their_disagreement_is_shown(found):
    frame = found.to_frame()
    assert found.exponent_gap == pytest.approx(frame.a.max() - frame.a.min())
    assert found.size_ratio == pytest.approx(frame.num_params.max() / frame.num_params.min())
    assert f"disagreement: {found.exponent_gap:.3g} in a, {found.size_ratio:.4g} times in N*" in str(found)


def test_a_parabola_on_wide_grids_disagrees_with_the_fitted_law_and_a_notice_says_so():
    truth = TRUTH | {"alpha": 0.465, "beta": 0.155}
    wide = make_runs(noise=2e-4, spread=16.0, truth=truth)
    found = compare_approaches(wide[wide.is_final], flops=1e20, resamples=200)
    notices = [item for item in found.warnings if item.code == "approaches_disagree"]
    assert any("isoflop_parabola" in item.text and "parametric" in item.text for item in notices)


def test_an_approach_that_the_table_does_not_allow_says_why(runs):
    found = compare_approaches(runs[runs.is_final], resamples=0)
    assert set(found.missing) == {"envelope"}
    assert "needs evaluations during training" in found.missing["envelope"]
    with pytest.raises(AnalysisError, match="approach='envelope' is not possible on this table"):
        found["envelope"]
    assert found.flops == pytest.approx(1e21)
    scattered = runs[runs.is_final].copy()
    scattered["train_flops"] = np.random.default_rng(0).permutation(np.geomspace(1e18, 1e22, len(scattered)))
    scattered["data_seen"] = scattered.train_flops / 6 / scattered.num_params
    scattered["loss"] = get_law("chinchilla").predict(TRUTH, scattered)
    found = compare_approaches(scattered, resamples=0)
    assert found["parametric"].size_exponent.value == pytest.approx(0.28 / 0.62, abs=1e-4)
    assert set(found.missing) == {"envelope", "isoflop_cubic", "isoflop_parabola"}


def test_a_far_budget_is_called_an_extrapolation(runs):
    found = compare_approaches(runs[runs.is_final], flops=1e24, resamples=0)
    assert [item.code for item in found.warnings].count("extrapolation") == 3
    near = compare_approaches(runs[runs.is_final], flops=2e21, resamples=0)
    assert "extrapolation" not in {item.code for item in near.warnings}


def test_a_fit_that_is_given_is_used_with_its_own_draws(runs):
    final = runs[runs.is_final]
    fit = fit_law("chinchilla", final, final["loss"].to_numpy())
    draws = fit.vector * np.exp(0.01 * np.random.default_rng(0).standard_normal((50, 5)))
    fit = fit.model_copy(update={"draws": tuple(map(tuple, draws.tolist()))})
    item = compare_approaches(final, fit=fit, resamples=0)["parametric"]
    exponents = draws[:, 4] / (draws[:, 3] + draws[:, 4])
    assert item.size_exponent.value == pytest.approx(fit.derived["a"], abs=1e-9)
    assert item.size_exponent.low == pytest.approx(np.percentile(exponents, 2.5, method="weibull"), abs=1e-6)


def test_chinchillas_own_runs_give_the_published_refit_and_profiles_near_it():
    if not TABLES.is_dir():
        pytest.skip("needs the real data beside the project")
    names = {"Model Size": "num_params", "Training FLOP": "train_flops"}
    table = pd.read_csv(TABLES / "chinchilla_epoch.csv").rename(columns=names)
    table = table.assign(data_seen=table.train_flops / 6 / table.num_params, cell=range(len(table)))
    found = compare_approaches(table[table.loss < 3.44], flops=5.76e23, resamples=0)
    assert found["parametric"].size_exponent.value == pytest.approx(0.5139, abs=1e-4)
    assert found["parametric"].num_params.value == pytest.approx(7.32e10, rel=1e-3)
    assert found["isoflop_parabola"].size_exponent.value == pytest.approx(0.5, abs=0.04)


def test_wrong_tables_and_budgets_are_errors(runs):
    with pytest.raises(AnalysisError, match="flops=-1 must be finite and positive"):
        compare_approaches(runs, flops=-1.0)
    with pytest.raises(AnalysisError, match="no usable rows"):
        compare_approaches(runs.assign(status="failed"))
    with pytest.raises(AnalysisError, match="loss"):
        compare_approaches(runs.drop(columns="loss"))
    one = runs[runs.is_final].head(1)
    found = compare_approaches(one, resamples=0)
    assert set(found.missing) == {"envelope", "isoflop_cubic", "isoflop_parabola"}
