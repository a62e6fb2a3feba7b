"""Claims about fits: global optima of published tables, recovered laws, weak fits that say so, exact round trips."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fit import Fit, fit_batch, fit_law, fit_table, measure_objective
from analysis.laws import AnalysisError, get_law
from analysis.solver import Problem

TABLES = Path(__file__).parents[3] / "shared" / "data" / "scaling-tables"


def read_public(name):
    if not (TABLES / name).exists():
        pytest.skip(f"{name} is not here")
    return pd.read_csv(TABLES / name)


@pytest.fixture(scope="module")
def besiroglu():
    table = read_public("chinchilla_epoch.csv").sort_values("loss").iloc[:-5]
    num_params, flops = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    return {"num_params": num_params, "data_seen": flops / (6 * num_params)}, table["loss"].to_numpy()


def series(E, A, alpha, *, sizes=11, runs=1, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    m = np.repeat(np.geomspace(100, 6e4, sizes), runs)
    return m, (E + A * m**-alpha) * np.exp(noise * rng.standard_normal(len(m)))


def test_huber_reaches_the_global_optimum_of_chinchillas_points(besiroglu):
    fit = fit_law("chinchilla", *besiroglu)
    assert fit.n == 240
    assert fit.objective["value"] <= 1.0182741e-3
    expected = {"E": 1.817218, "A": 477.826, "B": 2143.417, "alpha": 0.347310, "beta": 0.367172}
    assert fit.params == pytest.approx(expected, rel=2e-6)
    assert fit.status == "ok"
    assert 1e6 < fit.condition < 1e8


def test_lad_gives_the_published_coefficients(besiroglu):
    fit = fit_law("chinchilla", *besiroglu, objective="lad")
    assert fit.objective["value"] <= 1.1294948
    expected = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    assert fit.params == pytest.approx(expected, rel=1.4e-5)  # half a unit of the last printed digit


def test_mse_gives_the_reference_coefficients(besiroglu):
    fit = fit_law("chinchilla", *besiroglu, objective="mse")
    assert fit.objective["value"] == pytest.approx(0.083204, abs=1e-6)
    expected = {"E": 1.8828, "A": 567.8, "B": 7582, "alpha": 0.3576, "beta": 0.4276}
    assert fit.params == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("data", "optimum", "params"),
    [("c4", 0.00052995413, (1.62002, 0.252574, 0.262229)), ("rw", 0.000475725502, (1.70134, 0.222587, 0.289773))],
)
def test_gadres_runs_reach_their_reference_optimum(data, optimum, params):
    table = read_public("gadre_c4_refinedweb.csv").query(f"dataset_name == '{data}_original'")
    columns = {"num_params": table["N"].to_numpy(float), "data_seen": table["D"].to_numpy(float)}
    fit = fit_law("chinchilla", columns, table["loss_c4_val"].to_numpy())
    assert fit.objective["value"] == pytest.approx(optimum, rel=1e-7)
    assert (fit.params["E"], fit.params["alpha"], fit.params["beta"]) == pytest.approx(params, rel=5e-6)


@pytest.mark.parametrize("objective", ["huber", "lad", "mse"])
@pytest.mark.parametrize("truth", [(0.1, 5.0, 0.5), (0.3, 0.2, 0.08), (0.0, 3.0, 0.3), (0.12, 9.0, 0.9)])
@pytest.mark.parametrize(("sizes", "runs"), [(4, 1), (11, 3)])
def test_a_power_law_with_floor_is_recovered_from_its_own_points(objective, truth, sizes, runs):
    m, y = series(*truth, sizes=sizes, runs=runs, noise=0.0)
    fit = fit_law("power_floor", {"data_unique": m}, y, objective=objective)
    np.testing.assert_allclose(fit.predict({"data_unique": m}), y, rtol=1e-6)
    assert tuple(fit.params.values()) == pytest.approx(truth, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("truth", [(0.3, 0.01, 0.2), (0.3, 0.0, 0.1), (0.0, 1.0, 0.1), (0.1, 5.0, 0.5)])
@pytest.mark.parametrize("objective", ["huber", "mse"])
def test_no_start_of_many_beats_the_fit(truth, objective):
    m, y = series(*truth, runs=2, noise=0.02, seed=3)
    problem = Problem(get_law("power_floor"), [m], y[None], objective, 1e-3)
    theta = problem.grid(60)
    tops = [(0.5, 0.5), (1e-3, 1.0), (1.0, 1e-3)]
    starts = np.concatenate([np.c_[np.full(60, a), np.full(60, b), theta] for a, b in tops])
    fit = fit_law("power_floor", {"data_unique": m}, y, objective=objective)
    for z in problem.unscale(problem.refine(starts)[0]):
        rival = measure_objective(get_law("power_floor"), [m], y, z, objective, 1e-3)
        assert fit.objective["value"] <= rival * (1 + 1e-9)


def test_an_almost_flat_series_is_weak_and_says_why():
    m = np.geomspace(100, 6e4, 8)
    fit = fit_law("power_floor", {"data_unique": m}, np.full(8, 0.3))
    assert fit.status == "weak"
    assert any("pinned at 0" in text or "hardly identified" in text for text in fit.warnings)
    np.testing.assert_allclose(fit.predict({"data_unique": m}), 0.3, rtol=1e-9)


def test_a_floor_at_zero_is_reported_as_pinned():
    m, y = series(-0.002, 3.0, 0.3, noise=0.0)  # falls a little faster than any power
    fit = fit_law("power_floor", {"data_unique": m}, y)
    assert fit.params["E"] == 0
    assert fit.stderr["E"] is None
    assert fit.warnings == [
        "E is pinned at 0: no floor is visible in this range, and prediction beyond it assumes none"
    ]


def test_three_sizes_are_too_few_for_three_parameters():
    fit = fit_law("power_floor", {"data_unique": [10.0, 100.0, 1000.0] * 3}, np.repeat([[0.9, 0.5, 0.4]], 3, 0).ravel())
    assert fit.status == "weak"
    assert "3 distinct points for 3 parameters" in fit.warnings[0]


def test_a_collinear_design_is_weak():
    num_params = np.geomspace(1e7, 1e10, 9)
    columns = {"num_params": num_params, "data_seen": 20 * num_params}
    fit = fit_law(
        "chinchilla", columns, get_law("chinchilla").predict_many(np.array([[1.8, 400, 2000, 0.35, 0.37]]), columns)[0]
    )
    assert fit.condition is None or fit.condition > 1e15
    assert fit.status == "weak"


def test_a_saved_fit_predicts_bit_for_bit():
    m, y = series(0.1, 5.0, 0.5)
    fit = fit_law("power_floor", {"data_unique": m}, y, label="mlp")
    again = Fit.model_validate_json(fit.model_dump_json())
    assert again == fit
    assert again.predict({"data_unique": m}).tobytes() == fit.predict({"data_unique": m}).tobytes()


def test_units_of_y_and_x_do_not_matter():
    m, y = series(0.1, 5.0, 0.5, runs=2)
    small = fit_law("power_floor", {"data_unique": m}, y)
    large = fit_law("power_floor", {"data_unique": m * 1e6}, y * 1e-7)
    assert large.params["alpha"] == pytest.approx(small.params["alpha"], rel=1e-8)
    assert large.objective["value"] == pytest.approx(small.objective["value"], rel=1e-10)


def test_batch_agrees_with_single_fits_and_is_fast():
    m, y = series(0.1, 5.0, 0.5, runs=5)
    targets = y * np.exp(0.01 * np.random.default_rng(1).standard_normal((1000, len(y))))
    start = np.array(list(fit_law("power_floor", {"data_unique": m}, y).params.values()))
    before = time.process_time()
    batch = fit_batch("power_floor", {"data_unique": m}, targets, start=start)
    assert time.process_time() - before < 2  # 0.12 s on a quiet core
    for i in range(5):
        single = fit_law("power_floor", {"data_unique": m}, targets[i])
        assert batch[i] == pytest.approx(list(single.params.values()), rel=1e-6)


def test_gauss_newton_intervals_cover_under_normal_noise():
    hits = 0
    for seed in range(60):
        m, y = series(0.1, 5.0, 0.5, noise=0.01, seed=seed)
        low, high = fit_law("power_floor", {"data_unique": m}, y, objective="huber", delta=1.0).ci95["alpha"]
        hits += low <= 0.5 <= high
    assert 52 <= hits <= 60


def test_a_table_is_fitted_on_its_usable_rows():
    m, y = series(0.1, 5.0, 0.5, noise=0.0)
    table = pd.DataFrame({"data_unique": m, "loss": y, "status": "ok", "is_final": True})
    spoilt = pd.concat(
        [table, table.iloc[:2].assign(status="diverged", loss=9.0), table.iloc[:1].assign(is_final=False)]
    )
    fit = fit_table(spoilt, "power_floor", "loss")
    assert (fit.n, fit.dropped) == (11, 3)
    assert fit.params["alpha"] == pytest.approx(0.5, rel=1e-6)
    assert len(fit.table_sha256) == 64


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
