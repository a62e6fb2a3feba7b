"""Claims about published numbers: the analysis reproduces fits, tests and exponents that others printed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, minimize_scalar, nnls

from analysis.errors import AnalysisError
from analysis.fitting import solver
from analysis.fitting.fit_law import fit_law
from analysis.fitting.objective import make_objective
from analysis.laws.maths import split_budget
from analysis.laws.registry import get_law
from analysis.uncertainty import likelihood
from analysis.uncertainty.likelihood import compare_parameters
from tests.places import TABLES

HOFFMANN = {  # unrounded, from the paper's sources, by Besiroglu et al.
    "E": np.exp(0.5267228),
    "A": np.exp(6.0073404),
    "B": np.exp(6.0179186),
    "alpha": 0.33917084,
    "beta": 0.2849083,
}
ROUNDED = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def read_public(name):
    if not (TABLES / name).exists():
        pytest.skip(f"{name} is not here")
    return pd.read_csv(TABLES / name)


def read_chinchilla(n=240):
    table = read_public("chinchilla_epoch.csv").sort_values("loss").iloc[:n]
    size = table["Model Size"].to_numpy()
    return {"num_params": size, "data_seen": table["Training FLOP"].to_numpy() / (6 * size)}, table["loss"].to_numpy()


def read_gadre(data, rows=None):
    table = read_public("gadre_c4_refinedweb.csv").query(f"dataset_name == '{data}_original'")
    table = table if rows is None else table.query(rows)
    columns = {"num_params": table["N"].to_numpy(float), "data_seen": table["D"].to_numpy(float)}
    return columns, table["loss_c4_val"].to_numpy()


def read_kyo_takano():
    table = read_public("kyo_takano_llm.csv")
    return {"num_params": table["N"].to_numpy(float), "data_seen": table["D"].to_numpy(float)}, table["loss"].to_numpy()


def read_vision():
    """All 72 curves: task and model, training points, points to predict."""
    table = read_public("revisiting_vision.csv.gz")
    return [
        (key, *(part.query(f"Training == {flag}") for flag in (1, 0))) for key, part in table.groupby(["Task", "Model"])
    ]


# --- Besiroglu et al. 2024 ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("params", "value"), [(HOFFMANN, 1.231163e-3), (ROUNDED, 4.121009e-3)])
def test_hoffmanns_parameters_have_the_reference_objectives(params, value):
    columns, y = read_chinchilla()
    fitted = get_law("chinchilla").predict(params, columns)
    assert make_objective("huber", 1e-3).measure(fitted, y) == pytest.approx(value, abs=5e-10)


@pytest.mark.parametrize(
    ("params", "n_star", "d_star"),
    [
        ({"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}, 7.236e10, 1.327e12),
        (HOFFMANN, 4.036e10, 2.379e12),
        (ROUNDED, 3.219e10, 2.982e12),
    ],
)
def test_optimal_allocations_at_chinchillas_budget(params, n_star, d_star):
    split = split_budget(params)
    flops = 5.76e23 / 6
    assert split["G"] * flops ** split["a"] == pytest.approx(n_star, rel=2e-4)
    assert flops ** split["b"] / split["G"] == pytest.approx(d_star, rel=4e-4)


def test_the_likelihood_ratio_against_hoffmann_is_the_published_one():
    fit = fit_law("chinchilla", *read_chinchilla(), objective="lad")
    result = compare_parameters(fit, HOFFMANN, *read_chinchilla())
    assert result.statistic == pytest.approx(84.00, abs=0.005)
    assert (result.df, result.n) == (5, 240)
    assert result.p == pytest.approx(1.2e-16, rel=0.05)
    assert np.log(result.scales[0]) == pytest.approx(-12.27, abs=0.005)
    # the published value with the outliers: the same parameters, fitted on 240 points, judged on all 245
    assert compare_parameters(fit, HOFFMANN, *read_chinchilla(245)).statistic == pytest.approx(86.75, abs=0.005)


def test_the_likelihoods_scale_is_its_maximum_and_the_density_has_mass_one():
    rng = np.random.default_rng(0)
    residuals = 0.005 * rng.standard_normal(101)
    for delta in (1e-3, 0.1, 1.5):
        scale = likelihood.fit_scale(residuals, delta)
        best = likelihood.measure_log_likelihood(residuals, scale, delta)
        assert all(
            likelihood.measure_log_likelihood(residuals, scale * factor, delta) < best for factor in (0.99, 1.01)
        )
        reach = 40 * (1 + 1 / delta)
        x = np.linspace(-reach, reach, 400_001)
        density = np.exp([likelihood.measure_log_likelihood(np.array([at]), 1.0, delta) for at in x[::400]])
        assert np.trapezoid(density, x[::400]) == pytest.approx(1, rel=2e-2)


def test_a_comparison_needs_all_parameters_and_positive_targets():
    columns, y = read_chinchilla()
    fit = fit_law("power", {"data_unique": columns["num_params"]}, y)
    with pytest.raises(AnalysisError, match="params lack alpha of law power"):
        compare_parameters(fit, {"A": 1.0}, {"data_unique": columns["num_params"]}, y)
    with pytest.raises(AnalysisError, match="must be finite and positive"):
        compare_parameters(fit, {"A": 1.0, "alpha": 0.1}, {"data_unique": columns["num_params"]}, -y)


# --- Gadre et al. 2024 ----------------------------------------------------------------------------------------------


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


# --- Muennighoff et al. 2023 ----------------------------------------------------------------------------------------


def predict_repeated(size, seen, unique):
    law = get_law("data_constrained")
    at = {"num_params": np.array([size]), "data_seen": np.array([seen]), "data_unique": np.array([unique])}
    return law.predict(law.example, at)[0]


def test_the_data_constrained_law_gives_its_authors_numbers():
    assert predict_repeated(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-15)
    assert predict_repeated(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-15)
    split, flops = split_budget(get_law("data_constrained").example), 5.76e23 / 6
    assert split["G"] * flops ** split["a"] == pytest.approx(69_962_173_313.5, rel=1e-12)
    assert flops ** split["b"] / split["G"] == pytest.approx(1_372_170_066_384.2, rel=1e-12)


def test_the_optimal_number_of_epochs_is_the_published_one():
    best = minimize_scalar(
        lambda log_size: predict_repeated(np.exp(log_size), 1e22 / 6 / np.exp(log_size), 25e9),
        bounds=(np.log(1e9), np.log(1e11)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    published = 7_022_364_735.88  # of a search on a grid: 237,336,955,477.55 tokens, 9.4935 epochs
    assert np.exp(best.x) == pytest.approx(published, rel=1e-3)
    assert 1e22 / 6 / np.exp(best.x) / 25e9 == pytest.approx(9.4935, rel=1e-3)
    assert best.fun <= predict_repeated(published, 237_336_955_477.55, 25e9)


@pytest.mark.parametrize(("noise", "close"), [(0.0, 1e-6), (0.003, 0.1)])
def test_both_stages_recover_the_data_constrained_law(noise, close):
    truth, rng = get_law("data_constrained").example, np.random.default_rng(0)
    split = split_budget(truth)
    flops = np.repeat(np.geomspace(1e18, 3e21, 6), 9)  # 54 runs of six budgets, all on fresh data
    size = split["G"] * (flops / 6) ** split["a"] * np.tile(np.geomspace(0.25, 4, 9), 6)
    fresh = {"num_params": size, "data_seen": flops / 6 / size}
    tied = get_law("chinchilla_tied")
    clean = tied.predict({name: truth[name] for name in tied.params}, fresh)
    base = fit_law(tied, fresh, clean * np.exp(noise * rng.standard_normal(54)))
    held = {**base.params, "beta": base.params["alpha"]}
    unique = np.repeat([1e8, 4e8, 1.5e9, 4e9, 9e9, 25e9], 30)  # 180 runs of up to 50 epochs
    repeated = {
        "num_params": np.tile(np.repeat([1e8, 1.1e9, 8e9], 10), 6),
        "data_seen": unique * np.tile(np.geomspace(1, 50, 10), 18),
        "data_unique": unique,
    }
    y = get_law("data_constrained").predict(truth, repeated) * np.exp(noise * rng.standard_normal(180))
    fit = fit_law("data_constrained", repeated, y, hold=held)
    assert fit.params == pytest.approx({"R_D": truth["R_D"], "R_N": truth["R_N"]}, rel=close)
    assert fit.held == held


# --- Pearce & Song 2024; Porian et al. 2024 -------------------------------------------------------------------------


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


# --- Clark et al. 2022 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "close"), [(0.0, 1e-6), (5e-4, 0.15)])
def test_clarks_law_of_routed_models_is_recovered(noise, close):
    law = get_law("moe")
    table = law.sample(noise=noise, seeds=2 if noise else 1)
    fit = fit_law(law, table, table["loss"])
    assert fit.params == pytest.approx(dict(law.example), rel=close)
    far = {"num_params": np.array([1e10]), "num_experts": np.array([64.0])}
    assert fit.predict(far) == pytest.approx(law.predict(law.example, far), rel=max(close, 0.02) / 10)


# --- Alabdulmohsin et al. 2022 --------------------------------------------------------------------------------------


def score_curves(curves, laws=("m1", "m2", "m3", "m4"), every=1):
    """Mean over curves of the authors' score of each law: root mean square of log errors where it extrapolates."""
    scores = {law: [] for law in laws}
    for _, train, test in curves:
        for law in laws:
            seen = {"data_seen": train["Seen Examples"].to_numpy()[::every]}
            fit = fit_law(law, seen, train["Loss"].to_numpy()[::every], objective="log_mse")
            fitted = fit.predict({"data_seen": test["Seen Examples"].to_numpy()})
            scores[law].append(np.sqrt(np.mean((np.log(fitted) - np.log(test["Loss"].to_numpy())) ** 2)))
    return {law: float(np.mean(values)) for law, values in scores.items()}


@pytest.mark.slow
def test_m4_extrapolates_best_on_the_mean_over_four_image_curves(monkeypatch):
    monkeypatch.setattr(solver, "MAX_ITERATIONS", 40)  # the best start arrives in some 20 steps, the worst in 300
    scores = score_curves(read_vision()[::18], every=4)
    assert scores["m4"] < min(scores["m1"], scores["m2"], scores["m3"])


@pytest.mark.slow
def test_m4_extrapolates_best_on_the_mean_over_all_image_curves(monkeypatch):
    monkeypatch.setattr(solver, "MAX_ITERATIONS", 60)
    curves = read_vision()
    assert len(curves) == 72
    scores = score_curves(curves)
    assert scores["m4"] < 0.7 * min(scores["m1"], scores["m2"], scores["m3"])


# --- no optimiser does better ---------------------------------------------------------------------------------------


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
