"""Claims about spreadsheets: the sheet with rows is read, with the same rules for names and values as text tables."""

from __future__ import annotations

import datetime as dt
import io
import sys
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest

from analysis.errors import AnalysisError

ROWS = [["N", "loss "], [1, 2.5], [2, 2.25]]


def make_book(**sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def test_the_first_sheet_with_rows_is_read_and_others_are_said(read):
    content = make_book(notes=[["made by hand"]], runs=ROWS, more=[["a"], [1]])
    found, said = read("t.xlsx", content)
    assert found == {"N": [1, 2], "loss": [2.5, 2.25]}
    assert said == ("t.xlsx: sheet 'runs' is read, and not 'more'",)
    assert read("t.xlsx", content, sheet="more")[0] == {"a": [1]}
    with pytest.raises(AnalysisError, match=r"t\.xlsx': sheet='rusn' is unknown; did you mean 'runs'\?"):
        read("t.xlsx", content, sheet="rusn")
    with pytest.raises(AnalysisError, match="none of its sheets has rows"):
        read("t.xlsx", make_book(notes=[["made by hand"]]))


def test_titles_units_blank_rows_and_words_for_missing_are_as_in_text(read):
    rows = [["Results of May"], [], ["Tokens", "run"], ["(B)", None], [1, "None"], [], ["-", "b"], ["2.5", "c"]]
    found, said = read("t.xlsx", make_book(runs=[[None, *row] for row in rows]))
    assert np.array_equal(found["Tokens (B)"], [1, np.nan, 2.5], equal_nan=True)
    assert found["run"] == ["None", "b", "c"]
    for words in [
        "2 blank rows",
        "'Results of May'",
        "first 2 rows",
        "cells of text are read as numbers: 'Tokens (B)'",
    ]:
        assert any(words in sentence for sentence in said), words


def test_columns_of_one_name_and_rows_without_names_are_as_in_text(read):
    assert set(read("t.xlsx", make_book(runs=[["a", "a"], [1, 2]]))[0]) == {"a (1)", "a (2)"}
    with pytest.raises(AnalysisError, match="numbers alone"):
        read("t.xlsx", make_book(runs=[[1, 2], [3, 4]]))
    assert "though some are numbers: '2020'" in " ".join(read("t.xlsx", make_book(runs=[["N", 2020], [3, 4]]))[1])


def test_merged_names_stand_over_each_of_their_columns(read, tmp_path):
    columns = {("loss", "mean"): [1.5, 2.0], ("loss", "std"): [0.1, 0.2], ("N", ""): [1, 2]}
    pd.DataFrame(columns, index=pd.Index(["a", "b"], name="run")).to_excel(tmp_path / "m.xlsx")
    found, _ = read("t.xlsx", (tmp_path / "m.xlsx").read_bytes())
    assert found == {"run": ["a", "b"], "loss mean": [1.5, 2.0], "loss std": [0.1, 0.2], "N": [1, 2]}


def test_days_and_truth_values_keep_their_kind(read):
    found, _ = read("t.xlsx", make_book(runs=[["day", "ok"], [dt.datetime(2024, 1, 31), True], [None, None]]))
    assert found["day"][0] == pd.Timestamp("2024-01-31")
    assert found["ok"][0] is True


def test_a_missing_package_is_named_with_its_extra(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(AnalysisError, match=r"t\.ods': .* pip install scaling\[excel\]"):
        read("t.ods", b"PK\x03\x04")


def test_a_sheet_of_another_kind_of_file_is_refused(read):
    with pytest.raises(AnalysisError, match="is no spreadsheet"):
        read("t.csv", "a\n1\n", sheet="runs")


def test_a_cell_at_the_far_corner_is_refused_before_memory_ends(read):
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "N", "x"
    file = io.BytesIO()
    book.save(file)
    with pytest.raises(AnalysisError, match="as far out as row 1048576 and column 16384"):
        read("t.xlsx", file.getvalue())


def test_an_open_document_is_read_as_excel_is(read):
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="float" office:value="{value}"/>'
            if isinstance(value, int | float)
            else f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
            for value in row
        )
        + "</table:table-row>"
        for row in ROWS
    )
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    padding = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row>'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        kind = '<manifest:file-entry manifest:full-path="/" manifest:media-type="application/x-ods"/>'
        space = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
        book.writestr(
            "META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{space}">{kind}</manifest:manifest>'
        )
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "content.xml",
            f"<office:document-content {names}><office:body><office:spreadsheet>"
            f'<table:table table:name="runs">{cells}{padding}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    assert read("t.ods", file.getvalue())[0] == {"N": [1, 2], "loss": [2.5, 2.25]}
