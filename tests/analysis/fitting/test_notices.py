"""Claims about what a fit says of its own weakness."""

from __future__ import annotations

import numpy as np

from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from tests.analysis.fitting.series import codes, series


def test_an_almost_flat_series_is_weak_and_says_why():
    m = np.geomspace(100, 6e4, 8)
    fit = fit_law("power_floor", {"data_unique": m}, np.full(8, 0.3))
    assert fit.status == "weak"
    assert codes(fit) & {"pinned", "at_bound", "ill_conditioned"}
    np.testing.assert_allclose(fit.predict({"data_unique": m}), 0.3, rtol=1e-9)


def test_a_floor_at_zero_is_reported_as_pinned():
    m, y = series(-0.002, 3.0, 0.3, noise=0.0)  # falls a little faster than any power
    fit = fit_law("power_floor", {"data_unique": m}, y)
    assert fit.params["E"] == 0
    assert fit.stderr["E"] is None
    (notice,) = fit.warnings
    assert notice.code == "pinned"
    assert notice.text.startswith("E is pinned at 0: no floor is visible in this range")


def test_three_sizes_are_too_few_for_three_parameters():
    fit = fit_law("power_floor", {"data_unique": [10.0, 100.0, 1000.0] * 3}, np.repeat([[0.9, 0.5, 0.4]], 3, 0).ravel())
    assert fit.status == "weak"
    assert fit.warnings[0].code == "few_points"
    assert "3 distinct points for 3 parameters" in fit.warnings[0].text


def test_a_collinear_design_is_weak():
    num_params = np.geomspace(1e7, 1e10, 9)
    columns = {"num_params": num_params, "data_seen": 20 * num_params}
    truth = {"E": 1.8, "A": 400, "B": 2000, "alpha": 0.35, "beta": 0.37}
    fit = fit_law("chinchilla", columns, get_law("chinchilla").predict(truth, columns))
    assert fit.status == "weak"
    assert "collinear" in codes(fit)
