"""Approach 1 recovers the exponents from training curves, reading the hull between its smallest and largest sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.envelope import fit_envelope
from analysis.errors import AnalysisError
from analysis.laws.registry import get_law

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def make_curves(sizes=14, noise=0.0, seed=0, points=60):
    """One curve for each size, from half a token to a thousand tokens a parameter."""
    rng, parts = np.random.default_rng(seed), []
    for index, N in enumerate(np.geomspace(1e7, 3e10, sizes)):
        D = np.geomspace(0.5 * N, 1000 * N, points)
        curve = {"cell": f"c{index}", "num_params": N, "data_seen": D, "train_flops": 6 * N * D, "step": range(points)}
        part = pd.DataFrame(curve).assign(is_final=[False] * (points - 1) + [True])
        loss = get_law("chinchilla").predict(TRUTH, part) * np.exp(noise * rng.standard_normal())
        parts.append(part.assign(loss=loss))
    return pd.concat(parts, ignore_index=True)


def test_the_exponents_of_the_surface_are_recovered():
    found = fit_envelope(make_curves(sizes=30), resamples=0)
    assert found.size.exponent.value == pytest.approx(0.28 / 0.62, abs=2e-3)
    assert found.data.exponent.value == pytest.approx(0.34 / 0.62, abs=2e-3)
    best = get_law("chinchilla")
    N, D = found.size.at(1e20).value, found.data.at(1e20).value
    assert pytest.approx(1e20, rel=1e-3) == 6 * N * D
    around = [float(best.predict(TRUTH, {"num_params": [N * f], "data_seen": [D / f]})[0]) for f in (0.8, 1.0, 1.25)]
    assert around[1] == min(around)


def test_intervals_from_resampled_curves_hold_the_truth():
    found = fit_envelope(make_curves(noise=0.002, seed=1), resamples=100)
    assert found.size.exponent.low < 0.28 / 0.62 < found.size.exponent.high
    assert str(found).startswith("envelope of training curves: N* ~ C^0.4")
    assert found.size.exponent == fit_envelope(make_curves(noise=0.002, seed=1), resamples=100).size.exponent


def test_the_hull_is_convex_below_every_evaluation_and_its_ends_do_not_carry_the_line():
    table = make_curves(noise=0.003, seed=2)
    points = fit_envelope(table, resamples=0).points
    x, y = np.log(points.train_flops.to_numpy()), np.log(points.loss.to_numpy())
    slopes = np.diff(y) / np.diff(x)
    assert (np.diff(slopes) > 0).all()
    inside = table[table.train_flops <= points.train_flops.max()]
    below = np.interp(np.log(inside.train_flops), x, y)
    assert (np.log(inside.loss) >= below - 1e-12).all()
    ends = points[points.is_edge].num_params.unique()
    assert sorted(ends) == [points.num_params.min(), points.num_params.max()]
    assert not points.is_edge.all()


def test_a_size_without_competitors_does_not_flatten_the_line():
    table = make_curves(sizes=30)
    early = table[table.num_params == table.num_params.min()].copy()
    early["data_seen"] /= 1e3
    early["train_flops"] /= 1e3
    early["loss"] = get_law("chinchilla").predict(TRUTH, early)
    longer = pd.concat([table, early.assign(step=range(100, 100 + len(early)), is_final=False)], ignore_index=True)
    assert fit_envelope(longer, resamples=0).size.exponent.value == pytest.approx(0.28 / 0.62, abs=2e-3)


def test_what_cannot_be_an_envelope_says_what_is_missing():
    table = make_curves()
    with pytest.raises(AnalysisError, match="no curve has two usable evaluations"):
        fit_envelope(table[table.is_final])
    with pytest.raises(AnalysisError, match=r"num_params: .* run more sizes"):
        fit_envelope(table[table.num_params.isin(table.num_params.unique()[:2])])
    with pytest.raises(AnalysisError, match=r"by='cel' is unknown; did you mean 'cell'"):
        fit_envelope(table, by="cel")
    few = fit_envelope(table[table.num_params.isin(table.num_params.unique()[4:8])], resamples=0)
    assert "few_sizes" in {notice.code for notice in few.warnings}


def test_evaluations_that_name_no_run_are_curves_of_their_own():
    table = make_curves(noise=0.002, seed=1)
    whole = fit_envelope(table, resamples=50)
    some = table.assign(cell=table["cell"].where(table["cell"] != "c5", None))
    found = fit_envelope(some, resamples=50)
    assert found.size.exponent.value == pytest.approx(whole.size.exponent.value, rel=0.02)
    with pytest.raises(AnalysisError, match="no curve has two usable evaluations"):
        fit_envelope(table.assign(cell=""), resamples=0)
