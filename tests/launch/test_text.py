"""What commands print: columns that line up, and one JSON document that any program reads."""

import json

import pytest

from launch.text import print_json, render_table


def test_numbers_stand_to_the_right_and_words_to_the_left():
    rows = [{"name": "a", "n": 1}, {"name": "long", "n": 1000}, {"name": None, "n": None}]
    assert render_table(rows).splitlines() == ["name     n", "a        1", "long  1000", "-        -"]


def test_a_table_without_rows_says_so():
    assert render_table([]) == "(nothing)"


def test_a_document_that_is_no_json_is_never_printed(capsys):
    print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"a": float("nan")})
