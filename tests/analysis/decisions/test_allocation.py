"""Claims about optima on lines of equal FLOPs: the closed form, SciPy, several minima, the way back from a loss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.decisions.allocation import allocate
from analysis.errors import AnalysisError
from analysis.laws.law import Law
from analysis.laws.registry import get_law
from tests.analysis.decisions.surfaces import BESIROGLU, HOFFMANN, LAW, REFIT, REPEATED


def test_the_losses_at_the_published_optima():
    losses = [allocate(LAW, np.array([params]), flops=5.76e23).loss[0] for params in (HOFFMANN, BESIROGLU)]
    assert losses == pytest.approx([1.91841, 1.97396], abs=2e-5)  # of parameters printed to five digits


def test_the_search_finds_what_the_closed_form_says():
    params = np.array([HOFFMANN, REFIT, REPEATED, [1.0, 50.0, 9000.0, 0.6, 0.15]])
    for flops in (1e15, 1e21, 1e27):
        closed, searched = (allocate(LAW, params, flops=flops, cost=cost) for cost in (None, lambda N: 6.0 * N))
        np.testing.assert_allclose(searched.num_params, closed.num_params, rtol=1e-8)
        np.testing.assert_allclose(searched.loss, closed.loss, rtol=1e-14)


@pytest.mark.parametrize(
    "name", ["kaplan_nd", "farseer", "data_constrained", "overtrained", "skaling", "chinchilla_tied"]
)
def test_the_optimum_of_any_law_of_size_and_data_is_where_scipy_finds_it(name):
    law = get_law(name)
    params = np.array([[law.example[key] for key in law.params]])
    found = allocate(law, params, flops=1e21, sizes=(1e7, 1e10))

    def loss(x):
        N = np.exp(x)
        columns = {"num_params": [N], "data_seen": [1e21 / 6 / N], "data_unique": [1e21 / 6 / N]}
        return float(law.predict(law.example, columns)[0])

    other = minimize_scalar(loss, bounds=(np.log(1e6), np.log(1e12)), method="bounded", options={"xatol": 1e-9})
    assert found.loss[0] <= other.fun * (1 + 1e-12)
    assert np.log(found.num_params[0]) == pytest.approx(other.x, abs=2e-3)
    assert not found.is_edge.any()


def test_of_several_minima_the_one_near_the_fitted_sizes_is_taken():
    def curve(N, D, depth):
        x = np.log(N)
        return 3.0 + 1e-5 * ((x - 20) * (x - 35)) ** 2 - depth * x  # dips at 20 and, lower, at 35

    law = Law("dips", "", "a test", ("num_params", "data_seen"), (), {"depth": (0.0, 1.0)}, curve)
    params = np.array([[1e-4]])
    assert np.log(allocate(law, params, flops=1e21).num_params[0]) == pytest.approx(35, abs=0.1)
    near = allocate(law, params, flops=1e21, sizes=(1e8, 1e9))
    assert np.log(near.num_params[0]) == pytest.approx(20, abs=0.1)


def test_a_law_that_falls_again_where_no_model_was_trained_has_its_optimum_among_the_models():
    law = get_law("farseer")
    N = np.geomspace(1e8, 1e15, 1000)
    losses = law.predict(law.example, {"num_params": N, "data_seen": 1e21 / 6 / N})
    params = np.array([[law.example[key] for key in law.params]])
    found = allocate(law, params, flops=1e21, sizes=(1e8, 1e10))
    assert found.loss[0] > losses.min()
    assert 1e9 < found.num_params[0] < 1e10


def test_the_inverse_gives_the_budget_back():
    params = np.array([HOFFMANN, REFIT])
    for cost in (None, lambda N: 6.0 * N):
        loss = float(allocate(LAW, params[:1], flops=3e22).loss[0])
        assert allocate(LAW, params[:1], loss=loss, cost=cost).total_flops[0] == pytest.approx(3e22, rel=1e-8)
    E, A, B, alpha, beta = REFIT
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    excess = (2.2 - E) / (G**-alpha * A + G**beta * B)  # Besiroglu et al.'s closed form
    published = 6 * excess ** (-(alpha + beta) / (alpha * beta))
    assert allocate(LAW, params[1:], loss=2.2).total_flops[0] == pytest.approx(published, rel=1e-9)


def test_a_law_without_size_has_no_optimum():
    with pytest.raises(AnalysisError, match="an optimum needs a law of num_params and data_seen"):
        allocate("power_floor", np.array([[1.0, 1.0, 0.5]]), flops=1e20)


def test_a_closed_form_that_leaves_all_numbers_is_at_its_edge_without_a_warning():
    params = np.array([[1.0, 1e8, 1.0, 0.002, 0.001], [1.0, 1.0, 1e8, 0.001, 0.002], [1.69, 406.4, 410.7, 0.34, 0.28]])
    best = allocate("chinchilla", params, flops=6e12)
    assert best.is_edge.tolist() == [True, True, False]
    np.testing.assert_allclose(best.num_params[:2], [1e12, 1.0])
    np.testing.assert_allclose(best.num_params * best.data_seen, 1e12)
    assert np.isfinite(best.loss).all()
