"""Long tables are written as CSV to the last character as pandas does."""

import io

import numpy as np
import pandas as pd
import pytest

from analysis.tables import csv_text
from analysis.tables.csv_text import write_csv

GENERATOR = np.random.default_rng(0)
COLUMNS = {
    "number": GENERATOR.normal(size=50) * 10.0 ** GENERATOR.integers(-20, 20, 50),
    "count": GENERATOR.integers(-5, 5, 50),
    "truth": GENERATOR.random(50) < 0.5,
    "words": ["a,b", 'x"y', "l\nm", "", None, " z", "ü", "\r", "NaN", "0"] * 5,
    "any, kind": [1, 1.0, True, None, "a,b", float("nan"), -0.0, 0.0, 2**70, False] * 5,
    "special": [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e16, 1e-5, 123456789.0, 1e22, 5e-324] * 5,
    "sometimes": [True, None] * 25,
    "never": [None] * 50,
}
TABLE = pd.DataFrame(COLUMNS)


@pytest.fixture(autouse=True)
def short_is_long(monkeypatch):
    monkeypatch.setattr(csv_text, "MANY", 10)
    monkeypatch.setattr(csv_text, "TOGETHER", 7)


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE[["number", "count"]],
        TABLE[["words"]],
        TABLE.iloc[:0],
        TABLE.iloc[::-1],
        TABLE.assign(when=pd.Timestamp("2026-01-02"), what=TABLE["words"].astype("category")),
        TABLE.set_axis([*TABLE.columns[:-1], "number"], axis=1),
    ],
    ids=["all", "numbers", "one column", "no rows", "another index", "other kinds", "a name twice"],
)
def test_it_is_what_pandas_writes(table, tmp_path):
    ours, theirs = io.StringIO(), io.StringIO()
    write_csv(table, ours)
    table.to_csv(theirs, index=False)
    assert ours.getvalue() == theirs.getvalue()
    write_csv(table, str(tmp_path / "ours.csv"))
    table.to_csv(tmp_path / "theirs.csv", index=False)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_short_tables_are_left_to_pandas(monkeypatch):
    monkeypatch.setattr(csv_text, "MANY", 51)
    monkeypatch.setattr(csv_text, "_write", None)
    write_csv(TABLE, io.StringIO())
