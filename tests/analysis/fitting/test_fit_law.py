"""Claims about fits: recovered laws, weak fits that say so, units, weights, batches and exact round trips."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fitting import solver
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law, refit
from analysis.fitting.objective import make_objective
from analysis.laws.registry import get_law
from tests.analysis.fitting.series import series


@pytest.mark.parametrize("name", ["huber", "lad", "mse", "log_mse", "asymmetric"])
@pytest.mark.parametrize("truth", [(0.1, 5.0, 0.5), (0.3, 0.2, 0.08), (0.0, 3.0, 0.3), (0.12, 9.0, 0.9)])
@pytest.mark.parametrize(("sizes", "runs"), [(4, 1), (11, 3)])
def test_a_power_law_with_floor_is_recovered_from_its_own_points(name, truth, sizes, runs):
    m, y = series(*truth, sizes=sizes, runs=runs, noise=0.0)
    fit = fit_law("power_floor", {"data_unique": m}, y, objective=name)
    np.testing.assert_allclose(fit.predict({"data_unique": m}), y, rtol=1e-6)
    assert tuple(fit.params.values()) == pytest.approx(truth, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("truth", [(0.3, 0.01, 0.2), (0.3, 0.0, 0.1), (0.0, 1.0, 0.1)])
@pytest.mark.parametrize("name", ["huber", "mse"])
def test_no_start_of_many_beats_the_fit(truth, name):
    m, y = series(*truth, runs=2, noise=0.02, seed=3)
    law, goal = get_law("power_floor"), make_objective(name)
    problem = solver.Problem(law, [m], y, goal)
    exponents = problem.grid(60)
    starts = [np.c_[np.tile([a, b], (60, 1)), exponents] for a, b in [(0.5, 0.5), (1e-3, 1.0), (1.0, 1e-3)]]
    fit = fit_law(law, {"data_unique": m}, y, objective=name)
    ends = problem.refine(np.concatenate(starts), y, np.ones(len(y)))
    rivals = law.predict_many(problem.unscale(ends.z), {"data_unique": m})
    assert fit.objective.value <= min(goal.measure(rival, y) for rival in rivals) * (1 + 1e-9)


def test_units_of_y_and_x_do_not_matter():
    m, y = series(0.1, 5.0, 0.5, runs=2)
    small = fit_law("power_floor", {"data_unique": m}, y)
    large = fit_law("power_floor", {"data_unique": m * 1e6}, y * 1e-7)
    assert large.params["alpha"] == pytest.approx(small.params["alpha"], rel=1e-8)
    assert large.objective.value == pytest.approx(small.objective.value, rel=1e-10)


def test_a_weight_counts_as_that_many_points():
    m, y = series(0.1, 5.0, 0.5)
    weights = np.arange(len(m)) % 3
    fit = fit_law("power_floor", {"data_unique": m}, y, weights=weights)
    copied = fit_law("power_floor", {"data_unique": np.repeat(m, weights)}, np.repeat(y, weights))
    assert fit.params == pytest.approx(copied.params, rel=1e-6)
    assert fit.objective.value == pytest.approx(copied.objective.value, rel=1e-9)
    assert fit.n == np.count_nonzero(weights)


def test_a_held_parameter_stays_and_the_others_follow():
    m, y = series(0.1, 5.0, 0.5, noise=0.0)
    fit = fit_law("power_floor", {"data_unique": m}, y, hold={"alpha": 0.5})
    assert fit.params == pytest.approx({"E": 0.1, "A": 5.0}, rel=1e-8)
    assert fit.held == {"alpha": 0.5}
    assert Fit.model_validate_json(fit.model_dump_json()).predict({"data_unique": m}) == pytest.approx(y, rel=1e-8)


def test_a_batch_agrees_with_single_fits():
    m, y = series(0.1, 5.0, 0.5, runs=5)
    targets = y * np.exp(0.01 * np.random.default_rng(1).standard_normal((200, len(y))))
    start = fit_law("power_floor", {"data_unique": m}, y).vector
    batch = refit("power_floor", {"data_unique": m}, targets, start=start)
    for i in range(3):
        single = fit_law("power_floor", {"data_unique": m}, targets[i])
        assert batch[i] == pytest.approx(single.vector, rel=1e-6)


def test_a_batch_with_weight_zero_is_a_fit_without_the_point():
    m, y = series(0.1, 5.0, 0.5, runs=2, noise=0.02)
    start = fit_law("power_floor", {"data_unique": m}, y).vector
    weights = 1.0 - np.eye(len(y))[:6]
    batch = refit("power_floor", {"data_unique": m}, y, weights, start=start)
    for i in range(6):
        single = fit_law("power_floor", {"data_unique": np.delete(m, i)}, np.delete(y, i))
        assert batch[i] == pytest.approx(single.vector, rel=1e-5)


def test_gauss_newton_intervals_cover_under_normal_noise():
    hits = 0
    for seed in range(30):
        m, y = series(0.1, 5.0, 0.5, noise=0.01, seed=seed)
        low, high = fit_law("power_floor", {"data_unique": m}, y, objective="huber", delta=1.0).ci95["alpha"]
        hits += low <= 0.5 <= high
    assert 25 <= hits <= 30


def test_bad_input_is_refused_with_a_remedy():
    x = {"data_unique": np.array([1.0, 2.0])}
    with pytest.raises(AnalysisError, match=r"y=0\.0 must be finite and positive for objective=huber"):
        fit_law("power", x, [1.0, 0.0])
    with pytest.raises(AnalysisError, match="did you mean 'huber'"):
        fit_law("power", x, [1.0, 1.0], objective="hubert")
    with pytest.raises(AnalysisError, match="give one value per point"):
        fit_law("power", x, [1.0])
    with pytest.raises(AnalysisError, match="delta=0 must be positive"):
        fit_law("power", x, [1.0, 1.0], delta=0)
    with pytest.raises(AnalysisError, match="give one weight per point"):
        fit_law("power", x, [1.0, 1.0], weights=[1.0])
    with pytest.raises(AnalysisError, match="finite and not negative"):
        fit_law("power", x, [1.0, 1.0], weights=[1.0, -1.0])
    with pytest.raises(AnalysisError, match="cannot hold the parameter"):
        fit_law("power", x, [1.0, 1.0], hold={"alfa": 1.0})
