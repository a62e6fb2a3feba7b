"""Claims about names of columns: none is taken for another, and rows of values are no header."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.tables.files.headers import count_header_rows, join_names, name_columns
from analysis.tables.files.values import read_number


def count(*rows):
    return count_header_rows(rows, lambda field: read_number(field) is not None)[0]


def test_units_and_levels_below_names_belong_to_the_header():
    assert count(["Tokens", "run"], ["(B)", ""], ["1", "a"], ["2", "b"]) == 2
    assert count(["N", "loss"], ["first", "mean"], ["M", "nats"], ["1", "2"]) == 3
    assert count(["", "loss"], ["", "mean"], ["run", ""], ["a", "1"]) == 3


@pytest.mark.parametrize(
    "first",
    [["a", "NA"], ["a", "-"], ["a", "7B"], ["a", "1_000"], ["2024-01-31", "failed"], ["a", ""], ["a", "3"]],
)
def test_a_row_of_values_is_no_header(first):
    assert count(["run", "loss"], first, ["b", "3"], ["c", "4"]) == 1


def test_text_that_comes_again_below_is_no_header():
    assert count(["run", "loss"], ["a", "failed"], ["b", "3"], ["c", "failed"]) == 1
    assert count(["run", "state"], ["a", "failed"], ["b", "finished"]) == 1


def test_names_are_joined_from_above():
    assert join_names([["loss", "loss", "N"], ["mean", "std", "-"]], 4) == ["loss mean", "loss std", "N", ""]


def test_columns_of_one_name_are_one_or_numbered_and_it_is_said():
    frame = pd.DataFrame([[1, 1, 2, 5, 9], [2, 2, 3, 6, 8]])
    named, said = name_columns(frame, ["N", " N", "loss", "loss ", "loss (1)"])
    assert named.columns.tolist() == ["N", "loss (2)", "loss (3)", "loss (1)"]
    assert named.to_numpy().tolist() == [[1, 2, 5, 9], [2, 3, 6, 8]]
    assert "read once: 'N'" in said[0]
    assert "numbered" in said[1]


def test_a_column_without_a_name_stays_only_with_values():
    named, _ = name_columns(pd.DataFrame({0: [1], 1: [float("nan")], 2: [3]}), ["", "", "a"])
    assert named.to_dict("list") == {"Unnamed: 0": [1], "a": [3]}
