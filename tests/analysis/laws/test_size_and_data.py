"""Claims about laws of size and data: published numbers, and two writings of one law."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.registry import get_law
from analysis.laws.size_and_data import convert_farseer


def test_chinchilla_predicts_the_published_loss():
    # Besiroglu et al. 2024 at Chinchilla's budget: N* 7.236e10 with C = 5.76e23 gives L* 1.97396
    published = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    at = {"num_params": [7.236e10], "data_seen": [5.76e23 / 6 / 7.236e10]}
    assert get_law("chinchilla").predict(published, at)[0] == pytest.approx(1.97396, abs=2e-5)


def test_gadres_two_writings_of_the_over_trained_law_agree():
    law = get_law("overtrained")
    E, a, b, eta = (law.example[name] for name in law.params)
    N, M = np.array([1e8, 1e9]), np.array([20.0, 640.0])
    C = 6 * N * N * M
    expected = E + a * M**eta * C**-eta + b * M**-eta * C**-eta
    np.testing.assert_allclose(law.predict(law.example, {"num_params": N, "data_seen": N * M}), expected)
    unfolded = law.derived(law.example)
    assert unfolded["A"] == pytest.approx(113.7, abs=0.1)  # "alpha" of the authors' code
    best = np.sqrt(1e21 / 6 / (unfolded["M"] * np.array([0.9, 1.0, 1.1])))
    losses = law.predict(law.example, {"num_params": best, "data_seen": 1e21 / 6 / best})
    assert losses.argmin() == 1


def test_farseer_equals_the_papers_formula_and_gives_its_constants_back():
    constants = {
        "s": -0.0624655, "q": 0.13, "S": 0.128488, "B": 230.734, "b": -0.1729, "Q": -1.54421,
        "A": -1.66563, "a": 0.0459, "E": 3.13335,
    }  # fmt: skip
    law, p = get_law("farseer"), constants
    N, D = np.array([2e8, 1e9, 6e9]), np.array([1e10, 1e11, 1e12])
    power = np.exp(p["A"] * N ** p["a"] + p["E"])
    expected = np.exp(p["s"] * N ** p["q"] + p["S"]) + np.exp(p["B"] * N ** p["b"] + p["Q"]) * D**-power
    params = convert_farseer(**constants)
    np.testing.assert_allclose(law.predict(params, {"num_params": N, "data_seen": D}), expected, rtol=1e-12)
    for name, value in law.derived(params).items():
        assert value == pytest.approx(constants[name], rel=1e-9)


def test_skalings_derived_constants_give_the_papers_formula():
    law = get_law("skaling")
    p, paper = law.example, law.derived(law.example)
    N, D = np.array([1e8, 1e9]), np.array([1e10, 1e9])
    expected = p["E"] + paper["A"] * (N ** -p["alpha"] + paper["R"] * D ** -p["beta"]) ** p["k"]
    np.testing.assert_allclose(law.predict(p, {"num_params": N, "data_seen": D}), expected)


def test_rosenfelds_error_is_a_guess_at_tiny_data_and_a_sum_of_powers_at_much():
    law = get_law("rosenfeld")
    few = law.predict(law.example, {"num_params": [1e6], "data_unique": [1e-6]})[0]
    assert few == pytest.approx(law.example["eps0"], rel=1e-6)
    much = law.predict(law.example, {"num_params": [1e30], "data_unique": [1e30]})[0]
    assert much == pytest.approx(law.example["c_inf"], rel=1e-3)
