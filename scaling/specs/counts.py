"""Numbers as people type them: 10k, 1.5M, 1e6, 1_000_000; whole where a count is asked for, and exact."""

import re
from fractions import Fraction

SCALES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
HOW = "write 10M, 1.5B, 300k, 2e6, 1_000_000 or a whole number"
# Thousands may stand between commas, in threes: `1,5M` is no way to write 15M.
NUMBER = re.compile(
    r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)?(?:\.\d*)?(?<=[\d.])(?:[eE][+-]?\d{1,3})?)([kKMBT]?)", re.ASCII
)


def parse_count(text: str) -> int | None:
    """Returns the whole number that a text is, to the last digit; None where it is none.

    >>> parse_count("10k"), parse_count("1.5M"), parse_count("1e23"), parse_count("1_000_000"), parse_count("1,000")
    (10000, 1500000, 100000000000000000000000, 1000000, 1000)
    >>> parse_count("1.5"), parse_count("many"), parse_count("1.2345k"), parse_count("1,5M")
    (None, None, None, None)
    """
    number = _read(text)
    return None if number is None or number.denominator != 1 else number.numerator


def parse_number(text: str) -> float | None:
    """Returns the number that a text is, in the same grammar; None where it is none.

    >>> parse_number("7e9"), parse_number("1.4T"), parse_number("0.25"), parse_number("seven")
    (7000000000.0, 1400000000000.0, 0.25, None)
    """
    try:
        return float(text)
    except ValueError:
        number = _read(text)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return None


def _read(text: str) -> Fraction | None:
    match = NUMBER.fullmatch(text.strip())
    try:
        return Fraction(match[1].replace(",", "")) * SCALES[match[2]] if match else None
    except ValueError:  # a sign or a point alone
        return None
