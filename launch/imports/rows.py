"""The rows that one raw run gives under a mapping: values by column, and how many rows were dropped and why."""

import functools
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.tables.expressions import Expression, Factor
from analysis.tables.numbers import read_column, read_count, read_number, read_plain, scale
from analysis.tables.states import STATUSES, Status, find_status
from launch.imports.histories import Values
from launch.imports.raw import RawFolder, RawRun
from scaling.specs.base import InputError, suggest

SUPERSEDED = "superseded by a restart"
TEXTS = frozenset({"study", "cell", "family", "label", "status", "trunk", "data_unit", "device_kind"})
# What values that runs have once are as numbers, by function and name, and then by run; None where they are none.
Read = Mapping[tuple[str, str], Mapping[str, float | None]]


class RunRows:
    """What a run gives: `columns` of equal length, and rows left out by reason."""

    def __init__(self, columns: dict[str, NDArray[Any]], dropped: dict[str, int]) -> None:
        self.columns, self.dropped = columns, dropped

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.columns["cell"])

    def set_status(self, statuses: Mapping[str, Status], name: str = "") -> None:
        """Translates how the run stands to our words; a complete run whose last loss is no finite number diverged.

        Args:
          statuses: words beside those that are known.
          name: what the words stand under, which tells what a truth value says.

        Raises:
          InputError: the word is unknown.
        """
        theirs = self.columns["status"][-1]
        ours = None if theirs is None else find_status(theirs, name, statuses)
        if theirs is not None and ours is None:
            remedy = suggest(str(theirs), {*STATUSES, *statuses})
            raise InputError(
                f"run {self.columns['cell'][0]}: state {str(theirs)!r} is unknown; {remedy} "
                "Else say what it means under statuses in mapping.json"
            )
        loss = self.columns.get("loss")
        if ours == "ok" and loss is not None and self.columns["is_final"][-1] and not np.isfinite(loss[-1]):
            ours = "diverged"
        self.columns["status"] = np.full(self.num_rows, ours, dtype=object)


def build_rows(
    folder: RawFolder,
    run: RawRun,
    expressions: Mapping[str, Expression],
    optional: Collection[str],
    read: Read,
) -> RunRows:
    """Returns a run's rows under a mapping; see `launch.imports.mapping.build_table` for the rules."""
    factors = [factor for expression in expressions.values() for factor in expression.factors]
    wanted = [factor.value.partition(".")[2] for factor in factors if factor.is_history()]
    found = folder.history(run, wanted) if wanted else {}
    history = {f"history.{name}": values for name, values in found.items()}
    loss = expressions["loss"].factors if "loss" in expressions else ()
    anchors = _plain(loss) or _plain(factors)
    if anchors:
        present = np.ones(run.history_rows or 0, dtype=bool)
        for name in anchors:
            present &= history[name].present if name in history else False
        picked = np.flatnonzero(present)
        if not len(picked):
            return RunRows({"cell": np.array([], dtype=object)}, {f"{' and '.join(anchors)} has no values": 0})
    else:
        picked = np.array([max((run.history_rows or 0) - 1, 0)])
    once = {key: of.get(run.id) for key, of in read.items()}
    order = _order_rows(_Reader(run.scalars(), history, picked, once), expressions)
    dropped = {SUPERSEDED: len(picked) - len(order)} if len(order) < len(picked) else {}
    picked = picked[order]
    reader = _Reader(run.scalars(), history, picked, once)
    columns: dict[str, NDArray[Any]] = {}
    keep = np.ones(len(picked), dtype=bool)
    for ours, expression in expressions.items():
        values, missing = reader.product(expression, ours in TEXTS)
        columns[ours] = values
        for reason, bad in missing:
            if ours in optional:
                columns[ours] = values = values.copy()
                values[bad] = None if ours in TEXTS else np.nan
            elif count := int((keep & bad).sum()):
                dropped[reason] = dropped.get(reason, 0) + count
                keep &= ~bad
    columns["cell"] = np.full(len(picked), run.id, dtype=object)
    columns["is_final"] = np.arange(len(picked)) == len(picked) - 1
    told = columns.get("status", np.full(len(picked), None, dtype=object))
    columns["status"] = np.array([run.state if word is None else word for word in told], dtype=object)
    return RunRows({ours: values[keep] for ours, values in columns.items()}, dropped)


def _order_rows(reader: "_Reader", expressions: Mapping[str, Expression]) -> NDArray[np.int64]:
    """Returns places of the picked rows in the order of the run's progress, without those that a restart superseded.

    A resumed run's own step went back where the tracker's, by which the rows are logged, went on. Where the mapping's
    step is no more than the tracker's, the data seen may tell it.
    """
    from analysis.tables.order import find_superseded, is_walk

    for ours in ("step", "data_seen"):
        expression = expressions.get(ours)
        if expression is None or not any(factor.is_history() for factor in expression.factors):
            continue
        values = reader.product(expression, is_text=False)[0]
        values = np.where(np.isfinite(values), values, np.nan)
        # Data of one batch, and not of all so far, goes up and down.
        if not (np.diff(values[~np.isnan(values)]) < 0).any() or (ours == "data_seen" and not is_walk(values)):
            continue
        kept = np.flatnonzero(~find_superseded(values))
        known = np.maximum.accumulate(np.where(np.isnan(values[kept]), 0, np.arange(len(kept))))
        placed = np.where(np.isnan(values[kept][known]), -np.inf, values[kept][known])
        return kept[np.argsort(placed, kind="stable")]
    return np.arange(reader.num_rows)


def _plain(factors: Collection[Factor]) -> list[str]:
    return list(dict.fromkeys(factor.value for factor in factors if factor.is_plain_history()))


class _Reader:
    """Reads factors of one run as arrays over the picked rows `[n]`."""

    def __init__(
        self,
        scalars: Mapping[str, Any],
        history: Mapping[str, Values],
        picked: NDArray[np.int64],
        once: Mapping[tuple[str, str], float | None],
    ) -> None:
        self._scalars, self._history, self._picked, self._once = scalars, history, picked, once
        self.num_rows = len(picked)

    def product(
        self, expression: Expression, is_text: bool
    ) -> tuple[NDArray[Any], list[tuple[str, NDArray[np.bool_]]]]:
        """Returns values `[n]`, and where they are missing `[n]` by reason."""
        if is_text and len(expression.factors) == 1:
            texts, absent = self._text(expression.factors[0])
            return texts, [absent]
        product = np.ones(len(self._picked))
        reasons: list[tuple[str, NDArray[np.bool_]]] = []
        for factor in expression.factors:
            if factor.kind == "number":
                continue
            numbers, missing = self._numbers(factor)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                product = product / numbers if factor.divides else product * numbers
            reasons += missing
        for factor in expression.factors:  # last, so that 0.35*1e9 is the number that one would have typed
            if factor.kind == "number":
                product = scale(product, factor.value, divides=factor.divides)
        return (product.astype(str).astype(object) if is_text else product), reasons

    def _text(self, factor: Factor) -> tuple[NDArray[Any], tuple[str, NDArray[np.bool_]]]:
        rows = len(self._picked)
        if factor.kind != "name":
            return np.full(rows, factor.value, dtype=object), ("", np.zeros(rows, dtype=bool))
        if factor.is_history():
            held = self._history.get(factor.value)
            places = self._places(factor, held)
            source = [] if held is None else held.numbers.tolist() if held.texts is None else held.texts
            taken = [None if place < 0 else source[place] for place in places]
        else:
            taken = [self._scalars.get(factor.value)] * rows
        values = np.array([None if value is None else _show(value) for value in taken], dtype=object)
        return values, (f"{factor.value} is missing", np.array([value is None for value in taken]))

    def _numbers(self, factor: Factor) -> tuple[NDArray[np.float64], list[tuple[str, NDArray[np.bool_]]]]:
        rows = len(self._picked)
        if not factor.is_history():
            value = self._scalars.get(factor.value)
            key = (factor.function or "", factor.value)
            number = self._once[key] if key in self._once else read_plain(value)
            if number is not None:
                return np.full(rows, number), []
            why = (
                "is missing"
                if value is None
                else f"is no number such as {_show(value)[:40]!r}{_suggest(factor, value)}"
            )
            return np.full(rows, np.nan), [(f"{factor.value} {why}", np.ones(rows, dtype=bool))]
        held = self._history.get(factor.value)
        places = self._places(factor, held)
        absent = places < 0
        missing = [(f"{factor.value} is missing", absent)]
        if held is None:
            return np.full(rows, np.nan), missing
        if held.texts is None:
            return np.where(absent, np.nan, held.numbers[places]), missing
        taken = [None if place < 0 else held.texts[place] for place in places]
        if factor.function in ("count", "number"):
            column = read_column(taken, kind="count" if factor.function == "count" else "number")
            numbers, bad = column.values, column.bad
        else:
            plain = [read_plain(value) for value in taken]
            bad = np.array([number is None and value is not None for number, value in zip(plain, taken, strict=True)])
            numbers = np.array([np.nan if number is None else number for number in plain])
        if bad.any():
            first = next(value for value, is_bad in zip(taken, bad, strict=True) if is_bad)
            why = f"{factor.value} is no number such as {_show(first)[:40]!r}{_suggest(factor, first)}"
            missing.append((why, bad))
        return numbers, missing

    def _places(self, factor: Factor, held: Values | None) -> NDArray[np.int64]:
        """Returns the history's row that each picked row reads `[n]`; -1 where there is none."""
        if held is None:
            return np.full(len(self._picked), -1)
        if factor.function == "last":
            at = np.where(held.present, np.arange(len(held.present)), -1)
            return np.maximum.accumulate(at)[self._picked]
        return np.where(held.present[self._picked], self._picked, -1)


def _suggest(factor: Factor, value: Any) -> str:
    """Returns the function that reads a value which is no plain number."""
    if factor.function in ("count", "number"):
        return ""
    is_number = read_number(value) is not None and read_count(value) is None
    return f"; number({factor.value}) reads it" if is_number else f"; count({factor.value}) reads 7B"


@functools.lru_cache(maxsize=4096)
def _show_number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _show(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and abs(value) < 1e15:
        return _show_number(value)
    return json.dumps(value)
