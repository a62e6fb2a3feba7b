"""Claims about intervals: they cover at their nominal rate, series are paired, and missing seeds are admitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.uncertainty.bootstrap import bootstrap_series, mean_interval
from analysis.uncertainty.resampling import split_two_ways

E, A, ALPHA = 0.1, 5.0, 0.5


def simulate(rng, *, runs=3, between=0.01, within=0.02, label="mlp", truth=(E, A, ALPHA), shared=None):
    m = np.geomspace(100, 6e4, 11)
    effects = between * rng.standard_normal(runs) if shared is None else shared
    noise = effects + within * rng.standard_normal((11, runs))
    loss = (truth[0] + truth[1] * m[:, None] ** -truth[2]) * np.exp(noise)
    columns = {"label": label, "seed": np.tile(np.arange(runs), 11), "data_unique": np.repeat(m, runs)}
    return pd.DataFrame({**columns, "loss": loss.ravel()})


def count_coverage(tables, *, runs, between, resamples):
    rng, at = np.random.default_rng(11), {"data_unique": np.array([6e4, 1e6])}
    truth, hits = E + A * at["data_unique"] ** -ALPHA, np.zeros(4)
    for _ in range(tables):
        result = bootstrap_series(simulate(rng, runs=runs, between=between), "power_floor", "loss", resamples=resamples)
        fit, (_, low, high) = result.fits["mlp"], result.predict("mlp", at)
        ends = [fit.ci95["alpha"], fit.ci95["E"], *zip(low, high, strict=True)]
        hits += [a <= value <= b for (a, b), value in zip(ends, [ALPHA, E, *truth], strict=True)]
    return hits / tables


@pytest.mark.parametrize("runs", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_intervals_cover_near_their_nominal_rate(runs):
    # 30 tables: 0.95 has a standard error of 0.04; a plain percentile bootstrap over 3 seeds reaches about 0.7
    coverage = count_coverage(30, runs=runs, between=0.02, resamples=200)
    assert (coverage >= 0.85).all(), coverage


def test_pure_seed_effects_give_the_t_interval_over_seeds():
    table = simulate(np.random.default_rng(2), between=0.02, within=1e-4)
    result, at = bootstrap_series(table, "power_floor", "loss", objective="mse"), {"data_unique": [2e3]}
    _, low, high = result.predict("mlp", at)
    per_seed = np.log(table["loss"]).groupby(table["seed"]).mean()
    _, expected_low, expected_high = mean_interval(per_seed)
    # three seeds: t is 4.3 where a normal interval would take 1.96
    assert 0.8 < np.log(high / low)[0] / (expected_high - expected_low) < 1.25


@pytest.mark.slow
@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("between", [0.0, 0.01, 0.02])
def test_intervals_cover_in_a_longer_simulation(runs, between):
    coverage = count_coverage(200, runs=runs, between=between, resamples=400)
    assert (coverage >= 0.9).all(), coverage
    assert (coverage[2:] <= 0.995).all(), coverage


def test_series_are_paired_by_seed():
    rng = np.random.default_rng(0)
    shared = np.array([-0.05, 0.0, 0.05])
    parts = [
        simulate(rng, within=0.002, shared=shared, label=name, truth=(0.1, a, 0.5)) for name, a in (("a", 5), ("b", 6))
    ]
    result = bootstrap_series(pd.concat(parts), "power_floor", "loss", resamples=300)
    one, two = (np.log(result.law.predict_many(result.replicates[name], {"data_unique": [2e3]}))[:, 0] for name in "ab")
    assert (one - two).std() < 0.1 * one.std()


def test_the_same_seed_gives_the_same_replicates_and_a_fit_that_survives_json():
    table = simulate(np.random.default_rng(0))
    first, again, other = (bootstrap_series(table, "power_floor", "loss", resamples=50, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.replicates["mlp"], again.replicates["mlp"])
    assert not np.array_equal(first.replicates["mlp"], other.replicates["mlp"])
    fit = first.fits["mlp"]
    assert Fit.model_validate_json(fit.model_dump_json()) == fit
    assert (fit.seed, fit.label, fit.n) == (1, "mlp", 33)
    assert "two-way bootstrap by seed" in fit.conventions["uncertainty"]


@pytest.mark.parametrize("change", [lambda t: t.drop(columns="seed"), lambda t: t[t["seed"] == 0]])
def test_without_repeated_seeds_the_fit_says_so(change):
    table = change(simulate(np.random.default_rng(0), runs=3))
    fit = bootstrap_series(table, "power_floor", "loss", resamples=50).fits["mlp"]
    assert "no_repeated_seeds" in {notice.code for notice in fit.warnings}
    assert fit.ci95["alpha"][0] < fit.params["alpha"] < fit.ci95["alpha"][1]


def test_sizes_may_have_different_numbers_of_runs():
    table = simulate(np.random.default_rng(0), runs=4)
    thin = table[(table["seed"] < 2) | (table["data_unique"] < 2000)]
    single = thin[(thin["seed"] == 0) | (thin["data_unique"] < 3e4)]
    fit = bootstrap_series(single, "power_floor", "loss", resamples=100).fits["mlp"]
    assert fit.ci95["alpha"][0] < ALPHA < fit.ci95["alpha"][1]
    assert np.isfinite(fit.stderr["E"])


def test_diverged_rows_are_counted_as_dropped():
    table = simulate(np.random.default_rng(0)).assign(status="ok")
    table.loc[0, "status"] = "diverged"
    assert bootstrap_series(table, "power_floor", "loss", resamples=20).fits["mlp"].dropped == 1


def test_one_degree_of_freedom_keeps_the_replicates_finite():
    for seed in range(4):
        table = simulate(np.random.default_rng(seed), runs=1, within=1.0)[:4]
        result = bootstrap_series(table, "power_floor", "loss", resamples=1000)
        assert np.isfinite(result.replicates["mlp"]).all()


def test_split_recovers_additive_effects_when_unbalanced():
    place, who = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 2])
    effects, means = np.array([-1.0, 0.0, 1.0]), np.array([5.0, 3.0, 2.0])
    mean, effect, rest = split_two_ways(means[place] + effects[who], place, who)
    np.testing.assert_allclose(mean, means)
    np.testing.assert_allclose(effect, effects, atol=1e-12)
    np.testing.assert_allclose(rest, 0, atol=1e-12)


def test_one_seed_has_no_interval():
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5
    assert np.isnan([low, high]).all()
    with pytest.raises(AnalysisError, match="at least one finite number"):
        mean_interval([])


def test_bad_arguments_are_refused():
    table = simulate(np.random.default_rng(0))
    with pytest.raises(AnalysisError, match="did you mean 'label'"):
        bootstrap_series(table, "power_floor", "loss", by="labels")
    with pytest.raises(AnalysisError, match="resamples=1 must be at least 2"):
        bootstrap_series(table, "power_floor", "loss", resamples=1)
