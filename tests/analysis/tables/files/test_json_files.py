"""Claims about JSON: every common form is the same table, separators within strings end no line, nothing is lost."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError

ROWS = [{"N": 1, "loss": 2.5}, {"N": 2, "loss": 2.25}]
FORMS = {
    "lines": "".join(json.dumps(row) + "\n" for row in ROWS),
    "lines with a mark, blanks and CRLF": "\ufeff" + "\r\n\r\n".join(map(json.dumps, ROWS)),
    "an array": json.dumps(ROWS),
    "an array over lines": json.dumps(ROWS, indent=1),
    "columns": json.dumps({"N": [1, 2], "loss": [2.5, 2.25]}, indent=1),
    "rows in a document": json.dumps({"runs": ROWS}, indent=1),
    "pandas, by column": pd.DataFrame(ROWS).to_json(indent=1),
    "pandas, by row": pd.DataFrame(ROWS).to_json(orient="index", indent=1),
    "pandas, split": pd.DataFrame(ROWS).to_json(orient="split", indent=1),
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_table(read, form, suffix):
    assert read("t" + suffix, FORMS[form])[0] == {"N": [1, 2], "loss": [2.5, 2.25]}


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_separator_within_a_string_ends_no_line(read, mark):
    lines = "".join(json.dumps({"N": n, "note": f"a{mark}b"}, ensure_ascii=ord(mark) < 32) + "\n" for n in (1, 2))
    assert read("t.jsonl", lines)[0] == {"N": [1, 2], "note": [f"a{mark}b"] * 2}


def test_nested_objects_have_dotted_names_and_lists_stay(read):
    line = {"name": "r", "config": {"model": {"N": 7}, "sizes": [1, 2]}, "tags": []}
    found, _ = read("t.jsonl", json.dumps(line))
    assert found == {"name": ["r"], "config.model.N": [7], "config.sizes": [[1, 2]], "tags": [[]]}


def test_a_document_of_a_run_is_one_row_and_one_with_a_history_its_rows(read):
    assert read("t.json", '{"loss": 2.5, "sizes": [1, 2]}')[0] == {"loss": [2.5], "sizes": [[1, 2]]}
    state = {"best": 2.0, "epoch": 7, "log_history": [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]}
    found, said = read("t.json", json.dumps(state))
    assert found == {"epoch": [1, 2], "loss": [3.0, 2.0], "best": [2.0, 2.0], "epoch (file)": [7, 7]}
    assert "'log_history' are read as rows" in said[0]
    assert "'epoch (file)'" in said[1]


def test_words_for_numbers_that_are_not_finite_are_floats_and_numerals_among_numbers_are_said(read):
    found, said = read("t.jsonl", '{"a": "NaN", "b": "7", "c": 1}\n{"a": "-Infinity", "b": "8", "c": "2.5"}\n')
    assert np.isnan(found["a"][0])
    assert (found["a"][1], found["b"], found["c"]) == (-np.inf, ["7", "8"], [1.0, 2.5])
    assert said == ("t.jsonl: numbers that are written as text are read as numbers: 'c'",)


def test_long_whole_numbers_are_floats(read):
    found, _ = read("t.json", '[{"C": 147000000000000000000000}, {"C": 1}, {"C": null}]')
    assert found["C"][:2] == [1.47e23, 1.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": 1}\n{"a": 2', r"line 2 is no JSON .* remove a last line that was cut off"),
        ("{\"a\": 1}\n\n{'a': 2}\n", "line 3 is no JSON"),
        ('{"a": 1}\n5\n', "line 2 holds a number where an object is needed"),
        ('[{"a": 1},\n {"a": }]', "line 2 is no JSON"),
        ('[{"a": 1}, [2]]', "element 2 of its array is an array"),
        ('{"a": 1}\n{"a": 1, "a": 2}', "line 2 holds 'a' twice, as 1 and 2"),
        ('{"a.b": 1, "a": {"b": 2}}', "holds 'a.b' both as a name and nested"),
        ('"text"', "it holds a text where objects are needed"),
        ("[" * 100_000, "is no JSON that can be read"),
        ('{"a": ' + "1" * 5000 + "}", "is no JSON that can be read"),
    ],
)
def test_errors_name_the_line_and_nothing_is_taken_silently(read, content, reason):
    with pytest.raises(AnalysisError, match=reason) as caught:
        read("t.jsonl", content)
    assert "\n" not in str(caught.value)
