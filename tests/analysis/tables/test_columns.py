"""Claims about columns: their names become ours, rows are kept by rules that run no code, C = 6 N D gives the third."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.columns import keep_rows
from analysis.tables.table import read_table, select_rows, write_table


def test_their_columns_take_our_names(table, tmp_path):
    path = str(tmp_path / "t.csv")
    write_table(table.rename(columns={"loss": "their_loss"}), path)
    assert "loss" in read_table(path, {"loss": "their_loss"})
    with pytest.raises(AnalysisError, match="did you mean 'their_loss'"):
        read_table(path, {"loss": "their_los"})
    with pytest.raises(AnalysisError, match="two columns 'label'"):
        read_table(path, {"label": "cell"})


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


def test_what_was_kept_is_on_record(table):
    kept = keep_rows(table, ["data_unique<=200", "label==mlp"])
    assert select_rows(kept, ["loss"])[2] == (
        "is_final and status is ok and loss finite; keep data_unique<=200: 1 of 3 rows taken away; "
        "keep label==mlp: 0 of 2 rows taken away"
    )
    assert table.attrs == {}


def test_data_follow_from_compute_when_asked_and_it_is_on_record():
    table = pd.DataFrame({"Model Size": [1e9, 2e9], "Training FLOP": [6e20, 6e20], "loss": [2.5, 2.4]})
    names = {"num_params": "Model Size", "train_flops": "Training FLOP"}
    assert "data_seen" not in read_table(table, names)
    derived = read_table(table, names, derive=("data_seen",))
    assert derived["data_seen"].tolist() == [1e11, 0.5e11]
    assert "data_seen: train_flops / (6 num_params)" in select_rows(derived, ["num_params", "data_seen", "loss"])[2]
    assert read_table(derived.drop(columns="train_flops"), derive="train_flops")["train_flops"].tolist() == [6e20, 6e20]
    assert read_table(derived.drop(columns="num_params"), derive="num_params")["num_params"].tolist() == [1e9, 2e9]
    assert list(table.columns) == ["Model Size", "Training FLOP", "loss"]


@pytest.mark.parametrize(
    ("names", "derive", "message"),
    [
        ({}, ["data_sen"], "did you mean 'data_seen'"),
        ({}, ["train_flops"], "the table has that column"),
        ({}, ["data_seen"], "column='num_params' is unknown"),
        ({"num_params": "size"}, ["data_seen"], "holds text such as '7B'"),
    ],
)
def test_what_cannot_be_derived_is_said(names, derive, message):
    table = pd.DataFrame({"size": ["7B"], "train_flops": [1e20]})
    with pytest.raises(AnalysisError, match=message):
        read_table(table, names, derive)


def test_columns_may_be_swapped_and_used_twice():
    table = pd.DataFrame({"num_params": [20.0], "data_seen": [1.0]})
    swapped = read_table(table, {"num_params": "data_seen", "data_seen": "num_params", "data_unique": "num_params"})
    assert swapped.to_dict("records") == [{"data_seen": 20.0, "num_params": 1.0, "data_unique": 20.0}]


def test_truth_values_that_some_rows_lack_are_kept_by_their_names():
    table = pd.DataFrame({"model.residual": [True, False, None], "loss": [1.0, 2.0, 3.0]})
    assert keep_rows(table, ["model.residual==True"])["loss"].tolist() == [1.0]
    assert keep_rows(table, ["model.residual==false"])["loss"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("rule", "losses"),
    [
        ("loss<Infinity", [3.0, 2.0**70]),
        ("loss==Infinity", [float("inf")]),
        ("loss!=NaN", [3.0, float("inf"), 2.0**70]),
        ("loss>1e20", [float("inf"), 2.0**70]),
    ],
)
def test_text_for_what_is_not_finite_and_long_integers_are_numbers_to_a_rule(rule, losses):
    column = pd.Series([3.0, "NaN", "Infinity", None, 2**70], dtype=object)
    assert list(map(float, keep_rows(pd.DataFrame({"loss": column}), [rule])["loss"])) == losses


def test_missing_values_are_kept_by_nan_and_not_ordered_by_it():
    table = pd.DataFrame({"loss": [3.0, None], "label": ["a", None]})
    assert keep_rows(table, ["loss==NaN"])["label"].isna().tolist() == [True]
    with pytest.raises(AnalysisError, match="nothing is in order beside NaN"):
        keep_rows(table, ["loss<NaN"])


def test_a_missing_column_is_proposed_by_the_names_that_there_are():
    table = pd.DataFrame({"Size (M)": [70.0, 160.0], "Compute (PF-days)": [0.1, 0.2], "Val Loss": [3.0, 2.0]})
    with pytest.raises(AnalysisError) as caught:
        select_rows(table, ["num_params", "data_seen", "loss"])
    assert (
        "--column 'num_params=`Size (M)`*1e6' --column 'loss=Val Loss' "
        "--column 'train_flops=`Compute (PF-days)`*8.64e19' --derive data_seen"
    ) in str(caught.value)
