"""Claims about text tables: encodings, line ends, blank lines and short rows give the values that were written."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_do_not_matter(read, encoding, end):
    columns, said = read("t.csv", f"größe,label{end}1,µ{end}{end}2,x{end}".encode(encoding))
    assert columns == {"größe": [1, 2], "label": ["µ", "x"]}
    assert any("cp1252" in sentence for sentence in said) == (encoding == "cp1252")


def test_a_semicolon_file_has_decimal_commas_and_says_so_once(read):
    columns, said = read("t.csv", "N;loss;label\n1.000;4,17;a,b\n70;3;\n")
    assert columns["N"] == [1000, 70]
    assert columns["loss"] == [4.17, 3.0]
    assert columns["label"][0] == "a,b"
    assert said == ("t.csv: read with ; between columns and , as decimal point (4,17 is 4.17)",)


def test_quoted_commas_in_comma_files_stay_text(read):
    assert read("t.csv", 'N,loss\n"1,234","4,17"\n2,3\n')[0] == {"N": ["1,234", "2"], "loss": ["4,17", "3"]}


def test_short_rows_have_missing_values_and_a_header_alone_no_rows(read):
    columns, _ = read("t.csv", "N,D\n1\n2,3\n")
    assert np.isnan(columns["D"][0])
    assert columns["N"] == [1, 2]
    assert read("t.csv", "N,D\n")[0] == {"N": [], "D": []}


def test_long_whole_numbers_are_floats_with_and_without_gaps(read):
    columns, _ = read("t.csv", "C,D\n147000000000000000000,18446744073709551617\n1,\n-1,NA\n")
    assert columns["C"] == [1.47e20, 1.0, -1.0]
    assert columns["D"][0] == 18446744073709551617.0


def test_two_rows_of_names_that_only_the_first_rows_show_are_values(read):
    rows = ["run,loss", "a,warm", *[f"r{i},{i}" for i in range(150)], "z,cold"]
    columns, said = read("t.csv", "\n".join(rows))
    assert (len(columns["loss"]), columns["loss"][0], said) == (152, "warm", ())


def test_words_for_missing_are_judged_by_column(read):
    columns, _ = read("t.csv", "loss,label\nNone,None\n1.5,NA\n-,null\n,\n")
    assert columns["loss"][1] == 1.5
    assert np.isnan(columns["loss"]).tolist() == [True, False, True, True]
    assert columns["label"][:3] == ["None", "NA", "null"]


def test_floats_are_exact_with_each_way_of_reading(read):
    numbers = (np.random.default_rng(1).random(300) / 3).tolist()
    for head, write in [("x,y\n", "{},\n"), ("x,y\nNaN,\n", "{},\n"), ("x;y\n", "{};\n")]:
        text = head + "".join(write.format(repr(n).replace(".", ",") if ";" in head else repr(n)) for n in numbers)
        assert read("t.csv", text)[0]["x"][-300:] == numbers


def test_spaces_after_delimiters_are_no_part_of_values(read):
    assert read("t.csv", 'N, label\n1, a\n2, "b, c"\n')[0] == {"N": [1, 2], "label": ["a", "b, c"]}
