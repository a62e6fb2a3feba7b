"""What is done to a table's columns: read as numbers, derived by C = 6 N D, and rows kept by a rule about them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError, suggest_name
from analysis.tables.expressions import quote
from analysis.tables.proposals import Proposal, propose_table
from analysis.tables.provenance import Table, attach, name_row, note, provenance_of
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


def derive_columns(table: pd.DataFrame, names: Iterable[str]) -> Table:
    """Returns the table with columns computed from C = 6 N D; its conventions record it.

    Args:
      table: Has the two columns that each name follows from.
      names: Of `data_seen`, `num_params` and `train_flops`.

    Raises:
      AnalysisError: if a name cannot be derived, is there already, or follows from a column that is missing or text.

    >>> table = derive_columns(pd.DataFrame({"train_flops": [5.76e23], "num_params": [70e9]}), ["data_seen"])
    >>> (table["data_seen"] / 1e12).round(3).tolist(), table.provenance.conventions
    ([1.371], {'data_seen': 'train_flops / (6 num_params)'})
    """
    found = attach(table, provenance_of(table))
    for name in names:
        if name not in DERIVED:
            raise suggest_name("derive", name, DERIVED)
        if name in found.columns:
            raise AnalysisError(
                f"derive={name!r}: the table has that column; leave it out of derive, or drop the column first"
            )
        sources, formula, text = DERIVED[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = formula(*(read_numbers(found, source) for source in sources))
        found = note(found.assign(**{name: values}), name, text)
    return found


def read_numbers(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Returns a column as floats `[n]`, NaN where it is empty.

    Raises:
      AnalysisError: if the column is missing or holds text; numbers with units, like 7B, are text.
    """
    check_columns(table, [name])
    column = table[name]
    numbers = as_numbers(column)
    if numbers is not None:
        return numbers
    rows = [place for place, value in enumerate(column) if not (value is None or value != value or _is_number(value))]
    raise AnalysisError(
        f"column {name!r} holds text such as {column.iloc[rows[0]]!r} ({len(rows)} of {len(column)} values), first in "
        f"row {name_row(table, rows[0])}; it must hold plain numbers: write 7B as 7e9 and 1,000 as 1000, or have it "
        f"read: --column '{name}=count({quote(name)})', number(…) for 85.3% and 3.2 ± 0.1; {name}?= leaves others empty"
    )


def check_columns(table: pd.DataFrame, names: Iterable[str]) -> None:
    """Checks that columns are there.

    Raises:
      AnalysisError: some are not; it says what may be meant by the names that the table has.
    """
    missing = [name for name in dict.fromkeys(names) if name not in table.columns]
    if not missing:
        return
    proposals, derived = _propose(table, missing)
    if proposals or derived:
        options = " ".join([*(one.option() for one in proposals), *(f"--derive {name}" for name in derived)])
        doubts = "".join(f" ({one.doubt})" for one in proposals if one.doubt)
        head = f"column={missing[0]!r} is" if len(missing) == 1 else f"columns {', '.join(map(repr, missing))} are"
        raise AnalysisError(
            f"{head} unknown; by the table's own names it is likely {options}, which you should look at before you use "
            f"it{doubts}"
        )
    raise suggest_name("column", missing[0], table.columns)


def _propose(table: pd.DataFrame, missing: Sequence[str]) -> tuple[list[Proposal], list[str]]:
    """Returns what missing columns are likely made of, and which of them follow from others by C = 6 N D."""
    proposals, derived = propose_table(table, missing), list[str]()
    for name, (sources, _, _) in DERIVED.items():
        if name not in missing or derived or any(one.column == name for one in proposals):
            continue
        more = propose_table(table, [source for source in sources if source not in missing])
        known = {*table.columns, *(one.column for one in (*proposals, *more))}
        if set(sources) <= known:
            proposals += [one for one in more if one not in proposals]
            derived.append(name)
    return proposals, derived


def as_numbers(column: pd.Series) -> NDArray[np.float64] | None:
    """Returns a column as floats `[n]`, NaN where it is empty; None where it holds text.

    >>> as_numbers(pd.Series([2**70, "NaN", None], dtype=object)), as_numbers(pd.Series(["7B"]))
    (array([1.18059162e+21,            nan,            nan]), None)
    """
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _holds_truth_values(column: pd.Series) -> bool:
    """Returns whether a column that lacks some values has truth values in all other places."""
    known = column.dropna() if column.dtype == object else column.iloc[:0]
    return len(known) > 0 and all(isinstance(value, bool | np.bool_) for value in known)


def keep_rows(table: pd.DataFrame, expressions: Iterable[str]) -> Table:
    """Returns the rows that satisfy every `COLUMN OP VALUE`, with OP one of < <= > >= == !=.

    Nothing is evaluated as code. A value that reads as a number is compared as one where the column holds numbers; a
    missing value equals NaN, and nothing else. The table's conventions record each expression and how many rows it
    took away.

    Raises:
      AnalysisError: if an expression cannot be read, names no column, or orders text against a number.

    >>> keep_rows(pd.DataFrame({"loss": [3.0, 4.0]}), ["loss<3.44"])["loss"].tolist()
    [3.0]
    """
    found = attach(table, provenance_of(table))
    for expression in expressions:
        match = EXPRESSION.match(expression)
        if match is None:
            raise AnalysisError(
                f"--keep {expression!r} must be COLUMN OP VALUE with OP in < <= > >= == !=; like loss<3.44"
            )
        name, sign, text = match.groups()
        name = find_column(name, found.columns, "--keep column")
        keep = _compare(found[name], sign, text)
        found = note(found[keep], f"keep {name}{sign}{text}", f"{int((~keep).sum())} of {len(keep)} rows taken away")
    return found


def find_column(name: str, columns: Iterable[Any], field: str) -> str:
    """Returns the name of a column, which may be typed without its outer spaces.

    Raises:
      AnalysisError: there is none, or several but for their spaces.
    """
    known = list(map(str, columns))
    if name in known:
        return name
    alike = [other for other in known if other.strip() == name.strip()]
    if len(alike) == 1:
        return alike[0]
    raise suggest_name(field, name, known)


def _compare(column: pd.Series, sign: str, text: str) -> NDArray[np.bool_]:
    """Returns which rows satisfy a rule `[n]`."""
    value = read_value(column, sign, text)
    if isinstance(value, float) and np.isnan(value):
        if sign not in ("==", "!="):
            raise AnalysisError(f"--keep {column.name}{sign}{text}: nothing is in order beside NaN; use == or !=")
        values = as_numbers(column)
        missing = column.isna().to_numpy() if values is None else np.isnan(values)
        return missing if sign == "==" else ~missing
    values = as_numbers(column) if isinstance(value, float) else None
    compared = column if values is None else pd.Series(values, index=column.index)
    return OPERATORS[sign](compared, value).fillna(False).to_numpy(dtype=bool)


def read_value(column: pd.Series, sign: str, text: str) -> object:
    """Returns the value that `text` means beside this column: a truth value, a number or text without its quotes."""
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if pd.api.types.is_bool_dtype(column) or _holds_truth_values(column):
        if text.lower() in ("true", "false") and sign in ("==", "!="):
            return text.lower() == "true"
        raise AnalysisError(
            f"--keep {column.name}{sign}{text}: the column holds true and false; use =={True} or =={False}"
        )
    if pd.api.types.is_numeric_dtype(column) or (column.dtype == object and _holds_numbers(column)):
        number = parse_number(text)
        if number is None:
            raise AnalysisError(f"--keep {column.name}{sign}{text}: the column holds numbers; give a number")
        return number
    if sign not in ("==", "!="):
        raise AnalysisError(f"--keep {column.name}{sign}{text}: the column holds text; use == or !=")
    return text


def _holds_numbers(column: pd.Series) -> bool:
    """Returns whether a column of objects holds numbers, as of integers beyond 64 bits, or NaN and Infinity as text."""
    is_text = column.map(lambda value: isinstance(value, str))
    return bool((column.notna() & ~is_text).any()) and as_numbers(column) is not None


def rule_names(expressions: Iterable[str]) -> list[str]:
    """Returns the columns that rules of `keep_rows` name; those that cannot be read name none."""
    return [match[1] for expression in expressions if (match := EXPRESSION.match(expression))]


def names_of(columns: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    """Returns our names with their text, and whether `NAME?=` lets it be empty.

    >>> names_of({"loss": "val_loss", "seed?": "rng"})
    {'loss': ('val_loss', False), 'seed': ('rng', True)}
    """
    return {name.removesuffix("?").strip(): (text, name.endswith("?")) for name, text in columns.items()}
