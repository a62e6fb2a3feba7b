"""Claims about functions for formulas: no overflow where none is due, and published splits of a budget."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.maths import decay, grow, sigmoid, softplus, split_budget
from tests.analysis.papers import HOFFMANN, ROUNDED


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


def test_what_saturates_does_not_overflow():
    far = np.array([-1e4, 0.0, 1e4])
    np.testing.assert_allclose(sigmoid(far), [0.0, 0.5, 1.0])
    np.testing.assert_allclose(softplus(far), [0.0, np.log(2), 1e4])
    np.testing.assert_allclose(sigmoid(np.array([-700.0])), np.exp([-700.0]), rtol=1e-12)  # and keeps its small digits


def test_powers_are_those_of_numpy():
    x = np.geomspace(1e-3, 1e12, 7)
    np.testing.assert_allclose(decay(x, 0.3), x**-0.3, rtol=1e-13)
    np.testing.assert_allclose(grow(x, 0.3), x**0.3, rtol=1e-13)
