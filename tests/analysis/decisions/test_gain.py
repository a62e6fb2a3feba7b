"""Compute-equivalent gain: exact for known curves, split into offset and exponent, tighter when paired."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.curves import ComputeCurve
from analysis.decisions.gain import compare_series, measure_gain
from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from analysis.uncertainty.bootstrap import bootstrap_series

C = np.geomspace(1e15, 1e20, 12)
LAW = get_law("power_floor").bind(("train_flops",))


def curve(A, alpha, *, E=1.5, noise=0.0, rng=None, shared=0.0, seed=0, label="a"):
    y = (E + A * C**-alpha) * np.exp(shared + (noise * rng.standard_normal(len(C)) if rng is not None else 0.0))
    return pd.DataFrame({"label": label, "seed": seed, "train_flops": C, "loss": y})


def exact(A, alpha):
    table = curve(A, alpha)
    return fit_law(LAW, table, table["loss"])


def test_a_constant_saving_is_a_change_of_intercept_alone():
    gain = measure_gain(exact(400.0, 0.15), exact(400.0 * 3**-0.15, 0.15))  # the candidate needs a third
    assert gain.table["gain"].to_numpy() == pytest.approx(3.0, rel=1e-3)
    assert gain.offset.estimate == pytest.approx(3.0, rel=1e-3)
    assert gain.exponent.estimate == pytest.approx(0.0, abs=1e-4)


def test_a_better_exponent_is_a_gain_that_grows():
    gain = measure_gain(exact(400.0, 0.15), exact(900.0, 0.18))
    # C_base = (A_b/A_n)^(1/a_b) C^(a_n/a_b): the slope of log gain is a_n/a_b - 1
    assert gain.exponent.estimate == pytest.approx(0.18 / 0.15 - 1, rel=1e-3)
    at = gain.reference
    assert gain.offset.estimate == pytest.approx((400 / 900) ** (1 / 0.15) * at ** (0.18 / 0.15 - 1), rel=1e-3)


@pytest.fixture(scope="module")
def both():
    rng, tables = np.random.default_rng(1), []
    for seed in range(4):
        luck = 0.01 * rng.standard_normal()
        for label, A in (("base", 400.0), ("new", 400.0 * 2**-0.15)):
            tables.append(curve(A, 0.15, noise=0.001, rng=rng, shared=luck, seed=seed, label=label))
    return bootstrap_series(pd.concat(tables), LAW, "loss", resamples=200, objective="log_mse")


def test_pairing_by_seed_makes_the_interval_tighter(both):
    paired = compare_series(both, "base", "new")
    loose = measure_gain(both.fits["base"], both.fits["new"], paired=False)
    assert paired.is_paired
    assert not loose.is_paired
    widths = [np.log(one.offset.high / one.offset.low) for one in (paired, loose)]
    assert widths[0] < 0.5 * widths[1]
    assert paired.offset.low < 2.0 < paired.offset.high
    assert paired.verdict == "intercept"


def test_along_chinchillas_frontier_the_gain_is_the_closed_form():
    law = get_law("chinchilla")
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
    better = {**truth, "A": 480.0 * 2**-0.35, "B": 2100.0 * 2**-0.37}  # every parameter and token counts twice
    fits = []
    for params in (truth, better):
        table = law.sample(params=params, levels=6, noise=0.0)
        fits.append(fit_law(law, table, table["loss"]))
    gain = measure_gain(*fits)
    assert gain.table["gain"].to_numpy() == pytest.approx(4.0, rel=1e-3)


def test_other_columns_and_laws_are_refused(both):
    table = get_law("power_floor").sample(levels=8)
    other = fit_law("power_floor", table, table["loss"])
    with pytest.raises(AnalysisError, match="bind both to one column"):
        measure_gain(both.fits["base"], other)
    with pytest.raises(AnalysisError, match="did you mean 'base'"):
        compare_series(both, "bas", "new")


def test_a_loss_that_no_draw_of_the_baseline_reaches_has_no_interval_and_says_so():
    def floor(E, A, label):
        draws = np.array([E, A, 0.15]) * (1 + 0.001 * np.random.default_rng(0).standard_normal((51, 3)))
        return ComputeCurve(label, "train_flops", LAW, draws, (1e15, 1e20))

    gain = measure_gain(floor(1.5, 400.0, "base"), floor(0.2, 40.0, "new"))
    assert gain.verdict == "unknown"
    assert {"no_overlap", "unreachable"} <= {notice.code for notice in gain.notices}
    assert np.isinf(gain.offset.estimate)


def test_fits_of_two_tables_are_not_taken_for_paired(both):
    base, new = both.fits["base"], both.fits["new"]
    assert measure_gain(base, new).is_paired
    assert not measure_gain(base, new.model_copy(update={"table_sha256": "0" * 64})).is_paired


def test_it_says_how_many_times_less_or_more_is_needed_and_never_a_factor_below_one():
    def says(base, new, column="train_flops", unit=None):
        law = LAW.bind((column,))
        fits = [fit_law(law, {column: C}, E + A * C**-0.15, label=label) for label, E, A in (base, new)]
        return str(measure_gain(*fits, unit=unit)).split(";")[0]

    old, new = ("old", 1.5, 400.0 * 3**0.15), ("new", 1.5, 400.0)
    assert says(old, new).startswith("new needs 3 (no interval) times less compute than old at C = ")
    assert says(new, old).startswith("old needs 3 (no interval) times more compute than new at C = ")
    assert "less labelled data than old at m = " in says(old, new, "data_unique", "examples")
    assert says(old, new, "data_unique", "examples").endswith(" examples")
    assert "less unique data than old" in says(old, new, "data_unique", "tokens")
    assert "less training data than old at D = " in says(old, new, "data_seen", "tokens")
    assert "fewer parameters than old at N = " in says(old, new, "num_params")
    assert "fewer steps than old at step = " in says(old, new, "step")
    assert "fewer seconds than old at t = " in says(old, new, "wall_seconds")


def test_the_interval_is_inverted_with_the_factor(both):
    forth, back = (str(compare_series(both, *pair)).split(";")[0] for pair in (("base", "new"), ("new", "base")))
    gain = compare_series(both, "new", "base").offset
    assert gain.high < 1
    assert f"new needs {1 / gain.estimate:.3g}"[:14] == forth[:14]
    assert f"base needs {1 / gain.estimate:.3g} ({1 / gain.high:.3g} to {1 / gain.low:.3g}) times more compute" in back


def test_an_interval_with_1_inside_is_no_claim():
    def tie(label, seed):
        draws = np.array([1.5, 400.0, 0.15]) * (1 + 1e-3 * np.random.default_rng(seed).standard_normal((51, 3)))
        draws[0] = 1.5, 400.0, 0.15
        return ComputeCurve(label, "train_flops", LAW, draws, (1e15, 1e20))

    gain = measure_gain(tie("old", 0), tie("new", 1))
    assert gain.offset.low < 1 < gain.offset.high
    said = str(gain)
    assert said.startswith("new needs neither less nor more compute than old at C = ")
    assert f"1 ({1 / gain.offset.high:.3g} to {1 / gain.offset.low:.3g}) times as much" in said
    assert "whether the factor changes with C is not settled" in said


def test_a_frontier_without_a_closed_form_is_searched():
    tied, free = get_law("chinchilla_tied"), get_law("chinchilla")
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35}
    tables = [tied.sample(params=truth | {"A": 480.0 / f, "B": 2100.0 / f}, levels=6, noise=0.0) for f in (1.0, 1.2)]
    found, exact = (measure_gain(*(fit_law(law, table, table["loss"]) for table in tables)) for law in (tied, free))
    assert found.offset.estimate == pytest.approx(exact.offset.estimate, rel=1e-3)
    assert found.observed == pytest.approx(exact.observed, rel=0.1)
