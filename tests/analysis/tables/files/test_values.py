"""Claims about values: words for missing ones are judged by their column, and numbers are exact at any length."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.tables.files.values import finish_columns, read_number, read_values, to_array

WORDS = ["NA", "N/A", "n/a", "nan", "NaN", "null", "None", "none", "-", "–", ""]  # noqa: RUF001


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_missing_is_missing_among_numbers_and_text_among_text(word):
    frame, _ = finish_columns(pd.DataFrame({"loss": [word, "1.5", "2"], "label": [word, "a", "b"]}))
    assert np.isnan(frame["loss"][0])
    assert frame["loss"].tolist()[1:] == [1.5, 2.0]
    assert frame["label"].tolist() == [word, "a", "b"]


def test_numbers_that_are_not_finite_are_floats():
    assert read_values(["Infinity", "-inf", "+Inf", "-Infinity", "1"]) == [np.inf, -np.inf, np.inf, -np.inf, 1]
    assert finish_columns(pd.DataFrame({"loss": ["NaN", "nan"]}))[0]["loss"].dtype == np.float64


def test_whole_numbers_beyond_64_bits_are_the_nearest_floats():
    texts = ["147000000000000000000000001", "-3", "18446744073709551617"]
    assert to_array([int(text) for text in texts]).tolist() == [float(text) for text in texts]
    assert to_array([2**63 - 1, -(2**63)]).tolist() == [2**63 - 1, -(2**63)]
    assert to_array([10**400, 1]).tolist() == [np.inf, 1.0]
    assert read_values(["9" * 5000, "NA"]) == [np.inf, None]


def test_truth_values_stay_so_where_some_are_missing():
    frame, _ = finish_columns(pd.DataFrame({"ok": ["True", "NA", "false"], "mixed": ["true", "1", "0"]}))
    assert frame["ok"].tolist()[::2] == [True, False]
    assert pd.isna(frame["ok"][1])
    assert frame["mixed"].tolist() == ["true", "1", "0"]


def test_what_only_python_takes_for_a_number_is_text():
    for text in ["1_000", "١٢", "0x10", "1e", "", ".", "infinite", "1 000"]:
        assert read_number(text) is None, text
    assert [read_number(text) for text in ["+5", "1.", ".5", "1E-3", " 7 "]] == [5, 1.0, 0.5, 0.001, 7]


def test_a_float_is_read_to_its_last_bit():
    numbers = np.random.default_rng(0).random(1000) / 3
    texts = ["NaN", *map(repr, numbers.tolist())]
    assert finish_columns(pd.DataFrame({"x": texts}))[0]["x"].to_numpy()[1:].tobytes() == numbers.tobytes()


def test_lists_and_mixtures_stay_as_they_are():
    frame, converted = finish_columns(pd.DataFrame({"a": [[1], [2]], "b": [1, "x"], "c": [True, 2]}))
    assert frame.to_dict("list") == {"a": [[1], [2]], "b": [1, "x"], "c": [True, 2]}
    assert converted == ()
