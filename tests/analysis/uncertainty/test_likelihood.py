"""Claims about likelihoods: the published ratio, a scale at its maximum, a density with mass one, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.uncertainty import likelihood
from analysis.uncertainty.likelihood import compare_parameters
from tests.analysis.papers import HOFFMANN, read_chinchilla


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
