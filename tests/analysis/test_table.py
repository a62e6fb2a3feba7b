"""Claims about tables: every source gives the same rows, filters evaluate no code, fingerprints survive files."""

from __future__ import annotations

import sys
import types

import numpy as np
import pandas as pd
import pytest

from analysis.laws import AnalysisError
from analysis.table import fingerprint_table, keep_rows, load_table, select_rows, write_table


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "cell": ["aa", "bb", "cc"],
            "label": ["mlp", "mlp", "forest"],
            "data_unique": [100, 200, 400],
            "is_final": [True, True, False],
            "status": ["ok", "diverged", "ok"],
            "loss": rng.random(3) / 3,
            "num_params": [10.0, 20.0, np.nan],
        }
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_keeps_its_fingerprint_through_a_file(table, tmp_path, suffix):
    path = str(tmp_path / f"t{suffix}")
    write_table(table, path)
    again = load_table(path)
    assert again["loss"].to_numpy().tobytes() == table["loss"].to_numpy().tobytes()
    assert fingerprint_table(again) == fingerprint_table(table)


def test_the_fingerprint_sees_every_change(table):
    changed = [
        table.assign(loss=table["loss"] * (1 + 1e-15)),
        table.rename(columns={"loss": "error"}),
        table.assign(label=["mlp", "forest", "mlp"]),
        table.iloc[::-1],
    ]
    assert len({fingerprint_table(item) for item in [table, *changed]}) == 5


def test_a_store_is_read_through_its_rows(tmp_path, monkeypatch):
    class Store:
        @classmethod
        def open(cls, path):
            assert str(path) == str(tmp_path)
            return cls()

        def rows(self):
            return [{"cell": "aa", "loss": 0.5}, {"cell": "bb", "loss": 0.25}]

    monkeypatch.setitem(sys.modules, "scaling.record", types.SimpleNamespace(Store=Store))
    assert load_table(str(tmp_path)).to_dict("list") == {"cell": ["aa", "bb"], "loss": [0.5, 0.25]}


def test_their_columns_take_our_names(table, tmp_path):
    path = str(tmp_path / "t.csv")
    write_table(table.rename(columns={"loss": "their_loss"}), path)
    assert "loss" in load_table(path, {"loss": "their_loss"})
    with pytest.raises(AnalysisError, match="did you mean 'their_loss'"):
        load_table(path, {"loss": "their_los"})
    with pytest.raises(AnalysisError, match="two columns 'label'"):
        load_table(path, {"label": "cell"})


@pytest.mark.parametrize(
    ("expression", "cells"),
    [
        ("data_unique<200", ["aa"]),
        ("data_unique <= 200", ["aa", "bb"]),
        ("data_unique>=2e2", ["bb", "cc"]),
        ("label==mlp", ["aa", "bb"]),
        ("label != 'mlp'", ["cc"]),
        ("is_final==false", ["cc"]),
    ],
)
def test_keep_reads_column_operator_value(table, expression, cells):
    assert keep_rows(table, [expression])["cell"].tolist() == cells


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("data_unique", "must be COLUMN OP VALUE"),
        ("data_uniq<3", "did you mean 'data_unique'"),
        ("data_unique<__import__('os')", "give a number"),
        ("label<mlp", "use == or !="),
        ("is_final==1", "holds true and false"),
    ],
)
def test_keep_refuses_what_it_cannot_compare(table, expression, message):
    with pytest.raises(AnalysisError, match=message):
        keep_rows(table, [expression])


def test_only_finished_finite_rows_count(table):
    rows, dropped, rule = select_rows(table, ["data_unique", "loss"])
    assert (rows["cell"].tolist(), dropped) == (["aa"], 2)
    assert rule == "status is ok and is_final and data_unique, loss finite"
    assert select_rows(table.drop(columns=["status", "is_final"]), ["num_params"])[1] == 1
    with pytest.raises(AnalysisError, match="column 'label' holds text"):
        select_rows(table, ["label"])


def test_unknown_files_are_refused(table, tmp_path):
    with pytest.raises(AnalysisError, match=r"choose \.csv, \.parquet or \.jsonl"):
        write_table(table, str(tmp_path / "t.xlsx"))
    with pytest.raises(AnalysisError, match="does not exist"):
        load_table(str(tmp_path / "none.csv"))
    with pytest.raises(AnalysisError, match="neither a folder nor"):
        load_table(str(tmp_path / "none.xlsx"))
