"""Claims about objectives: published values, and what each charges."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.objective import make_objective
from analysis.laws.registry import get_law
from scaling.specs.fits import DeclaredObjective, ObjectiveName
from tests.analysis.papers import HOFFMANN, ROUNDED, read_chinchilla


@pytest.mark.parametrize(("params", "value"), [(HOFFMANN, 1.231163e-3), (ROUNDED, 4.121009e-3)])
def test_hoffmanns_parameters_have_the_reference_objectives(params, value):
    columns, y = read_chinchilla()
    fitted = get_law("chinchilla").predict(params, columns)
    assert make_objective("huber", 1e-3).measure(fitted, y) == pytest.approx(value, abs=5e-10)


@pytest.mark.parametrize(
    ("name", "tilt", "charge"),
    [
        ("huber", 0.5, 0.1 * (0.3 - 0.05) + 0.02**2 / 2),
        ("lad", 0.5, 0.3 + 0.02),
        ("asymmetric", 0.8, 1.6 * 0.3 + 0.4 * 0.02),
        ("log_mse", 0.5, 0.3**2 + 0.02**2),
    ],
)
def test_each_objective_charges_as_its_table_says(name, tilt, charge):
    goal = make_objective(name, 0.1, tilt)
    assert goal.measure(np.exp([0.3, -0.02]), np.ones(2)) == pytest.approx(charge)


def test_plain_squares_take_targets_of_any_sign():
    goal = make_objective("mse")
    assert goal.measure(np.array([0.0, 2.0]), np.array([-1.0, 1.0])) == pytest.approx(2.0)
    assert (goal.is_log, make_objective("huber").is_log) == (False, True)


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_the_objective_is_the_huber_function_of_its_threshold_up_to_a_factor(name):
    goal, y = make_objective(name, 1e-2), np.full(4, 2.0)
    fitted = y * np.exp([0.3, -0.2, 0.001, 0.1])
    r = np.log(fitted / y) if goal.is_log else fitted - y
    inner = np.minimum(np.abs(r), goal.threshold)
    solved = (inner * (np.abs(r) - inner / 2) * goal.lean(r)).sum()
    factor = {"huber": 1.0, "lad": goal.threshold, "asymmetric": goal.threshold, "log_mse": 0.5, "mse": 0.5}[name]
    assert solved == pytest.approx(factor * goal.measure(fitted, y), rel=1e-6)


def test_what_a_fit_follows_is_known_by_the_residuals_beside_delta():
    small, large = np.array([1e-4, 1e-4, 1.0]), np.array([1.0, 1.0, 1e-4])
    assert [make_objective("huber", 1e-2).follows_median(size) for size in (small, large)] == [False, True]
    assert [make_objective(name).follows_median(small) for name in ("lad", "asymmetric", "mse")] == [True, True, False]


def test_wrong_objectives_are_refused():
    with pytest.raises(AnalysisError, match="objective='hubr' is unknown; did you mean 'huber'"):
        make_objective("hubr")
    for delta in (0.0, float("inf")):
        with pytest.raises(AnalysisError, match=r"delta=.* must be positive and finite"):
            make_objective("huber", delta)
    with pytest.raises(AnalysisError, match="tilt=1 must lie between 0 and 1"):
        make_objective("asymmetric", 1e-3, 1)


def test_studies_may_declare_all_objectives_but_the_tilted_one():
    assert set(get_args(ObjectiveName)) - set(get_args(DeclaredObjective)) == {"asymmetric"}
