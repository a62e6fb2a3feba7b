"""Our columns made of theirs: under other names, or computed from them by an expression such as `Tokens (B)`*1e9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.tables.columns import names_of, read_numbers
from analysis.tables.expressions import Expression, Factor, quote, read_expression
from analysis.tables.numbers import read_column, scale
from analysis.tables.provenance import Table, attach, name_row, note, provenance_of, say
from analysis.tables.units import find_unit
from scaling.specs.base import InputError


def compute_columns(table: pd.DataFrame, columns: Mapping[str, str]) -> Table:
    """Returns the table with our columns: theirs under our names, or what an expression makes of them.

    A column that is only renamed is no longer there under their name; one of theirs may serve under several of ours.
    What an expression reads stays. The conventions record every expression.

    Args:
      table: Any table.
      columns: Our name (`NAME?` where it may stay empty) to theirs, or to a product: `count(Size)`,
        `` `Tokens (B)`*1e9 ``, `number(Accuracy)`, `steps*batch*2048`, `'tokens'`.

    Raises:
      AnalysisError: if a column is missing or would appear twice, an expression cannot be read, or a value is no
        number.

    >>> table = compute_columns(pd.DataFrame({"D (B)": [0.35]}), {"data_seen": "`D (B)`*1e9", "data_unique": "D (B)"})
    >>> table.to_dict("records")
    [{'data_unique': 0.35, 'data_seen': 350000000.0}]
    """
    found = attach(table, provenance_of(table))
    wanted = names_of(columns)
    renamed: dict[str, str] = {}
    made: dict[str, Any] = {}
    notes: dict[str, str] = {}
    said: list[str] = []
    for ours, (text, may_be_empty) in wanted.items():
        expression = _read(text, table, ours)
        factor = expression.factors[0]
        if len(expression.factors) == 1 and factor.kind == "name" and factor.function is None:
            _check_free(ours, factor.value, table, wanted)
            renamed[ours] = factor.value
            said += _doubt_unit(ours, factor.value)
            continue
        if len(expression.factors) == 1 and factor.kind == "text":
            made[ours] = factor.value
        else:
            made[ours], read = _multiply(expression, table, ours, may_be_empty)
            said += [f"{ours}: {sentence}" for sentence in read]
        notes[ours] = expression.render()
    first = {theirs: ours for ours, theirs in reversed(renamed.items())}
    copies = {ours: table[theirs] for ours, theirs in renamed.items() if first[theirs] != ours}
    typed = {ours: quote(theirs) for ours, theirs in renamed.items()} | notes
    known = replace(found.provenance, columns={**found.provenance.columns, **typed})
    found = attach(found.rename(columns=first).assign(**copies, **made), known)
    for name, text in notes.items():
        found = note(found, name, text)
    return say(found, *said)


def _read(text: str, table: pd.DataFrame, ours: str) -> Expression:
    try:
        return read_expression(text, list(map(str, table.columns)), f"--column {ours}", holder="the table")
    except InputError as error:
        raise AnalysisError(str(error)) from None


def _check_free(ours: str, theirs: str, table: pd.DataFrame, wanted: Mapping[str, Any]) -> None:
    if ours != theirs and ours in table.columns and not any(_is_read(ours, text) for text, _ in wanted.values()):
        raise AnalysisError(
            f"--column {ours}={theirs} would give two columns {ours!r}; rename theirs too, "
            f"say --column their_{ours}={ours}"
        )


def _is_read(name: str, text: str) -> bool:
    return text.strip().strip("`") == name


def _doubt_unit(ours: str, theirs: str) -> list[str]:
    """Returns a sentence where a header names a unit and its column is taken as it stands."""
    unit = find_unit(theirs)
    if unit is None:
        return []
    return [
        f"{ours}: {theirs!r} is read as it stands; if it is in {unit.text}, write "
        f"--column '{ours}={quote(theirs)}*{unit.scale}'"
    ]


def _multiply(
    expression: Expression, table: pd.DataFrame, ours: str, may_be_empty: bool
) -> tuple[NDArray[np.float64], list[str]]:
    """Returns the product of factors `[n]`, and what was done to read them."""
    product, said = np.ones(len(table)), list[str]()
    # Scales come last, and as they are typed: 0.35 times 1e9 is 350000000, to the last bit.
    ordered = sorted(expression.factors, key=lambda factor: factor.kind == "number")
    for factor in ordered:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if factor.kind == "number":
                product = scale(product, factor.value, divides=factor.divides)
                continue
            values, read = _values(factor, table, ours, may_be_empty)
            product = product / values if factor.divides else product * values
        said += read
    return product, said


def _values(
    factor: Factor, table: pd.DataFrame, ours: str, may_be_empty: bool
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Returns the numbers of a column as a factor reads them `[n]`, NaN where it is empty."""
    if factor.function == "last":
        raise AnalysisError(f"--column {ours}: last() is of histories, by scaling import; name the column alone")
    if factor.function is None and not may_be_empty:
        return read_numbers(table, factor.value), ()
    kind = factor.function or "number"
    read = read_column(table[factor.value].tolist(), kind=kind)
    if read.bad.any() and not may_be_empty:
        places = np.flatnonzero(read.bad)
        raise AnalysisError(
            f"--column {ours}={kind}({quote(factor.value)}): row {name_row(table, int(places[0]))} holds "
            f"{table[factor.value].iloc[places[0]]!r}, which is no number ({len(places)} of {len(table)} rows); "
            f"correct it, or leave such rows without one by --column '{ours}?=…'"
        )
    return read.values, read.said
