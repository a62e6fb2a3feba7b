"""Claims about Parquet: an index, nested values and levels of names are columns like all others."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from analysis.errors import AnalysisError


def pack(frame):
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


def test_an_index_of_names_is_a_column_and_one_of_places_is_not(read):
    frame = pd.DataFrame({"loss": [2.5, 3.0]}, index=pd.Index(["a", "b"], name="run"))
    found, said = read("t.parquet", pack(frame))
    assert found == {"run": ["a", "b"], "loss": [2.5, 3.0]}
    assert said == ("t.parquet: the index is read as columns: 'run'",)
    assert read("t.parquet", pack(frame.reset_index().iloc[1:]))[0] == {"run": ["b"], "loss": [3.0]}


def test_nested_values_have_dotted_names(read):
    frame = pd.DataFrame({"config": [{"model": {"N": 7}}], ("loss", "mean"): [2.5]})
    frame.columns = ["config", "loss"]
    assert read("t.parquet", pack(frame))[0] == {"config.model.N": [7], "loss": [2.5]}


@pytest.mark.parametrize("content", [b"", b"no", b"PAR1" + bytes(30) + b"PAR1"])
def test_what_is_no_parquet_is_one_line(read, content):
    with pytest.raises(AnalysisError, match=r"is no readable \.parquet file") as caught:
        read("t.parquet", content)
    assert "\n" not in str(caught.value)
