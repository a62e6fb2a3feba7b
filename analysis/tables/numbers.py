"""Numbers as people write them, exact to the last bit, and by whole columns: 70M, 1,5B, 85.3%, 3.21 ± 0.02, 6×10²¹."""

from __future__ import annotations

import decimal
import math
import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.specs.counts import SCALES as LETTERS

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}
EMPTY = frozenset(
    {"", "-", "--", "---", "\N{EN DASH}", "\N{EM DASH}", "na", "n/a", "#n/a", "nan", "none", "null", "nil", "<na>", "."}
)
# The power of 10 that a letter or a word after a number stands for.
POWERS: dict[str, int] = {
    **{letter.lower(): len(str(scale)) - 1 for letter, scale in LETTERS.items() if letter},
    "g": 9, "mn": 6, "mln": 6, "mio": 6, "bn": 9, "mrd": 9, "tn": 12,
    **{word + plural: power for plural in ("", "s")
       for word, power in {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}.items()},
}  # fmt: skip
FLOP_POWERS = {"": 0, "k": 3, "m": 6, "g": 9, "t": 12, "p": 15, "e": 18, "z": 21, "y": 24}
# Words that say what was counted, and nothing of how much.
COUNTED = r"(?:params?|parameters?|tokens?|toks?|examples?|samples?)"

# One sign for each meaning, whatever keyboard wrote it.
SIGNS = str.maketrans({
    "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
    "\N{FIGURE SPACE}": " ", "\N{HAIR SPACE}": " ", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{ZERO WIDTH SPACE}": None, "\N{ZERO WIDTH NO-BREAK SPACE}": None,
    "\N{FULLWIDTH PERCENT SIGN}": "%", "\N{MULTIPLICATION SIGN}": "x", "\N{MIDDLE DOT}": "*", "\N{DOT OPERATOR}": "*",
})  # fmt: skip
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
DIGITS = r"(?:\d|[.,]\d)(?:[\d,.'_]| (?=\d{3}(?!\d)))*"  # a space only before three digits
TEN = r"10(?:(?:\^|\*\*)([+-]?\d{1,3})|(⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))"
PARTS = re.compile(rf"([+-]?) ?({DIGITS})(?: ?[eE]([+-]?\d{{1,3}})| ?[x*] ?{TEN})?(.*)", re.ASCII | re.DOTALL)
POWER_OF_TEN = re.compile(rf"([+-]?){TEN}(.*)", re.ASCII | re.DOTALL)
# Thousands stand in groups of three behind one sign; a point is followed by the rest of the digits.
GROUPED = re.compile(r"(?:[1-9]\d{0,2}([,' _])\d{3}(?:\1\d{3})*|\d+(?:_\d+)*)?(?:\.\d*)?", re.ASCII)
SWAP = str.maketrans(",.", ".,")
PER_CENT = re.compile(r" ?(?:%|percent|per cent)", re.IGNORECASE)
ERROR = rf"{DIGITS}(?:[eE][+-]?\d+)?"
SPREAD = re.compile(rf" ?(?:(?:±|\+/?-) ?{ERROR}|\( ?(?:±|\+/?-)? ?{ERROR} ?%?\)) ?%?", re.ASCII)
SCALE = re.compile(rf" ?({'|'.join(sorted(POWERS, key=len, reverse=True))})?(?:[ -]?{COUNTED})?", re.IGNORECASE)
FLOP = re.compile(r" ?([kmgtpezy]?) ?flops?", re.IGNORECASE)

Kind = Literal["count", "number"]


class Written(NamedTuple):
    """A number as it is written.

    Attributes:
      point, comma: its value where the point, and where the comma, is the decimal sign; None where it cannot be.
      mark: what else was read: "" or `scale`, `per cent`, `spread`.
    """

    point: float | None
    comma: float | None
    mark: str = ""

    def is_ambiguous(self) -> bool:
        """Returns whether the decimal sign decides what it is."""
        return self.point is not None and self.comma is not None and self.point != self.comma


class Numbers(NamedTuple):
    """A column as numbers.

    Attributes:
      values: floats `[n]`, NaN where it is empty or unreadable.
      bad: whether there is something that is no number `[n]`.
      said: what was converted, left out or doubted, a sentence each.
    """

    values: NDArray[np.float64]
    bad: NDArray[np.bool_]
    said: tuple[str, ...]


def read_plain(value: Any) -> float | None:
    """Returns the number that a value is, or that it says as programs write it, else None.

    >>> read_plain("1e-3"), read_plain(True), read_plain("Infinity"), read_plain("124M"), read_plain("1,5")
    (0.001, 1.0, inf, None, None)
    """
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
        is_too_large = math.isinf(number) and any(letter.isdigit() for letter in value)
        return None if is_too_large else number
    if isinstance(value, numbers.Real | decimal.Decimal | np.bool_):
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def read_number(value: Any) -> float | None:
    """Returns the number that a value is or says, else None; a share in per cent is a share of 1.

    Thousands may stand between commas, spaces and apostrophes, in threes; another comma is a decimal sign. What
    follows ± or stands in parentheses is how sure the number is, and left out. Of `1,500`, which can be two numbers,
    it is 1500; `read_column` looks at the other values too.

    >>> read_number("1,234,567"), read_number("0,125"), read_number("1.234,5"), read_number("1,500")
    (1234567.0, 0.125, 1234.5, 1500.0)
    >>> read_number("85.3%"), read_number("3.21 ± 0.02"), read_number("3.21 (0.02)"), read_number("6 × 10²¹")
    (0.853, 3.21, 3.21, 6e+21)
    >>> read_number("124M"), read_number("12,34,5"), read_number("many"), read_number(None)
    (None, None, None, None)
    """
    return _read(value, "number")


def read_count(value: Any) -> float | None:
    """Returns the number that a value is or says, with a scale and the word for what was counted; else None.

    >>> read_count("124M"), read_count("1.5B params"), read_count("300,000"), read_count("1,5B"), read_count("1.1M")
    (124000000.0, 1500000000.0, 300000.0, 1500000000.0, 1100000.0)
    >>> read_count("7 billion"), read_count("70 M"), read_count("3 ZFLOPs"), read_count("7B models"), read_count("85%")
    (7000000000.0, 70000000.0, 3e+21, None, None)
    """
    return _read(value, "count")


def read_column(values: Iterable[Any], *, kind: Kind) -> Numbers:
    """Returns a column's numbers; all its values together decide what a comma is.

    Args:
      values: of any kind; numbers pass unchanged.
      kind: `count` takes scales and words (7B tokens), `number` takes per cent signs and ±.

    >>> read_column(["1,500", "1,5", ""], kind="number")
    Numbers(values=array([1.5, 1.5, nan]), bad=array([False, False, False]), said=('decimal commas: 1,500 is 1.5',))
    >>> read_column(["70M", "7B!"], kind="count").bad
    array([False,  True])
    """
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        floats = np.array(values, dtype=np.float64)
        return Numbers(floats, np.zeros(len(floats), dtype=bool), ())
    written: dict[str, Written | None] = {}
    known: list[float | None] = []
    texts: list[str | None] = []
    for value in values:
        is_text = isinstance(value, str)
        texts.append(value if is_text else None)
        known.append(math.nan if is_text or _is_empty(value) else read_plain(value))
        if is_text and value not in written:
            written[value] = None if _is_empty(value) else _parse(value, kind)
    choose, said = _settle(written, texts)
    read = {text: math.nan if _is_empty(text) else one and choose(one) for text, one in written.items()}
    found = [number if text is None else read[text] for text, number in zip(texts, known, strict=True)]
    bad = np.array([number is None for number in found], dtype=bool)
    return Numbers(np.array([math.nan if number is None else number for number in found]), bad, said)


def scale(values: Any, factor: str, *, divides: bool = False) -> NDArray[np.float64]:
    """Returns values times a decimal factor, each the float next to the product of the decimals as they are written.

    So that 0.35 billion is the number that one would have typed, and two ways to write a table are one table.

    Args:
      values: floats or integers `[n]`.
      factor: a decimal number, for instance `1e9`.
      divides: whether values are divided by it instead.

    >>> scale([1.1, 0.07, 2.0], "1e6"), 0.07 * 1e6, scale([5.0], "1000", divides=True)
    (array([1100000.,   70000., 2000000.]), 70000.0, array([0.005]))
    """
    floats = np.asarray(values, dtype=np.float64)
    by = decimal.Decimal(factor)
    with np.errstate(all="ignore"):
        product = np.array(floats / float(by) if divides else floats * float(by), dtype=np.float64)
    # A float that is whole and not large is the decimal itself, so that one rounding made its product.
    is_done = ~np.isfinite(floats) | (floats == 0) | (not by) | (not np.isfinite(float(by)))
    if decimal.Decimal(float(by)) == by:
        is_done |= (floats == np.rint(floats)) & (np.abs(floats) <= 2.0**53)
    where = np.flatnonzero(~is_done)
    different, places = np.unique(floats[where], return_inverse=True)
    with decimal.localcontext(prec=80):
        exact = [
            float(decimal.Decimal(repr(one)) / by if divides else decimal.Decimal(repr(one)) * by)
            for one in different.tolist()
        ]
    product[where] = np.array(exact, dtype=np.float64)[places]
    return product


def show_number(value: float) -> str:
    """Returns a number in the shortest way that people read.

    >>> [show_number(value) for value in (1500.0, 0.853, 7e7, 1.2345e21, 1e15)]
    ['1500', '0.853', '7e7', '1.2345e21', '1e15']
    """
    if value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    mantissa, e, exponent = f"{value:.15g}".partition("e")
    if not e and value.is_integer():
        digits = mantissa.rstrip("0")
        short = f"{digits[0]}.{digits[1:]}".rstrip(".") + f"e{len(mantissa) - 1}"
        return short if value > 0 and len(short) < len(mantissa) else mantissa
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in EMPTY
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _read(value: Any, kind: Kind) -> float | None:
    plain = read_plain(value)
    if plain is not None or not isinstance(value, str):
        return plain
    written = _parse(value, kind)
    return None if written is None else written.comma if written.point is None else written.point


def _parse(text: str, kind: Kind) -> Written | None:
    """Returns what a text can mean; None where it is no number."""
    text = " ".join(text.translate(SIGNS).split())
    sign, unsigned = ("-", text[1:]) if text[:1] == "-" else ("", text.removeprefix("+"))
    if (value := NOT_FINITE.get(unsigned.lower())) is not None:
        value = -value if sign else value
        return Written(value, value)
    if match := POWER_OF_TEN.fullmatch(text):
        sign, digits, exponent, (typed, raised, rest) = match[1], "1", "", match.groups()[1:]
    elif match := PARTS.fullmatch(text):
        sign, digits, exponent, typed, raised, rest = match.groups()
    else:
        return None
    has_power = bool(exponent or typed or raised)
    power = int(exponent or typed or (raised or "0").translate(RAISED))
    end = _read_end(rest, kind)
    if end is None:
        return None
    more, mark = end
    point, comma = (
        _make_float(sign, _digits(text, has_power), power + more) for text in (digits, digits.translate(SWAP))
    )
    if comma is not None and digits.endswith(","):
        comma = None
    return None if point is None and comma is None else Written(point, comma, mark)


def _read_end(rest: str, kind: Kind) -> tuple[int, str] | None:
    """Returns the power of 10 and the mark of what follows a number; None where that is nothing known."""
    if not rest:
        return 0, ""
    if kind == "number":
        power, mark = 0, ""
        if match := PER_CENT.match(rest):
            power, mark, rest = -2, "per cent", rest[match.end() :]
        if rest and (match := SPREAD.fullmatch(rest)):
            is_share = not power and rest.rstrip(") ").endswith("%")
            return (-2 if is_share else power), "spread"
        return None if rest else (power, mark)
    if match := SCALE.fullmatch(rest):
        return POWERS[match[1].lower()] if match[1] else 0, "scale" if match[1] else ""
    if (match := FLOP.fullmatch(rest)) and not rest.endswith("FLOPS"):  # which is a speed
        return FLOP_POWERS[match[1].lower()], "scale" if match[1] else ""
    return None


def _digits(text: str, has_power: bool) -> str | None:
    """Returns digits with a decimal point alone, from digits whose groups and point are in order; else None."""
    match = GROUPED.fullmatch(text)
    if match is None or (has_power and match[1] == ","):  # thousands and a power of 10 do not go together
        return None
    return re.sub("[,' _]", "", text)


def _make_float(sign: str, digits: str | None, power: int) -> float | None:
    if digits is None:
        return None
    value = float(f"{sign}{digits}e{power}")  # one rounding, of the decimal itself
    return value if math.isfinite(value) else None


def _settle(
    written: dict[str, Written | None], texts: Sequence[str | None]
) -> tuple[Callable[[Written], float | None], tuple[str, ...]]:
    """Returns how a column's values are read, and what to say of it."""
    found = {text: one for text, one in written.items() if one is not None}
    commas = [text for text, one in found.items() if one.point is None]
    points = [text for text, one in found.items() if one.comma is None]
    doubtful = [text for text, one in found.items() if one.is_ambiguous()]
    # Points that can only stand between thousands show that commas are decimal signs throughout.
    has_groups = any("." in text for text in commas)

    def choose(one: Written) -> float | None:
        if not one.is_ambiguous() or not commas:
            return one.comma if one.point is None else one.point
        if points:
            return None
        is_decimal = one.comma is not None and one.point is not None and abs(one.comma) < abs(one.point)
        return one.comma if is_decimal or has_groups else None

    said = []
    if commas and points and doubtful:
        count = sum(text in doubtful for text in texts)
        said.append(
            f"decimal commas ({commas[0]}) and decimal points ({points[0]}) in one column: {count} values such as "
            f"{doubtful[0]} can be either and are no numbers; write them without thousands"
        )
    elif commas and any(choose(found[text]) is None for text in doubtful):
        example = next(text for text in doubtful if choose(found[text]) is None)
        said.append(f"beside decimal commas ({commas[0]}) {example} can be two numbers; write it without a point")
    shown = {text: value for text, one in found.items() if (value := choose(one)) is not None}
    is_open = not commas and not points
    said += _tell(shown, {text: one.mark for text, one in found.items()}, commas, doubtful, is_open)
    return choose, tuple(said)


def _tell(
    shown: dict[str, float], marks: dict[str, str], commas: Sequence[str], doubtful: Sequence[str], is_open: bool
) -> list[str]:
    """Returns a sentence for each way of writing that was read."""

    def example(texts: Sequence[str]) -> str:
        return f"{texts[0].strip()} is {show_number(shown[texts[0]])}"

    said = []
    if decimals := [text for text in shown if text in commas or (commas and text in doubtful)]:
        said.append(f"decimal commas: {example([text for text in decimals if text in doubtful] or decimals)}")
    if thousands := [text for text in shown if "," in text and text not in decimals]:
        doubt = ", as no value tells whether they are decimal commas" if is_open else ""
        said.append(f"commas between thousands: {example(thousands)}{doubt}")
    shares, spreads, scaled, bare = (
        [text for text in shown if marks[text] == mark] for mark in ("per cent", "spread", "scale", "")
    )
    if shares:
        said.append(f"per cent signs: {example(shares)}" + (f"; {bare[0]} stays as it is" if bare else ""))
    if spreads:
        said.append(f"what is said of the error is left out: {example(spreads)}")
    if scaled:
        small = [text for text in bare if abs(shown[text]) < 1e4]
        rest = f"; {small[0]}, without a letter, stays as it is" if small else ""
        said.append(f"letters and words: {example(scaled)}{rest}")
    return said
