"""The rows that one raw run gives under a mapping: values by column, and how many rows were dropped and why."""

import functools
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.tables.expressions import Expression, Factor
from launch.imports.histories import NOT_FINITE, Values
from launch.imports.raw import RawFolder, RawRun
from scaling.specs.base import InputError, suggest

TEXTS = frozenset({"study", "cell", "family", "label", "status", "trunk", "data_unit", "device_kind"})
SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def read_number(value: Any) -> float | None:
    """Returns the number that a value is or plainly says, else None; trackers keep many numbers as text.

    >>> read_number("1e-3"), read_number(True), read_number("124M")
    (0.001, 1.0, None)
    """
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        return NOT_FINITE[value] if value in NOT_FINITE else float(value)
    except ValueError:
        return None


def read_count(value: Any) -> float | None:
    """Returns the number that a value is or says with a scale: 124M, 1.5B, 10k, 300,000; else None.

    >>> read_count("124M"), read_count("1.5B params"), read_count("300,000")
    (124000000.0, None, 300000.0)
    """
    if not isinstance(value, str):
        return read_number(value)
    text = value.strip().replace(",", "").replace("_", "")
    scale = SCALES.get(text[-1:].lower())
    number = read_number(text[:-1].strip() if scale else text)
    return None if number is None else number * (scale or 1.0)


class RunRows:
    """What a run gives: `columns` of equal length, and rows left out by reason."""

    def __init__(self, columns: dict[str, NDArray[Any]], dropped: dict[str, int]) -> None:
        self.columns, self.dropped = columns, dropped

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.columns["cell"])

    def set_status(self, statuses: Mapping[str, str]) -> None:
        """Translates how the run stands to our words; a complete run whose last loss is no finite number diverged.

        Raises:
          InputError: the word is unknown.
        """
        theirs = self.columns["status"][-1]
        ours = None if theirs is None else statuses.get(str(theirs).lower())
        if theirs is not None and ours is None:
            raise InputError(
                f"run {self.columns['cell'][0]}: state {str(theirs)!r} is unknown; {suggest(str(theirs), statuses)} "
                "Else say what it means under statuses in mapping.json"
            )
        loss = self.columns.get("loss")
        if ours == "ok" and loss is not None and self.columns["is_final"][-1] and not np.isfinite(loss[-1]):
            ours = "diverged"
        self.columns["status"] = np.full(self.num_rows, ours, dtype=object)


def build_rows(
    folder: RawFolder, run: RawRun, expressions: Mapping[str, Expression], optional: Collection[str]
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
    reader = _Reader(run.scalars(), history, picked)
    columns: dict[str, NDArray[Any]] = {}
    keep, dropped = np.ones(len(picked), dtype=bool), dict[str, int]()
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
    if "status" not in columns:
        columns["status"] = np.full(len(picked), run.state, dtype=object)
    return RunRows({ours: values[keep] for ours, values in columns.items()}, dropped)


def _plain(factors: Collection[Factor]) -> list[str]:
    return list(dict.fromkeys(factor.value for factor in factors if factor.is_plain_history()))


class _Reader:
    """Reads factors of one run as arrays over the picked rows `[n]`."""

    def __init__(self, scalars: Mapping[str, Any], history: Mapping[str, Values], picked: NDArray[np.int64]) -> None:
        self._scalars, self._history, self._picked = scalars, history, picked

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
            numbers, missing = self._numbers(factor)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                product = product / numbers if factor.divides else product * numbers
            reasons += missing
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
        read: Callable[[Any], float | None] = read_count if factor.function == "count" else read_number
        remedy = "" if factor.function == "count" else f"; count({factor.value}) reads 7B"
        if factor.kind == "number":
            return np.full(rows, float(factor.value)), []
        if not factor.is_history():
            value = self._scalars.get(factor.value)
            number = None if value is None else read(value)
            if number is not None:
                return np.full(rows, number), []
            why = "is missing" if value is None else f"is no number such as {_show(value)[:40]!r}{remedy}"
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
        numbers = [None if value is None else read(value) for value in taken]
        bad = np.array([number is None and value is not None for number, value in zip(numbers, taken, strict=True)])
        if bad.any():
            example = _show(next(value for value, is_bad in zip(taken, bad, strict=True) if is_bad))[:40]
            missing.append((f"{factor.value} is no number such as {example!r}{remedy}", bad))
        return np.array([np.nan if number is None else number for number in numbers]), missing

    def _places(self, factor: Factor, held: Values | None) -> NDArray[np.int64]:
        """Returns the history's row that each picked row reads `[n]`; -1 where there is none."""
        if held is None:
            return np.full(len(self._picked), -1)
        if factor.function == "last":
            at = np.where(held.present, np.arange(len(held.present)), -1)
            return np.maximum.accumulate(at)[self._picked]
        return np.where(held.present[self._picked], self._picked, -1)


@functools.lru_cache(maxsize=4096)
def _show_number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _show(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and abs(value) < 1e15:
        return _show_number(value)
    return json.dumps(value)
