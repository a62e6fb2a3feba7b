"""Designs: identifiability before spending, published standard deviations, and next cells that help."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.decisions.design import assess, choose_cells, suggest_cells
from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law

TRUTH = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
FAR = {"num_params": 7e10, "data_seen": 1.4e12}


def square(sizes, ratios):
    N, ratio = (part.ravel() for part in np.meshgrid(sizes, ratios, indexing="ij"))
    return {"num_params": N, "data_seen": N * ratio}


def test_three_sizes_by_three_ratios_give_the_published_standard_deviations():
    found = assess("chinchilla", TRUTH, square(np.geomspace(5e7, 5e9, 3), (5, 20, 80)), target=FAR)
    assert found.is_identified
    assert found.sd["alpha"] == pytest.approx(0.028, abs=5e-4)
    assert found.target_sd == pytest.approx(0.0083, abs=5e-5)


def test_the_same_number_of_runs_at_one_ratio_is_singular_and_says_so():
    found = assess("chinchilla", TRUTH, square(np.geomspace(5e7, 5e9, 9), (20,)))
    assert not found.is_identified
    assert found.condition > 1e12
    assert {"collinear", "not_identified"} <= {notice.code for notice in found.notices}


def test_standard_deviations_are_those_of_simulated_fits():
    cells, law = square(np.geomspace(5e7, 5e9, 6), (5, 20, 80)), get_law("chinchilla")
    found = assess(law, TRUTH, cells, noise=0.002, target_flops=1e23)
    rng, alphas, optima = np.random.default_rng(0), [], []
    for _ in range(40):
        y = law.predict(TRUTH, cells) * np.exp(0.002 * rng.standard_normal(18))
        fit = fit_law(law, cells, y, objective="log_mse")
        alphas.append(fit.params["alpha"])
        optima.append(np.log(fit.derived["G"]) + fit.derived["a"] * np.log(1e23 / 6))
    assert np.std(alphas) == pytest.approx(found.sd["alpha"], rel=0.35)
    assert np.std(optima) == pytest.approx(found.optimum_sd, rel=0.35)


def test_the_choice_beats_as_many_random_cells_at_no_more_cost():
    law, vector = get_law("chinchilla"), np.array(list(TRUTH.values()))
    pool = square(np.geomspace(5e7, 2e10, 12), (2, 5, 20, 80, 160))
    cost = 6 * pool["num_params"] * pool["data_seen"]
    empty = {name: np.empty(0) for name in pool}
    chosen = choose_cells(law, vector[None], empty, pool, cost, 1e22, target=FAR, count=60)
    ours = assess(law, TRUTH, chosen, target=FAR)
    rng, rivals = np.random.default_rng(0), []
    for _ in range(200):  # as many cells, in a random order, as the budget buys
        pick, left = [], chosen["cost"].sum()
        for cell in rng.permutation(np.repeat(np.arange(len(cost)), 2)):
            if cost[cell] <= left and len(pick) < 60:
                pick.append(cell)
                left -= cost[cell]
        rivals.append(assess(law, TRUTH, {n: v[pick] for n, v in pool.items()}, target=FAR).target_sd)
    assert ours.target_sd < np.quantile(rivals, 0.1)


@pytest.mark.parametrize("method", ["v", "d", "greedy"])
def test_suggestions_stay_in_the_budget_and_the_target_gets_surer(method):
    law = get_law("chinchilla")
    table = law.sample(params=TRUTH, levels=5, noise=0.005)
    fit = fit_law(law, table, table["loss"])
    found = suggest_cells(fit, target_flops=1e23, budget_flops=1e21, method=method)
    assert found["train_flops"].sum() <= 1e21
    assert found["cumulative_flops"].is_monotonic_increasing
    assert found["sd_after"].is_monotonic_decreasing


def test_what_a_fit_knows_counts():
    law = get_law("chinchilla")
    rough, sharp = (law.sample(params=TRUTH, levels=4, noise=noise, seeds=1) for noise in (0.02, 0.001))
    one, two = (fit_law(law, table, table["loss"]) for table in (rough, sharp))
    first, second = (
        suggest_cells(fit, target_flops=1e23, budget_flops=1e21, noise=0.005, count=1)["sd_after"].iloc[0]
        for fit in (one, two)
    )
    assert second < first


def test_bad_designs_are_refused():
    with pytest.raises(AnalysisError, match="assumed value"):
        assess("chinchilla", {"E": 1.0}, square([1e8, 1e9, 1e10], (5, 50)))
    with pytest.raises(AnalysisError, match="noise=0 must be positive"):
        assess("chinchilla", TRUTH, square([1e8, 1e9, 1e10], (5, 50)), noise=0.0)
    law = get_law("power_floor")
    table = law.sample(levels=8)
    fit = fit_law(law, table, table["loss"])
    with pytest.raises(AnalysisError, match="num_params and data_seen"):
        suggest_cells(fit, target_flops=1e22, budget_flops=1e20)
    pool = {"data_unique": np.array([1e3, 1e4])}
    with pytest.raises(AnalysisError, match="buys none of the 2 candidates"):
        choose_cells(law, fit.vector[None], pool, pool, np.array([2.0, 3.0]), 1.0, target={"data_unique": 1e6})


def isoflops(low, high, budgets, sizes, times):
    C, (alpha, beta) = np.geomspace(low, high, budgets)[:, None], (TRUTH["alpha"], TRUTH["beta"])
    G = (alpha * TRUTH["A"] / (beta * TRUTH["B"])) ** (1 / (alpha + beta))
    N = G * (C / 6) ** (beta / (alpha + beta)) * np.geomspace(1 / times, times, sizes)
    return {"num_params": N.ravel(), "data_seen": (C / 6 / N).ravel()}


@pytest.mark.parametrize(
    ("grid", "flops", "target_sd", "alpha"),
    [((1e18, 1e20, 3, 5, 4), 5.6e20, 0.0185, 0.020), ((1e17, 1e21, 5, 15, 8), 1.7e22, 0.0034, 0.004)],
)
def test_isoflop_grids_give_the_published_standard_deviations(grid, flops, target_sd, alpha):
    cells = isoflops(*grid)
    found = assess("chinchilla", TRUTH, cells, target=FAR)
    assert float((6 * cells["num_params"] * cells["data_seen"]).sum()) == pytest.approx(flops, rel=0.02)
    assert found.target_sd == pytest.approx(target_sd, abs=5e-5)
    assert found.sd["alpha"] == pytest.approx(alpha, abs=5e-4)


def test_the_noise_of_a_fit_in_units_of_loss_is_taken_relative_to_it():
    law = get_law("chinchilla")
    table = law.sample(params=TRUTH, levels=5, noise=0.005)
    first = [
        suggest_cells(fit_law(law, table, table["loss"], objective=name), target_flops=1e23, budget_flops=1e21, count=1)
        for name in ("log_mse", "mse")
    ]
    gains = [one["gain"].iloc[0] for one in first]
    assert gains[1] == pytest.approx(gains[0], rel=0.5)
