"""Claims about numbers as people write them: exact, a column decides what its commas are, what was done is said."""

import decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.tables.numbers import read_column, read_count, read_number, read_plain, scale


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234,567", 1234567.0), ("300,000", 3e5), ("1,500", 1500.0), ("0,125", 0.125), ("1,5", 1.5), ("-1,25", -1.25),
        ("1.234,5", 1234.5), ("1,234.5", 1234.5), ("1.234.567", 1234567.0), ("1234,567", 1234.567), ("3.276", 3.276),
        ("1 234 567", 1234567.0), ("1\u2009234,5", 1234.5), ("1\u00a0500", 1500.0), ("1'234'567.5", 1234567.5),
        ("1\u2019500", 1500.0), ("1_000", 1000.0), ("\u22123.2", -3.2), ("1,47e17", 1.47e17), ("1,470E+17", 1.47e17),
        ("1.4\u00d710^21", 1.4e21), ("1.4 x 10**21", 1.4e21), ("6·10²¹", 6e21), ("10^-3", 1e-3), (".5", 0.5),
        ("+7", 7.0),
    ],
)  # fmt: skip
def test_digits_are_read_alike_as_numbers_and_as_counts(text, number):
    assert (read_number(text), read_count(text)) == (number, number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("85.3%", 0.853), ("85,3 %", 0.853), ("7 per cent", 0.07), ("3.21 ± 0.02", 3.21), ("3.21+-0.02", 3.21),
        ("3,21 +/- 0,02", 3.21), ("3.21 (0.02)", 3.21), ("85.3% ± 0.2%", 0.853), ("85.3 ± 0.2%", 0.853),
        ("3.21(2)", 3.21),
    ],
)  # fmt: skip
def test_shares_and_errors_are_read_of_numbers_and_not_of_counts(text, number):
    assert (read_number(text), read_count(text)) == (number, None)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("70M", 7e7), ("1.5B", 1.5e9), ("1,5B", 1.5e9), ("10k", 1e4), ("2T", 2e12), ("2t", 2e12), ("70 M", 7e7),
        ("7B params", 7e9), ("7 billion", 7e9), ("1.2 billion parameters", 1.2e9), ("300B tokens", 3e11),
        ("5 params", 5.0),
        ("1.1M", 1100000.0), ("1,234M", 1.234e9), ("1.47e17 FLOPs", 1.47e17), ("3 ZFLOPs", 3e21), ("4 thousand", 4e3),
        ("1,5 Mio", 1.5e6),
    ],
)  # fmt: skip
def test_scales_and_words_are_read_of_counts_and_not_of_numbers(text, number):
    assert (read_count(text), read_number(text)) == (number, None)


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "12,34,567", "1.2.3", "12,", "7 0", "7B models", "7BB", "3 GFLOPS", "k", "tokens", "many", "", "1e999",
     "0x1F", "~70M", "7-13B", "2024-05-01", "(3.2)", "1,234.567,8", "1 2345"],
)  # fmt: skip
def test_all_else_is_no_number(text):
    assert (read_count(text), read_number(text), read_plain(text)) == (None, None, None)


def test_values_that_are_numbers_pass_and_others_do_not():
    values = [3, 2**70, np.int64(7), np.float32(0.5), True, decimal.Decimal("1.5"), 10**400, None, [1], {"a": 1}, 1j]
    assert [read_count(value) for value in values] == [3, 2.0**70, 7, 0.5, 1, 1.5, None, None, None, None, None]


@pytest.mark.parametrize(
    ("texts", "values", "said"),
    [
        (["1,5", "1,500"], [1.5, 1.5], "decimal commas: 1,500 is 1.5"),
        (["1.234,5", "1.500"], [1234.5, 1500.0], "decimal commas: 1.500 is 1500"),
        (["0,5", "12,345"], [0.5, 12.345], "decimal commas: 12,345 is 12.345"),
        (["1,500", "3.2"], [1500.0, 3.2], "commas between thousands: 1,500 is 1500"),
        (["1,500", "2,000"], [1500.0, 2000.0],
         "commas between thousands: 1,500 is 1500, as no value tells whether they are decimal commas"),
        (["85.3%", "70%"], [0.853, 0.7], "per cent signs: 85.3% is 0.853"),
        (["85.3%", "0.9"], [0.853, 0.9], "per cent signs: 85.3% is 0.853; 0.9 stays as it is"),
        (["3.21 ± 0.02", "3.5"], [3.21, 3.5], "what is said of the error is left out: 3.21 ± 0.02 is 3.21"),
    ],
)  # fmt: skip
def test_a_whole_column_decides_and_says_so(texts, values, said):
    for order in (1, -1):
        column = read_column(texts[::order], kind="number")
        assert column.values.tolist() == values[::order]
        assert not column.bad.any()
    assert read_column(texts, kind="number").said == (said,)


def test_what_can_be_two_numbers_is_bad_where_both_ways_are_in_use():
    column = read_column(["1,5", "2.5", "1,500", "1.500", "7"], kind="number")
    assert column.bad.tolist() == [False, False, True, True, False]
    assert column.values[[0, 1, 4]].tolist() == [1.5, 2.5, 7.0]
    assert "decimal commas (1,5) and decimal points (2.5) in one column: 2 values" in column.said[0]
    assert read_column(["1,5", "1.500"], kind="number").bad.tolist() == [False, True]


def test_a_count_without_a_letter_among_letters_is_told():
    column = read_column(["70M", "1.4", "410000000"], kind="count")
    assert column.values.tolist() == [7e7, 1.4, 4.1e8]
    assert column.said == ("letters and words: 70M is 7e7; 1.4, without a letter, stays as it is",)


def test_empty_values_are_empty_and_numbers_pass_unchanged():
    empty = [None, float("nan"), "", " ", "NA", "n/a", "-", "\N{EM DASH}", "None", pd.NA, pd.NaT, "nan"]
    column = read_column([*empty, 0.1, 2**70, "Infinity", "-inf", True, "x", [1, 2]], kind="count")
    assert np.isnan(column.values[: len(empty)]).all()
    assert column.values[len(empty) : -2].tolist() == [0.1, 2.0**70, np.inf, -np.inf, 1.0]
    assert column.bad.tolist() == [False] * (len(empty) + 5) + [True, True]
    assert column.said == ()


def test_columns_of_any_kind_are_read():
    for dtype in ("int64", "float32", "Int64", "boolean", "object", "string"):
        assert read_column(pd.Series([1, 0], dtype=dtype), kind="number").values.tolist() == [1.0, 0.0]
    assert read_column(pd.Series([], dtype=object), kind="number").values.shape == (0,)
    given_ = np.array([1.0])
    assert read_column(given_, kind="number").values is not given_


@given(st.integers(0, 10**15), st.integers(0, 6), st.sampled_from([("", 0), ("k", 3), ("M", 6), ("B", 9), ("T", 12)]))
def test_counts_with_letters_are_the_nearest_floats_to_their_decimals(digits, places, letter):
    text = f"{decimal.Decimal(digits).scaleb(-places):f}"
    assert read_count(text + letter[0]) == float(Fraction(text) * 10 ** letter[1])


@given(st.integers(0, 10**12), st.integers(1, 3))
def test_thousands_between_any_signs_are_the_number_itself(whole, tenths):
    number = float(f"{whole}.{tenths}")
    grouped = f"{whole:,}"
    for thousands, point in ((",", "."), (".", ","), (" ", ","), ("\u202f", "."), ("'", ".")):
        assert read_number(grouped.replace(",", thousands) + f"{point}{tenths}") == number


@given(st.floats(allow_nan=False), st.sampled_from(["1e9", "1e-3", "1000", "0.01", "8.64e19", "3"]), st.booleans())
def test_scaling_gives_the_float_nearest_to_the_decimal_result(value, factor, divides):
    found = scale([value], factor, divides=divides)[0]
    if not np.isfinite(value):
        assert found == value
        return
    exact = Fraction(repr(value)) / Fraction(factor) if divides else Fraction(repr(value)) * Fraction(factor)
    try:
        assert found == float(exact)
    except OverflowError:
        assert np.isinf(found)


def test_scaling_is_what_an_analyst_would_have_typed():
    assert 1.07 * 1e9 != 1070000000.0  # what is to be mended
    assert scale([1.07, np.nan, 0.0], "1e9")[:1].tolist() == [1070000000.0]
    assert np.isinf(scale([1.5], "0", divides=True)).all()


@given(
    st.lists(
        st.one_of(st.none(), st.floats(), st.text(alphabet="0123456789,.eE+-± %()MBk'_x^ ²\u00d7\u2212", max_size=12)),
        max_size=6,
    )
)
def test_whatever_a_column_holds_it_is_a_number_empty_or_bad(values):
    for kind in ("count", "number"):
        column = read_column(values, kind=kind)
        assert len(column.values) == len(column.bad) == len(values)
        assert np.isnan(column.values[column.bad]).all()
