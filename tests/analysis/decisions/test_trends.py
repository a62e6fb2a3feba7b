"""Claims about lines of N* and D* against compute: what means nothing is said in words, and nothing overflows."""

import numpy as np
import pytest

from analysis.decisions.optimum import Estimate
from analysis.decisions.trends import (
    check_exponents,
    check_sizes,
    fit_trend,
    merge_notices,
    show_exponent,
    show_lines,
    show_size,
)
from analysis.fitting.notices import Notice


def make(value, low=None, high=None):
    return Estimate(value=value, low=low, high=high)


@pytest.mark.parametrize(
    ("exponent", "shown"),
    [
        (make(0.5, 0.45, 0.55), "0.5 (0.45 to 0.55)"),
        (make(0.5, -0.4, 0.55), "0.5 (-0.4 to 0.55)"),
        (make(0.5, -0.45, 250), "not identified"),  # ends outside
        (make(0.5, -0.3, 0.9), "not identified"),  # wider than all that it could be
        (make(0.5, 0.2, np.inf), "not identified"),
        (make(3.0), "not identified"),
        (make(0.4479), "0.4479"),
    ],
)
def test_an_exponent_is_a_number_only_where_its_interval_says_something(exponent, shown):
    assert show_exponent(exponent) == shown
    lost = "unidentified" in {notice.code for notice in check_exponents(exponent, make(0.5, 0.45, 0.55))}
    assert lost == (shown == "not identified")


def test_a_size_is_a_number_up_to_four_decades():
    assert show_size(make(1e9, 2e7, 1e11)) == "1e+09 (2e+07 to 1e+11)"
    assert show_size(make(1e9, 1e6, 1e11)) == "not identified"
    assert show_size(make(1e9, 1e6, np.inf)) == "not identified"
    (notice,) = check_sizes(make(1e9, 1e6, 1e11), make(1e9, 8e8, 2e9), 1e20)
    assert (notice.code, notice.is_weak) == ("unidentified", True)
    assert notice.text.startswith("N* at 1e+20 FLOPs")


def test_an_exponent_that_no_valley_can_have_is_called_so():
    (notice,) = check_exponents(make(1.03, 0.9, 1.1), make(-0.03, -0.1, 0.1))
    assert (notice.code, notice.is_weak) == ("implausible_exponent", True)
    assert "N* grows faster than the budget and D* falls with the budget" in notice.text
    assert check_exponents(make(0.97, 0.9, 1.1), make(0.03, -0.1, 0.1)) == []
    assert "1.0" not in notice.text
    assert show_lines(make(9.0), make(0.5)) == "exponent of N* not identified, D* ~ C^0.5"


def test_a_steep_line_ends_at_infinity_without_a_warning():
    trend = fit_trend([1e18, 1.01e18], np.array([[1e8, 2e8], [1e8, 3e8], [1e8, 1.1e8], [1e8, 2e8]]))
    far = trend.at(1e30)
    assert far.value == far.high == np.inf


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (make(0.8671, 0.8105, 0.9153), "0.87 (0.81 to 0.92)"),
        (make(0.4479, 0.4414, 0.4538), "0.448 (0.441 to 0.454)"),
        (make(0.2037, -7.6e-29, 0.2635), "0.2 (0 to 0.26)"),
        (make(1.639e8, 7.07e7, 2.711e8), "1.6e+08 (7.1e+07 to 2.7e+08)"),
        (make(8.141e8, 4.042e6, 2.339e9), "8.1e+08 (4e+06 to 2.3e+09)"),
        (make(2.5, 2.5, np.inf), "2.5 (2.5 to inf)"),
        (make(0.5, 0.5, 0.5), "0.5 (0.5 to 0.5)"),
        (make(1.23456), "1.235"),
    ],
)
def test_numbers_have_no_more_digits_than_their_interval_deserves(given, shown):
    assert str(given) == shown


def test_a_notice_of_two_is_told_once_with_both():
    one, other = Notice(code="a", text="same"), Notice(code="a", text="different")
    merged = merge_notices([("x", [one, one]), ("y", [other, one])])
    assert merged == [(("x", "y"), one), (("y",), other)]
