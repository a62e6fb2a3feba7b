"""Claims about the law registry: formulas, derivatives, and errors that name the remedy."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from analysis import compare, fit, laws, solver, table, uncertainty
from analysis.laws import LAWS, AnalysisError, Law, differentiate_basis, get_law, normalise_basis, register


@pytest.mark.parametrize("module", [laws, solver, fit, table, uncertainty, compare])
def test_numbers_in_docstrings_are_true(module):
    assert doctest.testmod(module).failed == 0


def test_chinchilla_predicts_the_published_loss():
    # Besiroglu et al. 2024 at Chinchilla's budget: N* 7.236e10 with C = 5.76e23 gives L* 1.97396
    published = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    at = {"num_params": [7.236e10], "data_seen": [5.76e23 / 6 / 7.236e10]}
    assert get_law("chinchilla").predict(published, at)[0] == pytest.approx(1.97396, abs=2e-5)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_derivatives_agree_with_differences(name):
    law, rng = LAWS[name], np.random.default_rng(0)
    columns = [rng.uniform(10, 1e4, 7) for _ in law.variables]
    theta = np.array([0.3, 0.5])[: len(law.nonlinear)]
    value, first, second = differentiate_basis(law, columns, theta)
    assert np.log(value).mean(axis=0) == pytest.approx(0, abs=1e-12)
    for i, unit in enumerate(np.eye(len(theta)) * 1e-5):
        ahead, behind = (differentiate_basis(law, columns, theta + sign * unit) for sign in (1, -1))
        np.testing.assert_allclose(first[..., i], (ahead[0] - behind[0]) / 2e-5, atol=1e-8)
        np.testing.assert_allclose(second[..., i], (ahead[1] - behind[1]) / 2e-5, atol=1e-6)


def test_basis_is_vectorised_over_leading_axes():
    law, m = get_law("power_floor"), np.array([1.0, 4.0, 9.0])
    grid = np.array([[0.1, 0.5], [0.7, 0.9]])[..., None]
    many, scale = normalise_basis(law, [m], grid)
    assert many.shape == (2, 2, 3, 2)
    assert scale.shape == (2, 2, 2)
    np.testing.assert_array_equal(law.basis([m], grid)[1, 0], law.basis([m], grid[1, 0]))


def test_unknown_law_names_the_nearest():
    with pytest.raises(AnalysisError, match=r"^law='power_flor' is unknown; did you mean 'power_floor'\?$"):
        get_law("power_flor")


def test_a_bad_column_is_refused_by_name():
    law = get_law("power")
    with pytest.raises(AnalysisError, match=r"data_unique=0\.0 must be finite and positive"):
        law.read({"data_unique": [1.0, 0.0]})
    with pytest.raises(AnalysisError, match="did you mean 'data_uniqu'"):
        law.read({"data_uniqu": [1.0]})
    with pytest.raises(AnalysisError, match="has 2 columns but law power takes 1"):
        law.bind(["a", "b"])


def test_a_user_adds_a_law_and_cannot_replace_one(monkeypatch):
    monkeypatch.setattr(laws, "LAWS", dict(LAWS))
    mine = Law("mine", "y = A exp(-k x)", "me", ("t",), ("A",), {"k": (0.0, 2.0)}, lambda t, k: (np.exp(-k * t),))
    register(mine)
    t = np.linspace(1, 4, 6)
    got = fit.fit_law("mine", {"t": t}, 3 * np.exp(-0.7 * t))
    assert got.params == pytest.approx({"A": 3.0, "k": 0.7}, rel=1e-7)
    with pytest.raises(AnalysisError, match="already registered"):
        register(mine)
