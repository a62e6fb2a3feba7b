"""What is done to a table's columns: other people's names, columns that follow from C = 6 N D, rows kept by a rule."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError, suggest_name
from scaling.specs.counts import parse_number
from scaling.store.columns import TRAINING_FLOPS, Derived

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
EXPRESSION = re.compile(r"^\s*([^<>=!]+?)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*$")

# C = 6 N D, solved for each: what it follows from, how, and how a fit says so.
DERIVED: dict[Derived, tuple[tuple[Derived, Derived], Callable[[Any, Any], Any], str]] = {
    "data_seen": (("train_flops", "num_params"), lambda c, n: c / (TRAINING_FLOPS * n), "train_flops / (6 num_params)"),
    "num_params": (("train_flops", "data_seen"), lambda c, d: c / (TRAINING_FLOPS * d), "train_flops / (6 data_seen)"),
    "train_flops": (("num_params", "data_seen"), lambda n, d: TRAINING_FLOPS * n * d, "6 num_params data_seen"),
}
CONVENTIONS = "conventions"  # in a table's attrs: what was done to it, by name, for the conventions of a fit


def rename_columns(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Returns the table with their columns under our names; one of theirs may serve under several.

    Args:
      table: Any table.
      columns: Our name to theirs.

    Raises:
      AnalysisError: if a column is missing or would appear twice.

    >>> rename_columns(pd.DataFrame({"D": [20]}), {"data_seen": "D", "data_unique": "D"}).columns.tolist()
    ['data_seen', 'data_unique']
    """
    taken: dict[str, str] = {}
    copies: dict[str, Any] = {}
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            raise suggest_name(f"--column {ours}=THEIRS names a column that is missing: THEIRS", theirs, table.columns)
        if ours != theirs and ours in table.columns and ours not in columns.values():
            raise AnalysisError(
                f"--column {ours}={theirs} would give two columns {ours!r}; drop or rename theirs first"
            )
        if theirs in taken:
            copies[ours] = table[theirs]
        else:
            taken[theirs] = ours
    return table.rename(columns=taken).assign(**copies)


def derive_columns(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Returns the table with columns computed from C = 6 N D; `attrs["conventions"]` records it.

    Args:
      table: Has the two columns that each name follows from.
      names: Of `data_seen`, `num_params` and `train_flops`.

    Raises:
      AnalysisError: if a name cannot be derived, is there already, or follows from a column that is missing or text.

    >>> table = derive_columns(pd.DataFrame({"train_flops": [5.76e23], "num_params": [70e9]}), ["data_seen"])
    >>> (table["data_seen"] / 1e12).round(3).tolist(), table.attrs["conventions"]
    ([1.371], {'data_seen': 'train_flops / (6 num_params)'})
    """
    for name in names:
        if name not in DERIVED:
            raise suggest_name("derive", name, DERIVED)
        if name in table.columns:
            raise AnalysisError(
                f"derive={name!r}: the table has that column; leave it out of derive, or drop the column first"
            )
        sources, formula, text = DERIVED[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = formula(*(read_numbers(table, source) for source in sources))
        table = note(table.assign(**{name: values}), name, text)
    return table


def note(table: pd.DataFrame, name: str, text: str) -> pd.DataFrame:
    """Returns the table with one more convention on record; the table given is left as it is."""
    table = table.copy(deep=False)
    table.attrs = {**table.attrs, CONVENTIONS: {**table.attrs.get(CONVENTIONS, {}), name: text}}
    return table


def read_numbers(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Returns a column as floats `[n]`, NaN where it is empty.

    Raises:
      AnalysisError: if the column is missing or holds text; numbers with units, like 7B, are text.
    """
    if name not in table.columns:
        raise suggest_name("column", name, table.columns)
    column = table[name]
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        text = [value for value in column.dropna() if not _is_number(value)]
        raise AnalysisError(
            f"column {name!r} holds text such as {text[0]!r} ({len(text)} of {len(column)} values); it must hold plain "
            "numbers: write 7B as 7e9 and 1,000 as 1000"
        ) from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _holds_truth_values(column: pd.Series) -> bool:
    """Returns whether a column that lacks some values has truth values in all other places."""
    known = column.dropna() if column.dtype == object else column.iloc[:0]
    return len(known) > 0 and all(isinstance(value, bool | np.bool_) for value in known)


def keep_rows(table: pd.DataFrame, expressions: Iterable[str]) -> pd.DataFrame:
    """Returns the rows that satisfy every `COLUMN OP VALUE`, with OP one of < <= > >= == !=.

    Nothing is evaluated as code. A value that reads as a number is compared as one where the column holds numbers.
    `attrs["conventions"]` records each expression and how many rows it took away.

    Raises:
      AnalysisError: if an expression cannot be read, names no column, or orders text against a number.

    >>> keep_rows(pd.DataFrame({"loss": [3.0, 4.0]}), ["loss<3.44"])["loss"].tolist()
    [3.0]
    """
    for expression in expressions:
        match = EXPRESSION.match(expression)
        if match is None:
            raise AnalysisError(
                f"--keep {expression!r} must be COLUMN OP VALUE with OP in < <= > >= == !=; like loss<3.44"
            )
        name, sign, text = match.groups()
        if name not in table.columns:
            raise suggest_name("--keep column", name, table.columns)
        keep = OPERATORS[sign](table[name], read_value(table[name], sign, text)).fillna(False).astype(bool)
        table = note(table[keep], f"keep {name}{sign}{text}", f"{int((~keep).sum())} of {len(keep)} rows taken away")
    return table


def read_value(column: pd.Series, sign: str, text: str) -> object:
    """Returns the value that `text` means beside this column: a truth value, a number or text without its quotes."""
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if pd.api.types.is_bool_dtype(column) or _holds_truth_values(column):
        if text.lower() in ("true", "false") and sign in ("==", "!="):
            return text.lower() == "true"
        raise AnalysisError(
            f"--keep {column.name}{sign}{text}: the column holds true and false; use =={True} or =={False}"
        )
    if pd.api.types.is_numeric_dtype(column):
        number = parse_number(text)
        if number is None:
            raise AnalysisError(f"--keep {column.name}{sign}{text}: the column holds numbers; give a number")
        return number
    if sign not in ("==", "!="):
        raise AnalysisError(f"--keep {column.name}{sign}{text}: the column holds text; use == or !=")
    return text
