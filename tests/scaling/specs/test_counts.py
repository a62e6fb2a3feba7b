"""Numbers as people type them are read exactly, or not at all."""

import pytest

from scaling.specs.counts import parse_count, parse_number


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.5M", 1_500_000), ("1E+6", 10**6), ("1_000_000", 10**6), ("1,000,000", 10**6), ("10K", 10_000),
        ("2T", 2 * 10**12), ("-1", -1), ("9007199254740993.0", 2**53 + 1), ("1.1B", 1_100_000_000), (" 7 ", 7),
    ],
)  # fmt: skip
def test_whole_numbers_are_read_to_the_last_digit(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text", ["", "k", ".", "1.5", "1.2345k", "1,5M", "1__0", "10MB", "10 M", "1e9999", "0x10", "inf", "true"]
)
def test_what_is_no_whole_number_is_none(text):
    assert parse_count(text) is None


def test_numbers_take_the_same_grammar():
    assert parse_number("1.5B") == parse_number("1.5e9") == 1.5e9
    assert parse_number("0.5") == 0.5
    assert parse_number("1e300T") is None
