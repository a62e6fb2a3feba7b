"""Claims about commas in numbers: what decides for one value decides for the file, and nothing is guessed in tabs."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.tables.files.commas import read_commas


def judge(delimiter=";", **columns):
    texts = pd.DataFrame(dict(enumerate(columns.values())), dtype=str)
    judged = read_commas(texts, list(columns), delimiter)
    if judged is None:
        return None
    return {list(columns)[place]: column.tolist() for place, column in judged.columns.items()}, judged.said


@pytest.mark.parametrize(
    ("text", "number"),
    [("4,17", 4.17), ("1.234,5", 1234.5), ("1.234.567", 1234567), ("0,125", 0.125), (",5", 0.5), ("-2,5e-3", -0.0025)],
)
def test_a_value_that_can_only_have_a_decimal_comma_decides_for_all(text, number):
    columns, said = judge(loss=[text, "1,234"], N=["1.000", "70"])
    assert columns == {"loss": [number, 1.234], "N": [1000, 70]}
    assert "as decimal point" in said


@pytest.mark.parametrize("text", ["1,234,567", "1,234.5", "0.5", "3.14"])
def test_a_value_that_can_only_have_grouping_commas_decides_for_all(text):
    columns, said = judge(a=[text], N=["2,345"])
    assert columns["N"] == [2345]
    assert "between thousands (" in said


def test_columns_are_judged_singly_where_the_file_has_both():
    columns, said = judge(lr=["0.001"], loss=["4,17"], N=["1.234"], D=["2,345"])
    assert columns == {"loss": [4.17]}
    assert "column by column in 'loss'" in said


def test_without_evidence_semicolons_decide_with_a_doubt_and_tabs_do_not():
    columns, said = judge(loss=["2,345", "3,456"])
    assert columns == {"loss": [2.345, 3.456]}
    assert "no value tells" in said
    assert judge("\t", loss=["2,345", "3,456"]) is None
    assert judge("\t", loss=["2,34", "3,456"])[0] == {"loss": [2.34, 3.456]}


def test_text_with_commas_and_missing_words_stay():
    columns, _ = judge(label=["a,b", "1,5"], loss=["4,17", "NA"])
    assert set(columns) == {"loss"}
    assert columns["loss"][0] == 4.17
    assert columns["loss"][1] != columns["loss"][1]


def test_spaces_and_apostrophes_stand_between_thousands():
    columns, _ = judge(N=["1 234 567", "70\u00a0000"], D=["1'234,5", "7"])
    assert columns == {"N": [1234567, 70000], "D": [1234.5, 7.0]}
