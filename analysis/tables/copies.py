"""Rows that a table holds more than once: which they are, and in what they differ if in anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.files.values import is_nothing
from analysis.tables.provenance import name_row
from analysis.tables.run_names import find_text
from analysis.tables.runs import find_run_column
from scaling.store.columns import CONTRACT, TIMES, is_part

# Columns of when a row was written down, which say nothing of its run.
EXPORTED = re.compile(
    r"^(date|datetime|time ?stamp|ts|last (update|change|modified))$"
    r"|^(.* )?(time ?stamp|export(ed)?|download(ed)?|fetch(ed)?|updated?|created|creation|modified|snapshot|retrieved|"
    r"scraped|synced|saved|logged)( (at|on|time|times|date|datetime|ts|timestamp|utc|s|ms|unix))*$"
    r"|^(date|time|day) (of |at )?(export|download|fetch|update|snapshot|creation)(ed)?$"
)
ROW_NUMBER = re.compile(r"^(unnamed: \d+( level \d+)?|(index )?level 0|index|#|row( (number|num|no|id|index))?)$")
SOURCE = "file"  # where several files were joined: the one that a row came from
SETTLED = (*(name for name in CONTRACT if name != "loss"), SOURCE)  # columns of ours that measure nothing
MEASURE = re.compile(
    r"loss|error|accuracy|acc|bpb|perplexity|ppl|score|nll|entropy|bits|auc|f1|mse|rmse|mae|bleu|reward"
)
SHOWN = 4  # values of the first pair that are named
FIRST = (
    "study",
    "cell",
    "label",
    "run",
    "num_params",
    "data_seen",
    "data_unique",
    "train_flops",
    "step",
    "seed",
    "loss",
)
# Seconds since 1970 of the years 1973 to 2603, of which milliseconds and finer are multiples; dates like 20261130.
EPOCHS, CALENDAR = (1e8, 2e10), (19700101, 21001231)


@dataclass(frozen=True)
class Copies:
    """Which rows repeat an earlier one.

    Attributes:
      again: Whether each row does, `[n]`.
      said: A sentence for people; None where no row does.
    """

    again: NDArray[np.bool_]
    said: str | None


def find_copies(table: pd.DataFrame) -> Copies:
    """Returns which rows are those of an earlier row again, wherever they stand, and a sentence that says so.

    Rows are compared in all columns but those of when a row was exported, of its number, and of the file it came from;
    where that file is itself the run (a curve in each), whole files are compared. Of rows that name a `cell`, what they
    took is not compared either. What is missing equals what is missing. Rows that measure nothing are nobody's copies.

    Two honest runs without a seed whose loss has two digits are equal too: whoever calls decides.

    >>> find_copies(pd.DataFrame({"num_params": [1e6, 2e6, 1e6], "loss": [3.1, 3.0, 3.1]})).said
    '1 row repeats another one (row 3 is row 1: num_params=1e6, loss=3.1)'
    """
    count = len(table)
    none = Copies(np.zeros(count, dtype=bool), None)
    if count < 2 or not len(table.columns):
        return none
    columns = [table.iloc[:, place] for place in range(len(table.columns))]
    names = [str(name) for name in table.columns]
    passing = [_is_passing(name, column) for name, column in zip(names, columns, strict=True)]
    kept = [place for place in range(len(names)) if not passing[place] and names[place] != SOURCE]
    if not kept:
        return none
    cells = columns[names.index("cell")].notna().to_numpy() if "cell" in names else np.zeros(count, dtype=bool)

    def number(places: Sequence[int]) -> NDArray[np.int64]:
        """Returns the number of each row among the distinct rows of some columns, in the order of their first one."""
        key = np.zeros(count, dtype=np.int64)
        for place in places:
            codes = _number(columns[place])
            if names[place] in TIMES:
                codes = np.where(cells, -1, codes)
            key = pd.factorize(key * (int(codes.max(initial=-1)) + 2) + codes + 1)[0]
        return key

    key = number(kept)
    if int(key.max()) == count - 1:
        return none
    if SOURCE in names and find_run_column(table) == SOURCE:
        again, first = _find_whole_files(key, _number(columns[names.index(SOURCE)]))
    else:
        first = np.unique(key, return_index=True)[1][key]
        again = first != np.arange(count)
    again = again & _find_measured(names, columns)
    if not again.any():
        return none
    others = [place for place in range(len(names)) if place not in kept]
    differ = [names[place] for place in others if _differs(_number(columns[place]), first, again)]
    if cells.any():
        differ += [
            names[place] for place in kept if names[place] in TIMES and _differs(_number(columns[place]), first, again)
        ]
    return Copies(again, _say(table, again, first, kept, names, columns, differ))


def _number(column: pd.Series) -> NDArray[np.int64]:
    """Returns the number of each row's value, -1 where it is missing; lists and objects are compared as text."""
    try:
        return pd.factorize(column)[0].astype(np.int64)
    except (TypeError, ValueError, NotImplementedError):
        text = [None if is_nothing(value) else json.dumps(value, sort_keys=True, default=_plain) for value in column]
        return pd.factorize(np.array(text, dtype=object))[0].astype(np.int64)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _differs(codes: NDArray[np.int64], first: NDArray[np.int64], again: NDArray[np.bool_]) -> bool:
    return bool((codes != codes[first])[again].any())


def _is_passing(name: str, column: pd.Series) -> bool:
    """Returns whether a column says when or where a row was written down, and nothing of its run."""
    text = find_text(name)
    if EXPORTED.match(text) and _holds_dates(column):
        return True
    return bool(ROW_NUMBER.match(text)) and _counts_up(column, may_shuffle=text.startswith("unnamed"))


def _counts_up(column: pd.Series, *, may_shuffle: bool) -> bool:
    """Returns whether values number the rows: whole, rising, and begun anew where tables were put below each other."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column) or column.isna().any():
        return False
    values = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or values.min() < 0:
        return False
    falls = np.flatnonzero(np.diff(values) <= 0) + 1
    return bool((values[falls] <= 1).all()) or (may_shuffle and len(np.unique(values)) == len(values))


def _holds_dates(column: pd.Series) -> bool:
    known = column.dropna()
    if pd.api.types.is_datetime64_any_dtype(column) or not len(known):
        return True
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        return False
    if pd.api.types.is_numeric_dtype(column):
        values = known.to_numpy(dtype=np.float64)
        ranges = [(EPOCHS[0] * unit, EPOCHS[1] * unit) for unit in (1, 1e3, 1e6, 1e9)] + [CALENDAR]
        return any(bool(((values > low) & (values < high)).all()) for low, high in ranges)
    try:
        some = known.drop_duplicates().iloc[:100].astype(str)
        dates = pd.to_datetime(some, errors="coerce", utc=True, format="mixed")
    except (TypeError, ValueError, OverflowError):
        return False
    return bool(dates.notna().all()) and bool(some.str.contains(r"\d.*[-/:. ].*\d|\d{8}").all())


def _find_measured(names: Sequence[str], columns: Sequence[pd.Series]) -> NDArray[np.bool_]:
    """Returns whether each row has a measured value: a loss or the like, else any number that is no setting of ours."""
    there = [place for place in range(len(names)) if names[place] not in SETTLED and not is_part(names[place])]
    measures = [place for place in there if MEASURE.search(find_text(names[place]))]
    found = np.zeros(len(columns[0]), dtype=bool)
    for place in measures or there:
        if measures or _holds_numbers(columns[place]):
            found |= columns[place].notna().to_numpy()
    return found


def _holds_numbers(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column):
        return not pd.api.types.is_bool_dtype(column)
    try:
        known = column.dropna().astype(str).drop_duplicates().iloc[:100]
    except (TypeError, ValueError):
        return False
    return len(known) > 0 and bool(known.str.contains(r"\d").all())


def _find_whole_files(key: NDArray[np.int64], files: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns which rows repeat one of their own file, or belong to a file whose rows are those of an earlier file."""
    count = len(key)
    inside = pd.factorize(key * (int(files.max(initial=-1)) + 2) + files + 1)[0]
    first = np.unique(inside, return_index=True)[1][inside]
    again = first != np.arange(count)
    seen: dict[bytes, int] = {}
    anywhere = np.unique(key, return_index=True)[1][key]
    for rows in pd.Series(np.arange(count)).groupby(files, sort=False).indices.values():
        content = np.unique(key[rows]).tobytes()
        if content in seen and len(rows) > 1:
            again[rows], first[rows] = True, anywhere[rows]
        seen.setdefault(content, len(seen))
    return again, first


def _say(
    table: pd.DataFrame,
    again: NDArray[np.bool_],
    first: NDArray[np.int64],
    kept: Sequence[int],
    names: Sequence[str],
    columns: Sequence[pd.Series],
    differ: Sequence[str],
) -> str:
    row, count = int(np.argmax(again)), int(again.sum())
    order = sorted(kept, key=lambda place: FIRST.index(names[place]) if names[place] in FIRST else len(FIRST))
    values = [(names[place], columns[place].iloc[row]) for place in order]
    known = [f"{name}={_show(value)}" for name, value in values if not is_nothing(value)]
    shown = ", ".join(known[:SHOWN])
    tail = f"; they differ in {_join(differ)} alone" if differ else ""
    repeat = "1 row repeats" if count == 1 else f"{count} rows repeat"
    return f"{repeat} another one (row {name_row(table, row)} is row {name_row(table, int(first[row]))}: {shown}{tail})"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _show(value: Any) -> str:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        text = str(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{float(value):.6g}")
