"""Claims about the search: coefficients follow exactly from the non-linear parameters."""

import numpy as np
import pytest
from scipy.optimize import nnls

from analysis.fitting.search import solve_nonnegative


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_nonnegative_coefficients_are_scipys(k):
    rng = np.random.default_rng(k)
    basis, goal = rng.normal(size=(40, 20, k)), rng.normal(size=(40, 20))
    gram, moment = np.swapaxes(basis, 1, 2) @ basis, np.einsum("snk,sn->sk", basis, goal)
    coefs, gain = solve_nonnegative(gram, moment, np.zeros(k, bool))
    for one in range(40):
        expected, rest = nnls(basis[one], goal[one])
        feasible = max(gain[one], 0.0)  # with every coefficient at 0 nothing is explained
        np.testing.assert_allclose(goal[one] @ goal[one] - feasible, rest**2, rtol=1e-9)
        if gain[one] > 0:
            np.testing.assert_allclose(coefs[one], expected, atol=1e-9)


def test_signed_coefficients_are_those_of_plain_least_squares():
    rng = np.random.default_rng(0)
    basis, goal = rng.normal(size=(20, 3)), rng.normal(size=20)
    coefs, _ = solve_nonnegative((basis.T @ basis)[None], (basis.T @ goal)[None], np.ones(3, bool))
    np.testing.assert_allclose(coefs[0], np.linalg.lstsq(basis, goal, rcond=None)[0], atol=1e-9)
