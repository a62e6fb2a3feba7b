"""Tables as they lie in files: delimited text and Parquet, malformed ones in one line."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.scaling.data.sources.written_tables import load, refuses, split, write


def test_quotes_hold_delimiters_except_between_tabs(tmp_path):
    path = write(tmp_path / "t.csv", [(i, '"a, ""b"""', ' "x,y"') for i in range(20)])
    source = load(path, text=(1,), text_features=4)
    assert source.num_classes == 1
    refuses("is no table of text", write(tmp_path / "u.csv", [(i, '"a') for i in range(20)]))
    tabs = write(tmp_path / "t.tsv", [(i, '"a') for i in range(20)], "\t")
    assert load(tabs, delimiter="\t").size == 10


def test_parquet_gives_what_text_gives(numbers, tmp_path):
    rows = [line.split(",") for line in numbers.read_text().splitlines()]
    x, y, z, who = zip(*rows, strict=True)
    table = {
        "x": pa.array([float(v) for v in x]),
        "y": pa.array([float(v) for v in y]),
        "z": pa.array([float(v) for v in z]),
        "who": pa.array(who).dictionary_encode(),
        "__index_level_0__": pa.array(range(60)),
    }
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    one, other = load(numbers), load(tmp_path / "t.parquet")
    assert (one.sha256, one.eval_sha256) == (other.sha256, other.eval_sha256)


def test_nulls_of_parquet_are_missing(tmp_path):
    table = {
        "n": pa.array([None, *range(29)]),
        "f": pa.array([float("nan"), *[0.5] * 29]),
        "b": pa.array([True, False] * 15),
        "c": pa.array(["u", None] * 15),
        "y": pa.array([1, 0] * 15),
    }
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    pool, held_out = split(30)
    fields = {"label_column": "y", "categorical": ("c",)}
    source = load(tmp_path / "t.parquet", missing="", **fields)
    values, eval_values = (np.arange(-1.0, 29.0)[rows] for rows in (pool, held_out))
    first = source.inputs if 0 in pool else source.eval_inputs
    assert first[0, 0] == np.median(values[values >= 0])
    assert (source.inputs[pool != 0, 0] == values[pool != 0]).all()
    assert (source.eval_inputs[held_out != 0, 0] == eval_values[held_out != 0]).all()
    assert (source.labels == 1 - pool % 2).all()
    refuses("column 'n' of row 0 holds ''", tmp_path / "t.parquet", **fields | {"categorical": (), "ignore": ("c",)})
    refuses("column 'c' of row 1 holds ''", tmp_path / "t.parquet", **fields, ignore=("n", "f"))
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-5])
    refuses("is no whole Parquet file", tmp_path / "torn.parquet")
    refuses("does not exist", tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("1,a\n2\n3,b\n", {}, "rows have [1, 2] columns; give a table whose rows are equally long (row 1 has 1: '2')"),
        ("", {}, "holds no rows"),
        ("1,a\n,b\n", {}, "column 0 of row 1 holds '', and every column but the label must be a number"),
        ("1,a\n1e40,b\n", {}, "column 0 of row 1 holds '1e40', which is not finite"),
        ("1,a\nnan,b\n", {"missing": "?"}, "column 0 of row 1 holds 'nan', which is not finite"),
        ("1,a\n2,\n", {}, "the label, column 1, is missing in 1 rows, the first of them row 1"),
        ("1,a\n2,?\n", {"missing": "?"}, "the label, column 1, is missing in 1 rows"),
        ("?,a\n?,b\n", {"missing": "?"}, "column 0 has no value in the training examples"),
        ("1,g,a\n1,,b\n", {"group_column": 1}, "every row must belong to a group"),
    ],
)
def test_a_malformed_table_is_one_line(tmp_path, text, fields, message):
    (tmp_path / "t.csv").write_text(text)
    refuses(message, tmp_path / "t.csv", 1, **fields)


def test_files_that_are_no_text_are_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"1,\xff\n")
    refuses("is not UTF-8 text (byte 2)", tmp_path / "t.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 99)[:-9])
    refuses("is no whole gzip file", tmp_path / "t.csv.gz")
