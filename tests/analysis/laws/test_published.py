"""Claims about published numbers: the analysis reproduces fits, tests and exponents that others printed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from analysis.fitting.fit_law import fit_law
from analysis.fitting.objective import make_objective
from analysis.laws.registry import get_law
from tests.analysis.papers import read_chinchilla, read_gadre, read_kyo_takano, read_public


def test_huber_reaches_the_global_optimum_of_chinchillas_points():
    fit = fit_law("chinchilla", *read_chinchilla())
    assert fit.n == 240
    assert fit.objective.value == pytest.approx(0.0010182740178, rel=1e-10)
    expected = {"E": 1.817218, "A": 477.826, "B": 2143.417, "alpha": 0.347310, "beta": 0.367172}
    assert fit.params == pytest.approx(expected, rel=2e-6)
    assert fit.status == "ok"
    assert 1e6 < fit.condition < 1e8
    assert fit.derived["a"] == pytest.approx(0.5139, abs=5e-5)


@pytest.mark.parametrize(
    ("delta", "A", "B", "E", "alpha", "beta"),
    [
        (0.1, 593.3, 4875.6, 1.8646, 0.3603, 0.4059),
        (0.01, 538.8, 2905.6, 1.8381, 0.3544, 0.3815),
        (0.003, 493.3, 2212.8, 1.8209, 0.3493, 0.3686),
        (0.001, 477.83, 2143.4, 1.81722, 0.34731, 0.36717),
        (1e-4, 478.7, 2065.4, 1.8158, 0.3474, 0.3654),
        (1e-6, 481.93, 2085.00, 1.81684, 0.34780, 0.36584),
        (5e-9, 482.01, 2085.43, 1.81686, 0.34781, 0.36585),
    ],
)
def test_every_delta_of_huber_has_its_own_optimum(delta, A, B, E, alpha, beta):
    fit = fit_law("chinchilla", *read_chinchilla(), delta=delta)
    assert fit.params["A"] == pytest.approx(A, rel=2e-4)
    assert fit.params["B"] == pytest.approx(B, rel=2e-4)
    assert (fit.params["E"], fit.params["alpha"], fit.params["beta"]) == pytest.approx((E, alpha, beta), abs=5.1e-5)


def test_lad_gives_the_published_coefficients():
    fit = fit_law("chinchilla", *read_chinchilla(), objective="lad")
    assert fit.objective.value <= 1.1294948
    expected = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    assert fit.params == pytest.approx(expected, rel=1.4e-5)  # half a unit of the last printed digit


def test_mse_gives_the_reference_coefficients():
    fit = fit_law("chinchilla", *read_chinchilla(), objective="mse")
    assert fit.objective.value == pytest.approx(0.083204, abs=1e-6)
    expected = {"E": 1.8828, "A": 567.8, "B": 7582, "alpha": 0.3576, "beta": 0.4276}
    assert fit.params == pytest.approx(expected, rel=1e-4)


def test_keeping_the_five_outliers_moves_the_optimum():
    fit = fit_law("chinchilla", *read_chinchilla(245))
    assert fit.objective.value == pytest.approx(1.826011e-3, abs=5e-10)
    expected = {"E": 1.89134, "A": 495.73, "B": 12846, "alpha": 0.34931, "beta": 0.45305}
    assert fit.params == pytest.approx(expected, rel=4e-5)
    assert fit.derived["a"] == pytest.approx(0.5646, abs=5e-5)


@pytest.mark.parametrize(
    ("data", "n", "optimum", "params"),
    [
        ("c4", 34, 0.00052995413, (1.62002, 0.252574, 0.262229)),
        ("rw", 35, 0.000475725502, (1.70134, 0.222587, 0.289773)),
    ],
)
def test_gadres_runs_reach_their_reference_optimum(data, n, optimum, params):
    fit = fit_law("chinchilla", *read_gadre(data))
    assert fit.n == n
    assert fit.objective.value == pytest.approx(optimum, rel=1e-8)
    assert (fit.params["E"], fit.params["alpha"], fit.params["beta"]) == pytest.approx(params, rel=5e-6)


def test_five_small_runs_give_gadres_published_law_and_predict_larger_ones():
    rows = "(tok_mult == 20 and N < 1e9) or (tok_mult == 320 and N < 2e7)"  # four sizes at M = 20, one over-trained
    fit = fit_law("overtrained", *read_gadre("c4", rows), objective="mse")
    assert fit.n == 5
    assert fit.params["E"] == pytest.approx(1.5083, abs=5e-5)
    assert fit.params["a"] == pytest.approx(141.3, abs=0.05)
    assert fit.derived["A"] == pytest.approx(113.7, abs=0.05)
    assert fit.params["b"] == pytest.approx(189.5, abs=0.05)
    assert fit.params["eta"] == pytest.approx(0.1212, abs=5e-5)
    columns, y = read_gadre("c4", "N > 1e9 and N < 2e9")  # up to 49 times the FLOPs, and over-trained
    assert np.abs(fit.predict(columns) / y - 1) == pytest.approx([0, 0], abs=0.016)


def trace_frontier(A, B, alpha, beta, E, *, total):
    """Optimal sizes and losses on budgets C of Kaplan's range, counted with or without embeddings."""
    small = np.geomspace(10, 1e13, 40_001)
    whole = small + 47_491 * small ** (1 / 3)
    size, slope = (whole, np.ones_like(whole)) if total else (small, 1 + 47_491 / 3 * small ** (-2 / 3))
    # where C = 6 size D is fixed: A alpha whole^(-alpha-1) dwhole = B beta D^-beta dsize / size
    data = (beta * B / (alpha * A) * whole ** (1 + alpha) / (size * slope)) ** (1 / beta)
    loss = E + A * whole**-alpha + B * data**-beta
    budgets = np.log(np.logspace(13.4 if total else 12.95, 20.7, 100))
    path = np.log(6 * size * data)
    return budgets, np.interp(budgets, path, np.log(size)), np.interp(budgets, path, np.log(loss))


@pytest.mark.parametrize(
    ("constants", "size", "loss", "above_floor", "all_params"),
    [
        ((406.4, 410.7, 0.3392, 0.2849, 1.6934), 0.7388, -0.0659, -0.120, 0.4577),
        ((482.01, 2085.43, 0.3478, 0.3658, 1.8172), 0.7805, -0.0690, -0.133, 0.5154),
    ],
)
def test_leaving_out_embeddings_turns_chinchillas_exponent_into_kaplans(constants, size, loss, above_floor, all_params):
    budgets, sizes, losses = trace_frontier(*constants, total=False)
    assert np.polyfit(budgets, sizes, 1)[0] == pytest.approx(size, abs=0.01)
    assert np.polyfit(budgets, losses, 1)[0] == pytest.approx(loss, abs=1e-4)
    reducible = np.log(np.exp(losses) - constants[-1])
    assert np.polyfit(budgets, reducible, 1)[0] == pytest.approx(above_floor, abs=5e-4)
    budgets, sizes, _ = trace_frontier(*constants, total=True)
    assert np.polyfit(budgets, sizes, 1)[0] == pytest.approx(all_params, abs=0.01)


@pytest.mark.parametrize(
    ("stage", "exponent", "r2"),
    [
        ("base long kaplan kaplan train", 0.8353, 0.999),
        ("base long kaplan standard val", 0.7065, 0.998),
        ("base short kaplan standard val", 0.6020, 0.993),
        ("base short chinchilla standard val", 0.5715, 0.998),
        ("tuned short const standard val", 0.4969, 0.998),
    ],
)
def test_porians_path_from_kaplans_to_chinchillas_exponent(stage, exponent, r2):
    table = read_public("porian_refinedweb_isoflop.csv").query("kind == 'star'").dropna(subset=["n_star"])
    parts = table[["hparams", "warmup", "decay", "param_count", "val"]].agg(" ".join, axis=1)
    stars = table[parts == stage]
    assert len(stars) >= 11
    x, y = np.log(stars["flops"]), np.log(stars["n_star"])
    weights = 1 / stars["n_star_std"] ** 2
    # log N* = log A + a log C is a power law: its fit by weighted squares of logarithms is the published regression
    power = get_law("power").bind(["flops"])
    fit = fit_law(power, {"flops": stars["flops"]}, 1 / stars["n_star"], weights=weights, objective="log_mse")
    assert fit.params["alpha"] == pytest.approx(exponent, abs=5e-5)
    plain = np.polyfit(x, y, 1)
    assert 1 - np.var(y - np.polyval(plain, x)) / np.var(y) == pytest.approx(r2, abs=6e-4)


def search_otherwise(law, columns, y, objective, starts, seed=0):
    """Best objective of SciPy's BFGS and simplex searches from random starts; no code of the solver's."""
    law, goal, rng = get_law(law), make_objective(objective), np.random.default_rng(seed)
    arrays, k = law.read(columns), len(law.linear)
    low, high = np.array([item.resolve({}) for item in law.ranges.values()]).T
    narrower = {"mse": [], "huber": [0.1, 1e-2], "lad": [0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]}[objective]
    best = np.inf
    for _ in range(starts):
        u = low + (high - low) * rng.random(len(low)) ** 2
        basis = np.stack([np.broadcast_to(part, y.shape) for part in law.terms(*arrays, *u)], 1)
        norm = np.abs(basis).max(0)
        z = np.r_[np.sqrt(np.maximum(nnls(basis / norm / y[:, None], np.ones_like(y))[0], 1e-6)), u]

        def measure(z, goal, norm=norm):
            with np.errstate(all="ignore"):
                value = law.evaluate(arrays, [*(z[:k] ** 2 / norm), *np.clip(z[k:], low, high)])
            return min(goal.measure(value, y), 1e10)

        for stage in [*(make_objective("huber", delta) for delta in narrower), goal]:
            for _ in range(2):
                top = measure(z, stage)
                z = minimize(lambda z: measure(z, stage) / top, z, method="BFGS", options={"gtol": 1e-12}).x  # noqa: B023
        z = minimize(measure, z, (goal,), "Nelder-Mead", options={"maxfev": 1500, "xatol": 1e-12, "fatol": 1e-18}).x
        best = min(best, measure(z, goal))
    return best


READERS = {
    "besiroglu": read_chinchilla,
    "all 245": lambda: read_chinchilla(245),
    "c4": lambda: read_gadre("c4"),
    "refinedweb": lambda: read_gadre("rw"),
    "kyo-takano": read_kyo_takano,
}


@pytest.mark.parametrize("objective", ["huber", "lad", "mse"])
def test_two_starts_of_another_optimiser_do_not_beat_the_fit(objective):
    columns, y = read_gadre("c4")
    fit = fit_law("overtrained", columns, y, objective=objective)
    assert fit.objective.value <= search_otherwise("overtrained", columns, y, objective, 2) + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["huber", "lad", "mse"])
@pytest.mark.parametrize("table", sorted(READERS))
@pytest.mark.parametrize("law", ["chinchilla", "chinchilla_tied", "overtrained"])
def test_no_other_optimiser_beats_the_fit(law, table, objective):
    columns, y = READERS[table]()
    fit = fit_law(law, columns, y, objective=objective)
    assert fit.objective.value <= search_otherwise(law, columns, y, objective, 4) + 1e-9
