"""Claims about layouts: the delimiter and the header are those that a person would see."""

from __future__ import annotations

import pytest

from analysis.tables.files.content import BrokenError
from analysis.tables.files.layout import find_layout


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_delimiter_is_found_under_any_suffix(delimiter, suffix):
    text = "N,D,loss\n1,2,3\n4,5,6\n".replace(",", delimiter)
    assert find_layout(text, suffix)[:2] == (delimiter, [["N", "D", "loss"]])


def test_the_suffix_decides_where_two_delimiters_make_a_table():
    text = "lr|wd,loss\na|b,x\n"
    assert find_layout(text, ".csv").delimiter == ","
    assert find_layout(text.replace(",", "\t"), ".tsv").delimiter == "\t"


def test_commas_in_names_do_not_hide_semicolons():
    assert find_layout("N;loss, nats;D\n1;4,17;3\n", ".csv").headers == [["N", "loss, nats", "D"]]
    assert find_layout("Params, M;Loss, nats\n1,5;2,5\n", ".csv").delimiter == ";"


def test_delimiters_in_quotes_do_not_count():
    assert find_layout('"a;b","c;d"\n"1;2","3;4"\n', ".csv").headers == [["a;b", "c;d"]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# N D loss\n1 2 3\n", ["N", "D", "loss"]),
        ("#N,D,loss\n1,2,3\n", ["N", "D", "loss"]),
        ("# made by hand\n# N D loss\n1 2 3\n", ["N", "D", "loss"]),
        ("# made by hand on 3 machines\nN,D,loss\n1,2,3\n", ["N", "D", "loss"]),
        ("#,N,loss\n0,2,3\n", ["#", "N", "loss"]),
        ("sep=;\nN;D\n1;2\n", ["N", "D"]),
        ("Results\n\nN,D\n1,2\n", ["N", "D"]),
        ("Results;;\nN;D;loss\n1;2;3\n", ["N", "D", "loss"]),
        ("N D loss\n1 2 3\n", ["N", "D", "loss"]),
        ("loss\n1\n", ["loss"]),
    ],
)
def test_names_are_found_below_remarks_and_titles_or_in_them(text, names):
    assert find_layout(text, ".csv").headers == [names]


def test_what_is_passed_over_is_said():
    assert "'# made by hand'" in find_layout("# made by hand\nN,D\n1,2\n", ".csv").said[0]
    assert "'Results'" in find_layout("Results,\nN,D\n1,2\n", ".csv").said[0]


def test_a_table_without_names_is_refused_or_doubted():
    with pytest.raises(BrokenError, match="numbers alone, '1', '2', and no names"):
        find_layout("1,2\n3,4\n", ".csv")
    assert "though some are numbers: '2'" in find_layout("run-a,2\nrun-b,4\n", ".csv").said[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [("N,D\n1,2,3\n", 2), ("N,D\n1,2\n\n1,2,3\n", 4), ('N,D\n"1\n",2\n1,2,3\n', 4), ("# x\nN,D\n1,2,\n", 3)],
)
def test_a_row_with_more_fields_than_names_is_an_error_with_its_line(read, text, line):
    with pytest.raises(ValueError, match=rf"line {line} has 3 fields where the header has 2"):
        read("t.csv", text)


def test_a_quote_without_an_end_is_named_with_its_line(read):
    with pytest.raises(ValueError, match="a quote does not end that begins in line 3"):
        read("t.csv", 'N,D\n1,2\n1,"2\n3,4\n')
