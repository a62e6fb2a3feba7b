"""Fits of tables: what is left out is counted, weak designs say so, and bad tables are one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fit_table import fit, format_interval
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
