"""Claims about laws of mixtures: recovery with corpora left out, and held-out mixtures of a published table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import fit_table
from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from tests.places import TABLES

TRUTH = {"c": 1.5, "k": 1.2, "t_1": -2.0, "t_2": 0.4}


def draw_mixtures(seed: int, n: int) -> dict[str, np.ndarray]:
    shares = np.random.default_rng(seed).dirichlet(np.ones(3), n)
    shares[:3] = np.eye(3)
    return {"code": shares[:, 0], "books": shares[:, 1]}


def test_a_truth_is_recovered_and_predicts_other_mixtures_where_corpora_are_left_out():
    law, seen = get_law("mixture3").bind(["code", "books"]), draw_mixtures(0, 30)
    assert min(values.min() for values in seen.values()) == 0
    fit = fit_law(law, seen, law.predict(TRUTH, seen))
    assert fit.params == pytest.approx(TRUTH, rel=1e-3)
    others = draw_mixtures(1, 20)
    np.testing.assert_allclose(fit.predict(others), law.predict(TRUTH, others), rtol=1e-5)


def test_rows_without_a_corpus_are_fitted_and_not_left_out():
    law, seen = get_law("mixture3").bind(["code", "books"]), draw_mixtures(0, 30)
    table = pd.DataFrame({**seen, "loss": law.predict(TRUTH, seen)})
    assert fit_table.fit(table, "mixture3", variables=["code", "books"]).n == 30


def test_mixtures_without_a_corpus_have_intervals():
    law, seen = get_law("mixture3").bind(["code", "books"]), draw_mixtures(0, 30)
    noise = np.random.default_rng(1).normal(0, 0.01, 30)
    table = pd.DataFrame({**seen, "loss": law.predict(TRUTH, seen) * np.exp(noise)})
    fit = fit_table.fit(table, "mixture3", variables=["code", "books"], bootstrap=100)
    assert fit.residual_sd == pytest.approx(0.01, rel=0.4)
    assert fit.noise == {}
    low, high = fit.ci95["t_1"]
    assert low < TRUTH["t_1"] < high
    assert high - low < 1.5


def test_negative_shares_are_refused():
    with pytest.raises(AnalysisError, match=r"mixture_1=-0\.1 must be finite and not negative"):
        get_law("mixture2").predict({"c": 1.0, "k": 1.0, "t_1": 1.0}, {"mixture_1": [-0.1]})


def test_held_out_mixtures_of_a_published_table_are_predicted_within_five_percent():
    paths = [TABLES / "scalebench" / f"domain_mixture_{part}.parquet" for part in ("train", "test")]
    if not all(path.exists() for path in paths):
        pytest.skip("the table is not here")
    train, test = (pd.read_parquet(path).query("group == '70M'") for path in paths)
    shares = [f"proportion_domain_{domain}" for domain in range(1, 5)]
    law, errors = get_law("mixture5").bind(shares), []
    for domain in range(1, 6):
        loss = f"loss_domain_{domain}"
        fit = fit_law(law, {name: train[name].to_numpy() for name in shares}, train[loss].to_numpy())
        errors.append(fit.predict({name: test[name].to_numpy() for name in shares}) / test[loss].to_numpy() - 1)
    sizes = np.abs(errors)
    assert sizes.mean() < 0.012
    assert sizes.max() < 0.05
