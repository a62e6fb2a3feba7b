"""Names of columns as a table's first rows give them: in one row or in several, with some twice or without a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

from analysis.tables.files.content import BrokenError
from analysis.tables.files.values import is_missing
from analysis.tables.words import list_names

# What begins as a number is a value, though of an unknown form, and no unit: 7B, 1_000, 2024-01-31.
VALUE = re.compile(r"\s*[+-]?\.?\d")
# Names, then units or what was taken of them, then what pandas calls its levels: more rows than these are no header.
MOST_ROWS = 4


def count_header_rows(rows: Sequence[Sequence[str]], is_number: Callable[[str], bool]) -> tuple[int, list[int]]:
    """Returns how many rows are the header, and the columns that tell so where these are several.

    A row below the first belongs to it where none of its fields is a number and some are text in columns that hold
    numbers alone in all rows below. So does one that only names columns that have no name in the rows above, as pandas
    writes the names of an index.

    Args:
      rows: The first rows, from the first one with names.
      is_number: Whether a field is a number.

    >>> count_header_rows([["Tokens", "name"], ["(B)", ""], ["1", "a"], ["2", "b"]], str.isdigit)
    (2, [0])
    """
    count, told = 1, list[int]()
    while count < min(MOST_ROWS, len(rows) - 1):
        row, below = rows[count], rows[count + 1 :]
        filled = [place for place, field in enumerate(row) if field.strip()]
        if not filled or any(is_number(field) or VALUE.match(field) for field in row):
            break
        above = rows[:count]
        if count > 1 and all(not _field(names, place) for place in filled for names in above):
            count += 1
            continue
        texts = [place for place in filled if not is_missing(row[place])]
        numeric = [place for place in texts if _is_numeric([_field(item, place) for item in below], is_number)]
        # A row of headers may lie below this one: then it is text there, and the numbers begin later.
        deeper = rows[count + 1] if not numeric and len(below) > 1 else []
        if deeper and not any(is_number(field) for field in deeper):
            numeric = [place for place in texts if _is_numeric([_field(item, place) for item in below[1:]], is_number)]
        if not numeric:
            break
        told += [place for place in numeric if place not in told]
        count += 1
    return count, told


def _field(row: Sequence[str], place: int) -> str:
    return row[place].strip() if place < len(row) else ""


def _is_numeric(fields: Sequence[str], is_number: Callable[[str], bool]) -> bool:
    numbers = [is_number(field) for field in fields if not is_missing(field)]
    return bool(numbers) and all(numbers)


def is_title(rows: Sequence[Sequence[str]], is_number: Callable[[str], bool]) -> bool:
    """Returns whether the first row is a title: one field alone above a row of several names.

    >>> is_title([["Results", ""], ["N", "loss"], ["1", "2"]], str.isdigit)
    True
    """
    if len(rows) < 3 or any(is_number(field) for field in rows[1]):
        return False
    filled = [[place for place, field in enumerate(row) if field.strip()] for row in rows[:2]]
    return len(filled[0]) == 1 and filled[0][0] <= min(filled[1], default=-1) and len(filled[1]) > 1


def check_names(header: Sequence[str], is_number: Callable[[str], bool]) -> list[str]:
    """Returns the sentence on names of which some may be values, if any.

    Raises:
      BrokenError: all are.

    >>> check_names(["N", "2020", ""], str.isdigit)
    ["the first row is read as names, though some are numbers: '2020'"]
    """
    fields = [field.strip() for field in header if not is_missing(field)]
    numbers = [field for field in fields if is_number(field)]
    if numbers and len(numbers) == len(fields):
        raise BrokenError(
            f"its first row holds numbers alone, {list_names(numbers)}, and no names",
            "write the names of its columns in the first row",
        )
    return [f"the first row is read as names, though some are numbers: {list_names(numbers)}"] if numbers else []


def join_names(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns the name of each column: what the rows of a header say of it, from above, without words for nothing.

    >>> join_names([["Tokens", "loss", ""], ["(B)", "-", "D"]], 3)
    ['Tokens (B)', 'loss', 'D']
    """
    names = []
    for place in range(width):
        parts = [_field(row, place) for row in rows]
        below = [part for part in parts[1:] if not is_missing(part)]
        names.append(" ".join(part for part in [parts[0], *dict.fromkeys(below)] if part))
    return names


def name_columns(frame: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table under names that differ, and sentences of what was merged, renamed or left out.

    Columns of one name and the same values are one; others of one name are all numbered, so that none is taken for
    the other. A column without a name and values is left out; with values it is called as pandas calls it.

    Args:
      frame: Columns in the order of the names.
      names: As many, as the file has them.

    >>> name_columns(pd.DataFrame([[1, 2]]), ["loss", "loss "])[0].columns.tolist()
    ['loss (1)', 'loss (2)']
    """
    stripped = [name.strip() for name in names]
    if all(stripped) and len(set(stripped)) == len(stripped):
        return frame.set_axis(pd.Index(stripped), axis=1), ()
    places: dict[str, list[int]] = {}
    for place, name in enumerate(stripped):
        if name or frame.iloc[:, place].notna().any():
            places.setdefault(name or f"Unnamed: {place}", []).append(place)
    found: dict[int, str] = {}
    same, other = [], []
    for name, group in places.items():
        different: list[int] = []
        for place in group:
            if not any(frame.iloc[:, place].equals(frame.iloc[:, earlier]) for earlier in different):
                different.append(place)
        if len(different) < len(group):
            same.append(name)
        if len(different) == 1:
            found[different[0]] = name
            continue
        other.append(name)
        number = 0
        for place in different:
            number += 1
            while f"{name} ({number})" in places:
                number += 1
            found[place] = f"{name} ({number})"
    order = sorted(found)
    said = []
    if same:
        said.append(f"columns of one name with the same values are read once: {list_names(same)}")
    if other:
        said.append(
            f"columns of one name with other values are numbered, {other[0]!r} as {other[0] + ' (1)'!r} and so on: "
            f"{list_names(other)}"
        )
    named = frame.iloc[:, order]
    named.columns = pd.Index([found[place] for place in order])
    return named, tuple(said)


def say_joined(rows: Sequence[Sequence[str]], names: Sequence[str]) -> str:
    """Returns the sentence on a header of several rows."""
    joined = [name for name in names if name] or [""]
    example = max(joined, key=lambda name: name.count(" "))
    return f"the first {len(rows)} rows are read as one header, with names such as {example!r}"
