"""Claims about the law of repeated data: its authors' numbers, its limit of fresh data, and recovery in two stages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.fitting.fit_law import fit_law
from analysis.laws.maths import split_budget
from analysis.laws.registry import get_law


def test_muennighoff_predicts_the_published_losses():
    law = get_law("data_constrained")
    at = {"num_params": [6.34e9, 8.67e9], "data_seen": [242e9, 178e9], "data_unique": [25e9, 25e9]}
    np.testing.assert_allclose(law.predict(law.example, at), [2.2256440889984477, 2.2269634075087867], rtol=1e-14)


def test_unrepeated_data_and_a_model_that_is_small_enough_give_chinchillas_loss():
    law, tied = get_law("data_constrained"), get_law("chinchilla_tied")
    at = {"num_params": [1e8, 1e9], "data_seen": [1e10, 1e11]}
    same = {name: law.example[name] for name in ("E", "A", "B", "alpha")}
    for unique in (at["data_seen"], [1e12, 1e12]):
        np.testing.assert_allclose(law.predict(law.example, {**at, "data_unique": unique}), tied.predict(same, at))


def predict_repeated(size, seen, unique):
    law = get_law("data_constrained")
    at = {"num_params": np.array([size]), "data_seen": np.array([seen]), "data_unique": np.array([unique])}
    return law.predict(law.example, at)[0]


def test_the_data_constrained_law_gives_its_authors_numbers():
    assert predict_repeated(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-15)
    assert predict_repeated(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-15)
    split, flops = split_budget(get_law("data_constrained").example), 5.76e23 / 6
    assert split["G"] * flops ** split["a"] == pytest.approx(69_962_173_313.5, rel=1e-12)
    assert flops ** split["b"] / split["G"] == pytest.approx(1_372_170_066_384.2, rel=1e-12)


def test_the_optimal_number_of_epochs_is_the_published_one():
    best = minimize_scalar(
        lambda log_size: predict_repeated(np.exp(log_size), 1e22 / 6 / np.exp(log_size), 25e9),
        bounds=(np.log(1e9), np.log(1e11)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    published = 7_022_364_735.88  # of a search on a grid: 237,336,955,477.55 tokens, 9.4935 epochs
    assert np.exp(best.x) == pytest.approx(published, rel=1e-3)
    assert 1e22 / 6 / np.exp(best.x) / 25e9 == pytest.approx(9.4935, rel=1e-3)
    assert best.fun <= predict_repeated(published, 237_336_955_477.55, 25e9)


@pytest.mark.parametrize(("noise", "close"), [(0.0, 1e-6), (0.003, 0.1)])
def test_both_stages_recover_the_data_constrained_law(noise, close):
    truth, rng = get_law("data_constrained").example, np.random.default_rng(0)
    split = split_budget(truth)
    flops = np.repeat(np.geomspace(1e18, 3e21, 6), 9)  # 54 runs of six budgets, all on fresh data
    size = split["G"] * (flops / 6) ** split["a"] * np.tile(np.geomspace(0.25, 4, 9), 6)
    fresh = {"num_params": size, "data_seen": flops / 6 / size}
    tied = get_law("chinchilla_tied")
    clean = tied.predict({name: truth[name] for name in tied.params}, fresh)
    base = fit_law(tied, fresh, clean * np.exp(noise * rng.standard_normal(54)))
    held = {**base.params, "beta": base.params["alpha"]}
    unique = np.repeat([1e8, 4e8, 1.5e9, 4e9, 9e9, 25e9], 30)  # 180 runs of up to 50 epochs
    repeated = {
        "num_params": np.tile(np.repeat([1e8, 1.1e9, 8e9], 10), 6),
        "data_seen": unique * np.tile(np.geomspace(1, 50, 10), 18),
        "data_unique": unique,
    }
    y = get_law("data_constrained").predict(truth, repeated) * np.exp(noise * rng.standard_normal(180))
    fit = fit_law("data_constrained", repeated, y, hold=held)
    assert fit.params == pytest.approx({"R_D": truth["R_D"], "R_N": truth["R_N"]}, rel=close)
    assert fit.held == held
