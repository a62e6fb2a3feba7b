"""Claims about settings in names: fields are numbers where all are, and what does not match is counted, not guessed."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.files.names import read_names


def match(name, files=("runs/curve_N70M_D1.4e9.csv.gz", "runs/curve_N7e9_D20000000.csv"), **columns):
    frame = pd.DataFrame(columns or {"loss": [1.0] * len(files)})
    counts = [1] * len(files) if not columns else [len(frame)]
    found, said = read_names(frame, name, files, counts)
    return found.drop(columns=list(frame.columns)).to_dict("list"), said


@pytest.mark.parametrize("name", ["curve_N{N}_D{D}", "{}N{N}_D{D}", "{_}_N{N}_D{D}", "runs/curve_N{N}_D{D}"])
def test_fields_of_files_are_numbers_and_one_example_is_said(name):
    found, said = match(name)
    assert found == {"N": [70_000_000, 7_000_000_000], "D": [1_400_000_000, 20_000_000]}
    assert said == ("read from names: N=70000000 from '70M', D=1400000000 from '1.4e9'",)


def test_a_suffix_may_be_written_and_is_no_part_of_a_field():
    assert match("curve_N{N}_D{D}.csv", ["curve_N1_D2.csv", "curve_N1_D2.csv.xz"])[0]["D"] == [2, 2]
    assert match("{kind}-{lr}", ["a-0.1.csv"])[0] == {"kind": ["a"], "lr": [0.1]}


def test_a_field_with_a_value_that_is_no_number_is_text_throughout():
    found, said = match("run{seed}", ["run1.csv", "run2x.csv", "run03.csv"])
    assert found == {"seed": ["1", "2x", "03"]}
    assert said == ("read from names as text: 'seed'",)


@pytest.mark.parametrize(
    ("text", "number"), [("70m", 7e7), ("1.5b", 1.5e9), ("2t", 2e12), ("5k", 5000), ("1_000", 1000)]
)
def test_scales_are_read_in_either_case(text, number):
    assert match("N{N}", [f"N{text}.csv"])[0] == {"N": [number]}


@pytest.mark.parametrize("text", ["nan", "inf", "1_2", "infinity", "x7", "7x"])
def test_words_that_python_takes_for_numbers_are_text(text):
    assert match("N{N}", [f"N{text}.csv"])[0] == {"N": [text]}


def test_columns_of_text_are_matched_where_no_file_is_and_the_reading_with_numbers_wins():
    names = ["gpt-2-7e9-lr1e-3", "gpt-2-70M-lr3e-4", "other"]
    found, said = match("{label}-{N}-lr{lr}", ["t.csv"], Name=names, note=["x", "y", "z"])
    assert found["label"][:2] == ["gpt-2", "gpt-2"]
    assert found["N"][:2] == [7e9, 7e7]
    assert found["lr"][:2] == [1e-3, 3e-4]
    assert found["N"][2] != found["N"][2]
    assert "read from the column 'Name'" in said[0]
    assert "1 of 3 rows do not match" in said[-1]


def test_a_tie_of_columns_is_an_error_and_a_column_can_be_named():
    with pytest.raises(AnalysisError, match=r"matches as many values of 'a', 'b'; say which one, like 'a=x\{n\}'"):
        match("x{n}", ["t.csv"], a=["x1"], b=["x2"])
    assert match("b=x{n}", ["t.csv"], a=["x1"], b=["x2"])[0] == {"n": [2]}
    assert match("lr={lr}", ["lr=0.1.csv"])[0] == {"lr": [0.1]}


def test_files_that_do_not_match_are_named_and_empty():
    found, said = match("N{N}", ["N7.csv", "readme.csv"])
    assert found["N"][0] == 7
    assert found["N"][1] != found["N"][1]
    assert "1 of 2 files do not match 'N{N}': 'readme.csv'" in said[-1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zz{N}", "'zz{N}' matches no name of a file, for example 'curve_N70M_D1.4e9.csv.gz'"),
        ("curve", "has no field in braces"),
        ("{}", "has no field in braces"),
        ("{a}{b}", "two fields side by side"),
        ("{a}-{a}", "the field 'a' twice"),
        ("{a}-{", "a brace alone"),
        ("{a b}", "must be named by letters"),
        ("curve_N{loss}_{}", "has a column 'loss' already"),
    ],
)
def test_errors_show_the_pattern(name, reason):
    with pytest.raises(AnalysisError, match=reason):
        match(name)


def test_a_path_tells_settings_of_folders():
    assert match("{N}/seed{seed}/loss.csv", ["x/7M/seed1/loss.csv", "x/8M/seed2/loss.csv"])[0] == {
        "N": [7_000_000, 8_000_000],
        "seed": [1, 2],
    }
