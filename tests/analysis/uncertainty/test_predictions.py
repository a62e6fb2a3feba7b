"""Predictions of the curve and of new runs, from a fit or from its file alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fit_table import fit
from analysis.fitting.fit import document_fits, load_fits
from analysis.laws.registry import get_law
from analysis.uncertainty.predictions import chain, predict_interval

AT = {"data_unique": np.array([1e5, 1e6])}


@pytest.fixture(scope="module")
def found():
    return fit(get_law("power_floor").sample(levels=14, noise=0.01, seed=3), "power_floor", bootstrap=400)


def widths(frame):
    return np.log(frame["high"] / frame["low"]).to_numpy()


def test_a_saved_fit_predicts_what_the_fit_does(found, tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(document_fits([found])["fits"][0]))
    again = predict_interval(load_fits(path)[0], AT)
    assert again.to_dict() == predict_interval(found, AT).to_dict()


def test_a_new_run_is_less_certain_than_the_curve_by_the_noise_of_a_run(found):
    curve, run = (predict_interval(found, AT, new_run=flag) for flag in (False, True))
    assert (curve["estimate"] == run["estimate"]).all()
    assert (widths(run) > widths(curve)).all()
    t_quantile = 2.2  # of 11 degrees of freedom
    assert widths(run)[0] == pytest.approx(2 * t_quantile * found.residual_sd, rel=0.2)
    wide = predict_interval(found, AT, new_run=True, run_sd=0.1)
    assert widths(wide)[0] == pytest.approx(2 * 1.96 * 0.1, rel=0.2)


def test_a_lower_level_lies_inside_a_higher_one(found):
    half, most = predict_interval(found, AT, level=0.5), predict_interval(found, AT, level=0.95)
    assert (half["low"] > most["low"]).all()
    assert (half["high"] < most["high"]).all()


def test_without_resamples_the_delta_method_gives_about_the_same_interval(found):
    bare = found.model_copy(update={"draws": ()})
    for new_run in (False, True):
        delta, drawn = (predict_interval(one, AT, new_run=new_run) for one in (bare, found))
        assert widths(delta) == pytest.approx(widths(drawn), rel=0.4)


@pytest.mark.parametrize(
    ("options", "at", "says"),
    [
        ({"level": 1.0}, AT, "level=1.0 must lie between 0 and 1"),
        ({}, {"data_unique": [-1.0]}, "data_unique"),
        ({}, {"num_params": [1.0]}, "data_unique"),
    ],
)
def test_bad_requests_are_refused_by_name(found, options, at, says):
    with pytest.raises(AnalysisError, match=says):
        predict_interval(found, at, **options)


def test_a_new_run_without_a_spread_asks_for_one(found):
    exact = found.model_copy(update={"residual_sd": None, "noise": {}})
    with pytest.raises(AnalysisError, match="give run_sd"):
        predict_interval(exact, AT, new_run=True)
    assert len(predict_interval(exact, AT, new_run=True, run_sd=0.01)) == 2


def test_a_new_run_has_the_noise_of_its_size():
    rng, m = np.random.default_rng(0), np.geomspace(1e2, 1e5, 120)
    sd = 0.03 * (m / 1e2) ** -0.25
    loss = (0.1 + 5 * m**-0.5) * np.exp(sd * rng.standard_normal(120))
    found = fit(pd.DataFrame({"data_unique": m, "loss": loss}), "power_floor", bootstrap=200)
    assert found.noise["data_unique"] == pytest.approx(-0.25, abs=0.1)
    ends = {"data_unique": [1e2, 1e5, 1e7]}
    assert widths(predict_interval(found, ends, new_run=True))[:2] == pytest.approx(3.92 * sd[[0, -1]], rel=0.4)
    alone = predict_interval(found, {"data_unique": [1e7]}, new_run=True, run_sd=sd[-1])
    beyond = predict_interval(found, {"data_unique": [1e7]}, new_run=True)
    assert widths(beyond) == pytest.approx(widths(alone), rel=0.3)  # no less noise than at the last point


def test_weighted_fits_have_one_spread():
    table = get_law("power_floor").sample(levels=20, noise=0.01, seeds=3, seed=3)
    assert fit(table, "power_floor", bootstrap=20, weights="noise").noise == {}


def test_two_steps_are_the_accuracy_of_the_loss():
    loss, accuracy = get_law("chinchilla"), get_law("accuracy_sigmoid")
    at = {"num_params": [1e8, 1e10], "data_seen": [2e9, 2e11]}
    expected = accuracy.predict(accuracy.example, {"loss": loss.predict(loss.example, at)})
    np.testing.assert_array_equal(chain(loss, loss.example, accuracy, accuracy.example)(at), expected)
