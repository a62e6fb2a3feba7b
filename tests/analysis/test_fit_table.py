"""Fits of tables: what is left out is counted, weak designs say so, and bad tables are one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fit_table import fit, format_estimate, format_interval
from analysis.laws.registry import get_law


@pytest.fixture
def table():
    return get_law("power_floor").sample(levels=12, noise=0.005, seed=1)


def test_rows_are_left_out_by_reason_and_counted(table):
    spoilt = table.assign(status="ok")
    spoilt.loc[0, "status"] = "diverged"
    spoilt.loc[1, "loss"] = np.nan
    spoilt.loc[2, "loss"] = -1.0
    spoilt.loc[3, "data_unique"] = 0.0
    found = fit(spoilt)
    assert (found.n, found.dropped) == (8, 4)
    assert found.left_out == {
        "status is diverged": 1,
        "loss is NaN": 1,
        "loss is zero or negative": 1,
        "data_unique is zero or negative": 1,
    }


def test_a_cell_in_two_series_counts_once(table):
    cells = table.assign(cell=[f"c{i}" for i in range(12)], label="a")
    both = pd.concat([cells, cells.iloc[:4].assign(label="b")])
    found = fit(both)
    assert found.n == 12
    assert found.left_out == {"the same cell under another label": 4}
    assert found.params == fit(table).params


def test_no_usable_row_says_why(table):
    with pytest.raises(AnalysisError, match="12 status is failed"):
        fit(table.assign(status="failed"))


def test_mixed_units_are_refused_with_counts(table):
    with pytest.raises(AnalysisError, match=r"data_unit.*(examples|tokens)"):
        fit(table.assign(data_unit=["examples"] * 5 + ["tokens"] * 7))


def test_two_levels_of_a_predictor_and_a_fixed_ratio_are_weak():
    law = get_law("chinchilla")
    N = np.geomspace(1e8, 1e10, 8)
    fixed = pd.DataFrame({"num_params": N, "data_seen": 20 * N})
    fixed["loss"] = law.predict(law.example, fixed)
    assert {"collinear"} <= {notice.code for notice in fit(fixed, law).warnings}
    two = law.sample(levels=2, noise=0.001)
    found = fit(two, law)
    assert found.status == "weak"
    assert {"few_points", "few_levels"} <= {notice.code for notice in found.warnings}


def test_every_warning_has_a_code_and_a_remedy():
    law = get_law("chinchilla")
    for notice in fit(law.sample(levels=2, noise=0.001), law).warnings:
        assert notice.code.replace("_", "").isalnum()
        assert ";" in notice.text  # what is wrong; what to do


def test_variables_can_be_other_columns(table):
    found = fit(table.rename(columns={"data_unique": "num_params"}), variables=("num_params",))
    assert found.columns == ("num_params",)
    assert found.params == fit(table).params


def test_weights_of_a_column_act_like_repeats(table):
    twice = pd.concat([table, table.iloc[:3].assign(seed=1)])
    heavy = table.assign(w=[2.0] * 3 + [1.0] * 9)
    assert fit(heavy, weights="w").params == pytest.approx(fit(twice).params, rel=1e-6)
    with pytest.raises(AnalysisError, match="weights='v'"):
        fit(heavy, weights="v")


def test_ends_of_intervals_are_short():
    assert format_interval(1022193390162.0, 1.7e12) == "1.02e+12 … 1.7e+12"
    assert format_interval(None, 2.0) == "unknown"


def test_numbers_have_the_digits_that_their_interval_deserves():
    assert format_estimate(3.401, -20.2, 27.1) == ("3", "-20 … 27")
    assert format_estimate(0.50031, 0.4991, 0.5012) == ("0.5003", "0.4991 … 0.5012")
    assert format_estimate(477.8, 101.2, 98765.4) == ("500", "100 … 99,000")  # a number keeps a digit, an end two
    assert format_estimate(1.2345e10, 1.2e10, 1.3e10) == ("1.234e+10", "1.200e+10 … 1.300e+10")
    assert format_estimate(0.0, 0.0, 0.16) == ("0", "0 … 0.160")
    assert format_estimate(1.5, 1.5, 1.5) == ("1.500", "1.500 … 1.500")
    assert format_estimate(0.123456, None, None) == ("0.1235", "unknown")


def test_a_law_of_best_settings_refuses_a_sweep_and_takes_optima():
    law = get_law("step_law_lr")
    optima = law.sample(levels=3, noise=0.0).drop(columns="seed")
    assert fit(optima, law).params["a"] == pytest.approx(-0.7129)
    sweep = pd.concat([optima.assign(peak_lr=optima["peak_lr"] * factor) for factor in (0.5, 1.0, 2.0)])
    with pytest.raises(
        AnalysisError, match=r"sweep: 3 values of it at num_params=6e\+07.*9 points.*--optima loss.*find_b"
    ):
        fit(sweep, law)
    # whoever names the column in another way has a sweep still
    renamed = sweep.rename(columns={"peak_lr": "training.optimizer.peak_lr"})
    with pytest.raises(AnalysisError, match="sweep"):
        fit(renamed, law, "training.optimizer.peak_lr")


def test_optima_of_every_seed_or_of_several_sizes_are_no_sweep():
    law = get_law("step_law_lr")
    assert fit(law.sample(levels=3, seeds=3, noise=0.01), law).n == 27
    batches = get_law("step_law_batch").sample(levels=4, noise=0.0).drop(columns="seed")
    both = pd.concat([batches.assign(num_params=n, batch_tokens=batches["batch_tokens"] * n**0.01) for n in (1e6, 1e7)])
    assert fit(both, "step_law_batch").n == 8
    with pytest.raises(AnalysisError, match="sweep"):
        fit(both.drop(columns="num_params"), "step_law_batch")
