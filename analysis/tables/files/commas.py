"""Numbers with commas: whether a file writes 4,17 for a fraction or 1,234 for a thousand, judged as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.tables.files.values import is_missing, read_number, to_array
from analysis.tables.words import list_names

# Other signs that stand between thousands: spaces, also those that no line may break at, and apostrophes.
GROUPS = re.compile("(?<=\\d)[ \u00a0\u202f'’](?=\\d{3}(?!\\d))")  # noqa: RUF001
EXPONENT = r"(?:[eE][+-]?\d+)?"


def _patterns(decimal: str, group: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Returns what numbers look like that a convention can read, and those that no other one can."""
    d, g = re.escape(decimal), re.escape(group)
    fraction = rf"{d}\d*{EXPONENT}"
    groups = rf"[1-9]\d{{0,2}}(?:{g}\d{{3}})+"
    readable = re.compile(rf"[+-]?(?:(?:\d+|{groups})(?:{fraction}|{EXPONENT})|{d}\d+{EXPONENT})", re.ASCII)
    several = rf"[1-9]\d{{0,2}}(?:{g}\d{{3}}){{2,}}(?:{fraction})?|{groups}{fraction}"
    thousand_like = rf"[1-9]\d{{0,2}}{d}\d{{3}}"
    only = re.compile(rf"[+-]?(?:{several}|(?!{thousand_like}$)\d*{d}\d*{EXPONENT})", re.ASCII)
    return readable, only


COMMA, COMMA_ONLY = _patterns(",", ".")
POINT, POINT_ONLY = _patterns(".", ",")


class Judged(NamedTuple):
    """Columns of numbers with commas, and the sentence that says how they are read."""

    columns: dict[int, pd.Series]
    said: str


def is_written_with_comma(text: str) -> bool:
    """Returns whether a text may be a number with commas in it, or with points or spaces between thousands.

    >>> is_written_with_comma("4,17"), is_written_with_comma("1.234.567"), is_written_with_comma("4.17")
    (True, True, False)
    """
    return read_number(text) is None and is_readable(text)


def is_readable(text: str) -> bool:
    """Returns whether a text is a number in any convention."""
    plain = _without_groups(text)
    return read_number(plain) is not None or bool(COMMA.fullmatch(plain) or POINT.fullmatch(plain))


def _without_groups(text: str) -> str:
    return GROUPS.sub("", text.strip())


def read_commas(texts: pd.DataFrame, names: Sequence[str], delimiter: str) -> Judged | None:
    """Returns the columns of numbers, where a file writes some with commas; None where it does not, or may not.

    One value that can only be a fraction with a comma decides for all, and so does one whose commas can only group
    thousands. Where both are there, each column is judged by itself. Where nothing decides, `;` between columns does,
    for it is there because commas are fractions.

    Args:
      texts: Every column as text, by its place.
      names: Of the columns, for sentences.
      delimiter: What stands between columns.

    >>> judged = read_commas(pd.DataFrame({0: ["4,17", "3"], 1: ["1.234", "70"]}), ["loss", "N"], ";")
    >>> [column.tolist() for column in judged.columns.values()]
    [[4.17, 3.0], [1234, 70]]
    """
    uniques = {place: _find_numerals(texts[place]) for place in range(len(names))}
    numerals = {place: values for place, values in uniques.items() if values is not None}
    everything = [value for values in numerals.values() for value in values]
    example = next((value for value in everything if is_written_with_comma(value)), None)
    if example is None:
        return None
    comma, point = _find_evidence(everything)
    between = {";": ";", "\t": "tabs"}[delimiter]
    if comma and point:
        columns = {}
        for place, values in numerals.items():
            comma, point = _find_evidence(values)
            if comma != point and any(is_written_with_comma(value) for value in values):
                columns[place] = _convert(texts[place], "," if comma else ".")
        listed = list_names([names[place] for place in columns])
        said = f"read with {between} between columns, and with commas judged column by column in {listed}"
        return Judged(columns, said) if columns else None
    if not comma and not point and delimiter != ";":
        return None
    decimal = "." if point else ","
    columns = {place: _convert(texts[place], decimal) for place in numerals}
    how = ", as decimal point" if decimal == "," else ", between thousands"
    number = read_number(_to_plain(_without_groups(example), decimal))
    doubt = "" if comma or point or "," not in example else "; no value tells whether it is that or between thousands"
    return Judged(columns, f"read with {between} between columns and {how} ({example} is {number!r}{doubt})")


def _find_numerals(column: pd.Series) -> list[str] | None:
    """Returns the different values of a column that are no words for missing ones, if all can be numbers."""
    values = [value for value in column.dropna().unique() if not is_missing(value)]
    return values if values and all(map(is_readable, values)) else None


def _find_evidence(values: Sequence[str]) -> tuple[bool, bool]:
    """Returns whether some value can only be a number with a decimal comma, and some only one with a decimal point."""
    plain = [_without_groups(value) for value in values]
    return any(map(COMMA_ONLY.fullmatch, plain)), any(map(POINT_ONLY.fullmatch, plain))


def _to_plain(text: str, decimal: str) -> str:
    group = "." if decimal == "," else ","
    return text.replace(group, "").replace(decimal, ".")


def _convert(column: pd.Series, decimal: str) -> pd.Series:
    """Returns a column as numbers; as it was where one of its values is none in this convention."""
    pattern = COMMA if decimal == "," else POINT
    known: dict[str, int | float | None] = {}
    for text in column.dropna().unique():
        plain = _without_groups(text)
        if not is_missing(plain):
            number = read_number(_to_plain(plain, decimal) if pattern.fullmatch(plain) else plain)
            if number is None or (not pattern.fullmatch(plain) and plain[-1:].isdigit()):
                return column
            known[text] = number
    values = to_array([known.get(text) if isinstance(text, str) else None for text in column])
    return pd.Series(values, index=column.index, name=column.name)
