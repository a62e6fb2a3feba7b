"""Claims about noise: its two levels are told apart, and weights that follow from it make fits more precise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.uncertainty.noise import Noise, evaluation_variance, measure_noise, weigh_rows

SIZES = np.geomspace(100, 1e5, 40)


def repeat(rng, sd, *, sizes=SIZES, seeds=4, clean=None, **columns):
    clean = 0.1 + 5 * sizes**-0.5 if clean is None else clean
    spread = np.broadcast_to(sd, len(sizes))
    tables = [
        pd.DataFrame(
            {
                "data_unique": sizes,
                "seed": seed,
                "loss": clean * np.exp(spread * rng.standard_normal(len(sizes))),
                **columns,
            }
        )
        for seed in range(seeds)
    ]
    return pd.concat(tables, ignore_index=True)


def test_even_noise_is_measured_and_has_no_trend():
    noise = measure_noise(repeat(np.random.default_rng(0), 0.02), "loss")
    # 120 degrees of freedom: a standard deviation is known to 6 %
    assert noise.run_sd == pytest.approx(0.02, rel=0.15)
    assert (noise.slope, noise.freedom, noise.size, noise.evaluation_sd) == (0.0, 120, "data_unique", 0.0)


def test_noise_that_falls_with_size_is_measured_with_its_exponent():
    sd = 0.02 * (SIZES / 1e3) ** -0.5
    noise = measure_noise(repeat(np.random.default_rng(1), sd), "loss")
    assert noise.slope == pytest.approx(-0.5, abs=0.15)
    np.testing.assert_allclose(noise.run_sd_at(np.array([1e2, 1e3, 1e4])), 0.02 * np.sqrt([10, 1, 0.1]), rtol=0.35)


def test_a_trend_is_rarely_found_where_there_is_none():
    found = [measure_noise(repeat(np.random.default_rng(seed), 0.02), "loss").slope != 0 for seed in range(100)]
    assert sum(found) <= 13  # 5 of 100 are expected at two standard errors


def test_series_at_other_levels_are_no_noise():
    rng = np.random.default_rng(2)
    two = pd.concat([repeat(rng, 0.01, label="mlp"), repeat(rng, 0.01, clean=np.full(40, 2.0), label="lstm")])
    assert measure_noise(two, "loss").run_sd == pytest.approx(0.01, rel=0.15)


def test_the_evaluation_set_adds_noise_of_its_own_which_is_taken_off():
    rng, size = np.random.default_rng(3), 2000
    share = np.full(40, 0.1)
    table = repeat(rng, 0.03, clean=share, seeds=12).rename(columns={"loss": "error"})
    table["error"] = rng.binomial(size, table["error"]) / size
    together = measure_noise(table, "error").run_sd
    noise = measure_noise(table, "error", evaluation_size=size)
    expected = np.sqrt(0.9 / (0.1 * size))  # 0.067, above the runs' 0.03
    assert noise.evaluation_sd == pytest.approx(expected, rel=0.1)
    assert together == pytest.approx(np.hypot(0.03, expected), rel=0.1)
    assert noise.run_sd == pytest.approx(0.03, abs=0.012)


def test_evaluation_noise_is_binomial():
    rng = np.random.default_rng(4)
    drawn = np.log(rng.binomial(5000, 0.3, 20000) / 5000)
    variance = evaluation_variance(np.array([0.3]), "accuracy", 5000)[0]
    assert drawn.var() == pytest.approx(variance, rel=0.05)
    assert np.isfinite(evaluation_variance(np.array([0.0, 1.0]), "error", 100)).all()


def test_weights_are_the_inverse_of_both_variances():
    rows = pd.DataFrame({"data_unique": [100.0, 400.0], "error": [0.5, 0.2]})
    noise = Noise(run_sd=0.02, slope=-0.5, middle=100.0, size="data_unique", freedom=9, evaluation_sd=0.0)
    weights = weigh_rows(rows, "error", noise, evaluation_size=1000)
    variance = np.array([0.02**2 + 1e-3, 0.01**2 + 4e-3])
    np.testing.assert_allclose(weights[0] / weights[1], variance[1] / variance[0])
    assert weights.mean() == pytest.approx(1)


def test_weights_from_measured_noise_make_the_exponent_more_precise():
    sizes = np.geomspace(100, 1e5, 12)
    sd = 0.03 * (sizes / 1e3) ** -0.5
    errors = {"even": [], "weighted": []}
    for seed in range(25):
        table = repeat(np.random.default_rng(seed), sd, sizes=sizes, seeds=3)
        x, y = {"data_unique": table["data_unique"].to_numpy()}, table["loss"].to_numpy()
        weights = weigh_rows(table, "loss", measure_noise(table, "loss"))
        for name, given in (("even", None), ("weighted", weights)):
            fit = fit_law("power_floor", x, y, weights=given, objective="log_mse")
            errors[name].append(fit.params["alpha"] - 0.5)
    even, weighted = (np.sqrt(np.mean(np.square(errors[name]))) for name in ("even", "weighted"))
    assert weighted < 0.8 * even


def test_bad_arguments_are_refused():
    table = repeat(np.random.default_rng(0), 0.02, seeds=1)
    with pytest.raises(AnalysisError, match="0 degrees of freedom"):
        measure_noise(table, "loss")
    with pytest.raises(AnalysisError, match="name the column"):
        measure_noise(table[["loss"]], "loss")
    with pytest.raises(AnalysisError, match="evaluation_size=100 gives the noise of error and accuracy"):
        measure_noise(repeat(np.random.default_rng(0), 0.02), "loss", evaluation_size=100)
    same = repeat(np.random.default_rng(0), 0.0)
    with pytest.raises(AnalysisError, match="identical"):
        weigh_rows(same, "loss", measure_noise(same, "loss"))
