"""Profile likelihood: t intervals where the model is nearly linear, and open sides where a parameter is not known."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fit_table import fit
from analysis.laws.registry import get_law
from analysis.uncertainty.profiles import profile


@pytest.fixture(scope="module")
def table():
    return get_law("power_floor").sample(levels=30, noise=0.002, seed=2)


@pytest.mark.parametrize("objective", ["log_mse", "huber"])
@pytest.mark.parametrize("parameter", ["alpha", "E"])
def test_the_profile_of_a_well_known_parameter_is_near_the_normal_interval(table, objective, parameter):
    found = fit(table, "power_floor", objective=objective)
    one = profile(found, table, parameter)
    low, high = one.interval
    assert low < get_law("power_floor").example[parameter] < high
    normal = found.ci95[parameter]
    if objective == "log_mse":  # of which Gauss-Newton is the limit
        assert high - low == pytest.approx(normal[1] - normal[0], rel=0.1)
    assert one.deviance.min() == pytest.approx(0.0, abs=1e-6)
    assert one.deviance[0] == pytest.approx(one.limit, rel=0.02)


def test_a_parameter_that_the_points_do_not_know_has_an_open_side():
    law = get_law("power_floor")
    table = law.sample(
        params={"E": 0.001, "A": 3.0, "alpha": 0.2}, columns={"data_unique": np.geomspace(100, 1000, 9)}, noise=0.01
    )
    one = profile(fit(table, objective="log_mse"), table, "E")
    assert one.interval[0] is None
    assert [notice.code for notice in one.notices] == ["profile_open"]


def test_unknown_parameters_are_refused(table):
    with pytest.raises(AnalysisError, match="did you mean 'alpha'"):
        profile(fit(table), table, "alpa")
