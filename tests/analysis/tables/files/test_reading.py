"""Claims about reading: several files are one table that loses nothing, and no file ends in a foreign traceback."""

from __future__ import annotations

import gzip
import io
import json
import random

import numpy as np
import openpyxl
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.files.reading import is_file_name, read_files


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_text(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write_text


def test_file_names_are_told_by_suffix_in_any_case():
    for name in [
        "a.csv",
        "A.TSV",
        "a.txt.gz",
        "a.json",
        "a.ndjson.ZST",
        "gs://b/a.parquet",
        "a.xlsx",
        "a.xls",
        "a.ods",
    ]:
        assert is_file_name(name), name
    for name in ["store", "a.csv.d", "a.gz", "gs://b/store", "a.py", ""]:
        assert not is_file_name(name), name


def test_a_glob_is_one_table_in_the_order_of_names(write):
    write("c/b.csv", "step,loss\n1,3.0\n")
    write("c/a.jsonl", '{"step": 1, "lr": 0.1}\n')
    write("c/notes.md", "x")
    frame, said = read_files(["c/*"])
    assert frame["file"].tolist() == ["a", "b"]
    assert frame["loss"].tolist()[1:] == [3.0]
    assert frame["lr"].tolist()[:1] == [0.1]
    assert frame.columns.tolist() == ["step", "lr", "loss", "file"]
    assert any("passed over: 'notes.md'" in sentence for sentence in said)
    assert any("2 files are one table of 2 rows" in sentence for sentence in said)
    assert any("some files lack are empty there: 'lr', 'loss'" in sentence for sentence in said)


def test_files_of_one_name_are_told_apart_by_their_folders(write):
    for folder in "ab":
        write(f"runs/{folder}/loss.csv", "loss\n1\n")
    assert read_files(["runs/*/loss.csv"]).frame["file"].tolist() == ["a/loss", "b/loss"]
    assert read_files(["runs/**/*.csv"]).frame["file"].tolist() == ["a/loss", "b/loss"]


def test_a_column_file_of_their_own_stays(write):
    write("a.csv", "file,loss\nx,1\n")
    write("b.csv", "file,loss\ny,2\n")
    assert read_files(["b.csv", "a.csv"]).frame.to_dict("list") == {"file": ["y", "x"], "loss": [2, 1]}


def test_labels_are_text_in_all_files_if_in_one_and_words_for_missing_are_not_text(write):
    write("a.csv", "label,loss\n007,3.5\n")
    write("b.csv", "label,loss\nx7,null\n")
    frame, _ = read_files(["*.csv"])
    assert frame["label"].tolist() == ["007", "x7"]
    assert frame["loss"].dtype == np.float64
    assert np.isnan(frame["loss"][1])


def test_a_file_that_is_named_twice_counts_once_and_one_without_rows_is_said(write):
    write("a.csv", "loss\n1\n")
    write("b.csv", "loss\n")
    frame, said = read_files(["a.csv", "*.csv"])
    assert frame["loss"].tolist() == [1]
    assert any("named twice and read once" in sentence for sentence in said)
    assert any("files without rows: 'b.csv'" in sentence for sentence in said)


def test_what_is_said_of_many_files_is_said_once(write):
    for n in range(5):
        write(f"{n}.csv", f"N;loss\n1;{n},5\n")
    said = read_files(["*.csv"]).said
    assert sum("between columns" in sentence for sentence in said) == 5  # each with its own example
    for n in range(5):
        write(f"{n}.csv", "N;loss\n1;2,5\n")
    said = read_files(["*.csv"]).said
    assert [sentence for sentence in said if "between columns" in sentence] == [
        "'0.csv', '1.csv', '2.csv' and 2 others: read with ; between columns and , as decimal point (2,5 is 2.5)"
    ]


def test_a_name_with_signs_of_globs_is_a_file_if_there_is_one(write):
    write("run[1].csv", "loss\n1\n")
    assert read_files(["run[1].csv"]).frame["loss"].tolist() == [1]


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        (["no/*.csv"], r"'no/\*\.csv' matches no \.csv"),
        (["none.csv"], "'none.csv' does not exist; give a store folder or a .csv"),
        (["https://example.org/t.csv"], "is a web address; download the file"),
        (["some.py"], "'some.py' does not exist; give"),
        ([], "names no file"),
    ],
)
def test_what_is_not_there_is_named(write, sources, reason):
    with pytest.raises(AnalysisError, match=reason):
        read_files(sources)


def test_settings_in_the_names_of_files_are_columns(write):
    write("curve_N1e6.csv", "step\n1\n2\n")
    write("curve_N70M.csv", "step\n1\n")
    frame, _ = read_files(["curve_*.csv"], name="curve_N{num_params}.csv")
    assert frame["num_params"].tolist() == [1_000_000, 1_000_000, 70_000_000]


def _make_files():
    frame = pd.DataFrame({"N": [1, 2, 3], "loss": [2.5, np.nan, 3.0], "label": ["a", "b", None]})
    parquet, book = io.BytesIO(), openpyxl.Workbook()
    frame.to_parquet(parquet)
    for row in [["N", "loss"], [1, 2.5], [2, "x"]]:
        book.active.append(row)
    sheet = io.BytesIO()
    book.save(sheet)
    lines = "".join(json.dumps(row) + "\n" for row in [{"a": {"b": 1}, "c": "x"}, {"a": {"b": 2}, "c": None}])
    chart = 'Step,"r - loss","r - loss__MIN","r - loss__MAX"\n1,2,2,2\n2,,,\n'
    return {
        "t.csv": frame.to_csv(index=False).encode(),
        "c.csv": chart.encode(),
        "s.csv": b"N;loss;label\n1.000;4,17;a\n70;-;b\n",
        "u.tsv": "N\tloss\n1\t2,5\n".encode("utf-16"),
        "h.txt": b"# made\n# N D loss\n1 2 3\n4 5 6\n",
        "t.jsonl": lines.encode(),
        "t.json": json.dumps({"best": 1, "log": [{"a": 1}, {"a": 2.5}]}, indent=1).encode(),
        "t.csv.gz": gzip.compress(b"N,loss\n1,2\n"),
        "t.parquet": parquet.getvalue(),
        "t.xlsx": sheet.getvalue(),
    }


FILES = _make_files()
MANY = {"t.xlsx": 60, "t.parquet": 150}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_a_table_or_one_line(tmp_path, name):
    rng = random.Random(name)
    path = tmp_path / name
    tables = 0
    for _ in range(MANY.get(name, 200)):
        content = bytearray(FILES[name])
        for _ in range(rng.randint(1, 4)):
            place, length = rng.randrange(len(content) + 1), rng.randint(0, 6)
            signs = rng.choice(
                [b",", b";", b"\n", b'"', b"#", b"{", b"]", b"\0", b"9" * 25, b"-", b"\xff", b"__MIN", b" "]
            )
            content[place : place + length] = rng.choice([b"", signs, rng.randbytes(3), content[:length]])
        if rng.random() < 0.1:
            content = content[: rng.randrange(len(content) + 1)]
        path.write_bytes(bytes(content))
        try:
            tables += isinstance(read_files([str(path)]).frame, pd.DataFrame)
        except AnalysisError as error:
            assert "\n" not in str(error)
            assert name in str(error)
    assert tables or name.endswith((".gz", ".xlsx"))
