"""Claims about our columns made of theirs: exact scales, numbers as people write them, values that are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.computed import compute_columns


def test_products_are_the_decimal_ones():
    table = pd.DataFrame({"Tokens (B)": [0.35, 1.1, 0.57, np.nan], "batch": [2, 3, 4, 5], "a / b": [1.0, 2, 3, 4]})
    found = compute_columns(
        table, {"data_seen": "`Tokens (B)`*1e9", "x": "batch*`a / b`*2", "y": "batch / 4", "z": "a / b"}
    )
    assert found["data_seen"].tolist()[:3] == [350_000_000, 1_100_000_000, 570_000_000]
    assert np.isnan(found["data_seen"].iloc[3])
    assert (found["x"].tolist(), found["y"].tolist()) == ([4, 12, 24, 40], [0.5, 0.75, 1, 1.25])
    assert found["z"].tolist() == [1, 2, 3, 4] and "a / b" not in found
    assert set(table.columns) == {"Tokens (B)", "batch", "a / b"}


def test_a_column_may_be_made_of_itself_and_texts_are_for_every_row():
    found = compute_columns(
        pd.DataFrame({"num_params": [70.0, 160.0]}), {"num_params": "num_params*1e6", "data_unit": "'tokens'"}
    )
    assert found.to_dict("list") == {"num_params": [7e7, 1.6e8], "data_unit": ["tokens", "tokens"]}
    assert dict(found.provenance.conventions) == {"num_params": "num_params*1e6", "data_unit": "'tokens'"}


def test_numbers_as_people_write_them_are_read_by_the_column():
    table = pd.DataFrame(
        {"size": ["1,5B", "70M", "13 B"], "acc": ["85.3%", "90%", None], "l": ["3,21 ± 0,02", "2,9", "3,0"]}
    )
    found = compute_columns(table, {"num_params": "count(size)", "accuracy": "number(acc)", "loss": "number(l)"})
    assert found["num_params"].tolist() == [1.5e9, 7e7, 1.3e10]
    assert found["accuracy"].tolist()[:2] == [0.853, 0.9]
    assert found["loss"].tolist() == [3.21, 2.9, 3.0]
    assert any(sentence.startswith("accuracy: ") for sentence in found.provenance.said)


def test_a_value_that_is_no_number_stops_with_its_row_unless_it_may_be_empty():
    table = pd.DataFrame({"size": ["7B", "large"], "plain": ["1", "x"]})
    with pytest.raises(AnalysisError, match=r"row 2 holds 'large', which is no number \(1 of 2 rows\)"):
        compute_columns(table, {"num_params": "count(size)"})
    with pytest.raises(AnalysisError, match="holds text such as 'x'"):
        compute_columns(table, {"num_params": "plain*2"})
    found = compute_columns(table, {"num_params?": "count(size)", "seed?": "plain*2"})
    assert found["num_params"].tolist()[0] == 7e9 and found["num_params"].isna().tolist() == [False, True]
    assert found["seed"].tolist()[0] == 2.0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"loss": "val_los"}, "the table has no 'val_los'; did you mean 'val loss '"),
        ({"loss": "a*'x'"}, "a text cannot be multiplied"),
        ({"loss": "a*"}, "a factor is empty"),
        ({"loss": "last(a)"}, "is of histories"),
        ({"a": "val loss"}, "two columns 'a'; rename theirs too"),
    ],
)
def test_what_cannot_be_made_is_one_line(columns, message):
    with pytest.raises(AnalysisError, match=message):
        compute_columns(pd.DataFrame({"a": [1.0], "val loss ": [2.0]}), columns)


def test_a_unit_in_a_header_that_is_not_used_is_said():
    found = compute_columns(pd.DataFrame({"Tokens (B)": [1.0]}), {"data_seen": "Tokens (B)"})
    assert found["data_seen"].tolist() == [1.0]
    assert "--column 'data_seen=`Tokens (B)`*1e9'" in found.provenance.said[0]
