"""Claims about runs of one budget that spent unequal FLOPs: losses are moved along a slope that many runs tell."""

import numpy as np
import pytest

from analysis.decisions.uneven import find_moves


def make_runs(budgets, sizes=5, spread=1.25, seed=0):
    generator = np.random.default_rng(seed)
    C = np.repeat(np.geomspace(1e17, 1e19, budgets), sizes) * generator.uniform(1, spread, budgets * sizes)
    N = 0.1 * C**0.5 * np.tile(np.geomspace(0.3, 3, sizes), budgets)
    groups = [np.arange(sizes) + sizes * number for number in range(budgets)]
    return C, N, groups


def bend(c, n, curved):
    """A log loss that is a quadratic of log C and log N; in C only where `curved`."""
    x, z = c - 41.0, n - 18.0
    return 1.0 - 0.1 * x + 0.004 * curved * x**2 - 0.02 * z - 0.01 * x * z + 0.03 * z**2


@pytest.mark.parametrize(("budgets", "curved"), [(2, 0), (3, 0), (3, 1), (5, 1)])
def test_a_loss_that_is_a_quadratic_is_moved_exactly(budgets, curved):
    C, N, groups = make_runs(budgets)
    c, n = np.log(C), np.log(N)
    moves = find_moves(C, N, np.exp(bend(c, n, curved)), np.ones(len(C)), groups)
    for places in groups:
        wanted = bend(np.full(len(places), c[places].mean()), n[places], curved)
        np.testing.assert_allclose(bend(c, n, curved)[places] + moves[places], wanted, atol=1e-9)


def test_runs_without_weight_tell_nothing_of_the_slope():
    C, N, groups = make_runs(3)
    y, w = np.exp(bend(np.log(C), np.log(N), 1)), np.ones(len(C))
    wanted = find_moves(C, N, y, w, groups)
    w[3], wrong = 0.0, y.copy()
    wrong[3] *= 2
    np.testing.assert_allclose(find_moves(C, N, wrong, w, groups), wanted, atol=1e-9)


def test_a_slope_is_never_that_of_a_loss_that_rises_with_data():
    C, N, groups = make_runs(3)
    for power in (0.5, -3.0):
        moves = find_moves(C, N, C**power, np.ones(len(C)), groups)
        for places in groups:
            away = np.log(C[places]) - np.log(C[places]).mean()
            np.testing.assert_allclose(moves[places], 0.0 if power > 0 else away, atol=1e-9)


def test_runs_that_cannot_tell_the_slope_are_not_moved():
    C, N, groups = make_runs(1, sizes=12)
    assert find_moves(C, N, C**-0.1, np.ones(12), groups) is None
    C, N, groups = make_runs(3, sizes=2)
    assert find_moves(C, N, C**-0.1, np.ones(6), groups) is None
    C, _, groups = make_runs(3)
    assert find_moves(C, np.full(15, 1e8), C**-0.1, np.ones(15), groups) is None


def test_even_budgets_are_not_moved_and_others_beside_them_are():
    C, N, groups = make_runs(3)
    C[groups[1]] = 1e18 * np.array([1, 1.01, 1, 1.015, 1])
    moves = find_moves(C, N, C**-0.1, np.ones(len(C)), groups)
    assert not moves[groups[1]].any()
    assert moves[groups[0]].all()
