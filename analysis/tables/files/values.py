"""What the values of a column mean, judged over the whole column: numbers, missing ones, truth values or text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
MOST_DIGITS = 20  # of whole numbers in 64 bits, with a sign; longer ones are floats from the start
INFINITE = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}
INFINITE |= {sign.replace("inf", "infinity"): value for sign, value in INFINITE.items()}
# Among numbers these say that there is none; in a column of text they are text, for a label may be called None.
NOT_A_NUMBER = frozenset({"nan", "-nan", "+nan"})
MISSING = NOT_A_NUMBER | {"", "na", "n/a", "#n/a", "#na", "<na>", "null", "none", "-", "–", "—"}  # noqa: RUF001
# How JSON writes the numbers that it lacks; see `launch.imports.histories`.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
TRUTH = {"true": True, "false": False}


def read_number(text: str) -> int | float | None:
    """Returns the number that a text is written as, exactly; None where it is none.

    >>> read_number("7e9"), read_number(" 12 "), read_number("-Infinity"), read_number("1_000"), read_number("7B")
    (7000000000.0, 12, -inf, None, None)
    """
    text = text.strip()
    if NUMBER.fullmatch(text):
        return int(text) if WHOLE.fullmatch(text) and len(text) <= MOST_DIGITS else float(text)
    return INFINITE.get(text.lower())


def is_plain_number(text: str) -> bool:
    """Returns whether a text is written as a number."""
    return read_number(text) is not None


def may_hold_text(column: pd.Series) -> bool:
    """Returns whether a column has a type that texts can be of."""
    return column.dtype == object or str(column.dtype).partition("[")[0] in ("str", "string", "large_string")


def is_nothing(value: Any) -> bool:
    """Returns whether a value is none: None, NaN and what pandas has for them; a list is a value.

    >>> is_nothing(None), is_nothing(pd.NaT), is_nothing([None]), is_nothing("")
    (True, True, False, False)
    """
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def is_missing(value: Any) -> bool:
    """Returns whether a value says, among numbers, that there is none.

    >>> is_missing("N/A"), is_missing(None), is_missing(float("nan")), is_missing("none left"), is_missing(0)
    (True, True, True, False, False)
    """
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return is_nothing(value)


def finish_columns(frame: pd.DataFrame, *, texts_are_numbers: bool = True) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table with each column as what its values are together, and the names of those with numbers in text.

    Columns that have a type already stay as they are. One that holds numbers, and otherwise only words for missing
    values, holds numbers; one that holds true and false holds truth values; all else stays as it is written.

    Args:
      frame: Columns whose names differ.
      texts_are_numbers: Whether texts alone make a column of numbers, as they do where a file knows nothing else.
    """
    found, converted = frame, list[str]()
    for name in frame.columns:
        if may_hold_text(frame[name]):
            column, has_texts = _finish(frame[name], texts_are_numbers)
            found = found.copy(deep=False) if found is frame else found
            found[name] = column
            converted += [name] if has_texts else []
    return found, tuple(converted)


def _finish(column: pd.Series, texts_are_numbers: bool) -> tuple[pd.Series, bool]:
    """Returns the column, and whether numbers were read from texts in it."""
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        if not texts_are_numbers and not column.dropna().isin(NOT_FINITE).all():
            return column, False
        codes, uniques = pd.factorize(column)
        known = read_values(list(uniques))
        if known is None:
            return column, False
        values: Iterable[Any] = np.array([*known, None], dtype=object)[codes]
        has_texts = True
    else:
        items = column.tolist()
        found = read_values(items)
        if found is None:
            return column, False
        values = found
        has_texts = any(isinstance(item, str) and not is_missing(item) for item in items)
    return pd.Series(to_array(list(values)), index=column.index, name=column.name), has_texts


def read_values(values: Sequence[Any]) -> list[Any] | None:
    """Returns values as numbers, or as truth values, with None where one is missing; None where they are text.

    Words for missing values alone are text, but for NaN, which only numbers can be.

    >>> read_values(["7", "NaN", "1e3"]), read_values(["None", "x"]), read_values(["True", "NA"]), read_values(["-"])
    ([7, None, 1000.0], None, [True, None], None)
    """
    found: list[Any] = []
    kinds: set[type] = set()
    for value in values:
        item = _read(value)
        if item is None and not is_missing(value):
            return None
        if item is not None:
            kinds.add(bool if isinstance(item, bool) else float)
        found.append(item)
    if len(kinds) == 2:
        return None
    if not kinds and not all(_is_nan(value) for value in values):
        return None
    return found if kinds or any(isinstance(value, str) for value in values) else None


def _is_nan(value: Any) -> bool:
    return value.strip().lower() in NOT_A_NUMBER | {""} if isinstance(value, str) else is_missing(value)


def _read(value: Any) -> int | float | bool | None:
    if isinstance(value, str):
        number = read_number(value)
        return TRUTH.get(value.strip().lower()) if number is None else number
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.integer | np.floating | Decimal):
        if isinstance(value, int | np.integer):
            return int(value)
        number = float(value)
        return None if math.isnan(number) else number
    return None


def to_array(values: Sequence[Any]) -> np.ndarray:
    """Returns numbers, truth values and None as the array that a table holds them in.

    Whole numbers beyond 64 bits are floats, as are those beside missing ones.

    >>> to_array([1, 2]).dtype, to_array([1, 10**20]).dtype, to_array([1, None]).dtype, to_array([True, None]).dtype
    (dtype('int64'), dtype('float64'), dtype('float64'), dtype('O'))
    """
    has_missing = any(value is None for value in values)
    if any(isinstance(value, bool) for value in values):
        return np.array([np.nan if v is None else v for v in values], dtype=object if has_missing else bool)
    if not has_missing and values and all(isinstance(v, int) and -(2**63) <= v < 2**63 for v in values):
        return np.array(values, dtype=np.int64)
    return np.array([math.nan if value is None else _to_float(value) for value in values], dtype=np.float64)


def _to_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf
