"""The history of one run as a table of columns: numbers as doubles, all else as JSON text, kept in one Parquet file."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.tables.files.json_files import flatten

if TYPE_CHECKING:
    import pyarrow as pa

# How JSON of trackers writes numbers that are not finite.
NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
# The share of a metric's points that must fit the steps of another one, for both to count the same steps.
SAME_SCALE = 0.9
# Part of a run's version: when histories are read in another way, runs that are here already are fetched again.
READING = "2"


def encode(value: Any) -> Any:
    """Returns a value as JSON can hold it: numbers that are not finite become text, unknown objects their text."""
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [encode(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy
        return encode(value.tolist())
    if isinstance(value, float):
        if value != value:
            return "NaN"
        return value if abs(value) != float("inf") else ("Infinity" if value > 0 else "-Infinity")
    return str(value)


class _Column:
    """One sparse column: where it has values, the numbers, and what is no number by position."""

    def __init__(self) -> None:
        self.rows, self.numbers, self.others = array("q"), array("d"), dict[int, Any]()

    def add(self, row: int, value: Any) -> None:
        if isinstance(value, str):
            value = NOT_FINITE.get(value, value)
        is_number = isinstance(value, int | float)
        if not is_number:
            self.others[len(self.rows)] = value
        self.rows.append(row)
        self.numbers.append(value if is_number else float("nan"))

    def build(self, num_rows: int) -> "pa.Array":
        import pyarrow as pa

        rows = np.frombuffer(self.rows, dtype=np.int64)
        if self.others:
            texts = np.full(num_rows, None, dtype=object)
            for position, (row, number) in enumerate(zip(self.rows, self.numbers, strict=True)):
                texts[row] = json.dumps(encode(self.others.get(position, number)))
            return pa.array(texts, type=pa.string())
        values, missing = np.zeros(num_rows), np.ones(num_rows, dtype=bool)
        values[rows], missing[rows] = np.frombuffer(self.numbers, dtype=np.float64), False
        return pa.array(values, mask=missing)


class HistoryBuilder:
    """Collects rows, in their order, into a columnar table; sparse columns cost only what they hold."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._columns: dict[str, _Column] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a row; nested values get dotted names, and what is None is missing."""
        for name, value in flatten(row):
            if value is not None:
                column = self._columns.get(name)
                if column is None:
                    column = self._columns[name] = _Column()
                column.add(self.num_rows, value)
        self.num_rows += 1

    def build(self) -> "pa.Table":
        """Returns the rows as a table of doubles and JSON texts with nulls where a row has no value."""
        import pyarrow as pa

        return pa.table({name: column.build(self.num_rows) for name, column in self._columns.items()})


def build_history(rows: Iterable[Mapping[str, Any]]) -> "pa.Table":
    """Returns rows as a history table."""
    builder = HistoryBuilder()
    for row in rows:
        builder.add(row)
    return builder.build()


def count_values(table: "pa.Table") -> dict[str, int]:
    """Returns how many values each column has."""
    return {name: table.num_rows - table[name].null_count for name in table.column_names}


class Values:
    """Values of a history's column: numbers `[n]`, NaN where there is none, and where there is a value at all `[n]`."""

    def __init__(self, numbers: NDArray[np.float64], present: NDArray[np.bool_], texts: list[Any] | None) -> None:
        self.numbers, self.present, self.texts = numbers, present, texts


def read_history(path: Path, names: Sequence[str]) -> dict[str, Values]:
    """Returns columns of a history file by name; names that the file lacks are left out."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    found = [name for name in dict.fromkeys(names) if name in file.schema_arrow.names]
    if not found:
        return {}
    table = file.read(columns=found)
    return {name: _read_values(table[name]) for name in found}


def _read_values(column: "pa.ChunkedArray") -> Values:
    import pyarrow as pa

    present = ~column.is_null().to_numpy()
    if pa.types.is_floating(column.type):
        return Values(column.fill_null(float("nan")).to_numpy(), present, None)
    texts = [None if text is None else json.loads(text) for text in column.to_pylist()]
    numbers = [value if isinstance(value, int | float) else NOT_FINITE.get(str(value), np.nan) for value in texts]
    return Values(np.array(numbers, dtype=np.float64), present, texts)


class _Points:
    """The points of one metric in the order of their logging, and which `part` of the run's log each is in."""

    def __init__(self) -> None:
        self.orders, self.steps, self.parts = array("q"), array("q"), array("q")
        self.times, self.values = array("d"), array("d")


class _Table:
    """All points of all metrics in the order of logging, as arrays `[n]`."""

    def __init__(self, metrics: Sequence[_Points]) -> None:
        def join(name: str, kind: Any) -> NDArray[Any]:
            return np.concatenate([np.frombuffer(getattr(points, name), dtype=kind) for points in metrics])

        codes = np.repeat(np.arange(len(metrics)), [len(points.steps) for points in metrics])
        held = {"orders": np.int64, "steps": np.int64, "parts": np.int64, "times": np.float64, "values": np.float64}
        joined = {name: join(name, kind) for name, kind in held.items()}
        # Between files that are written at once only the clock tells the order; where it went back, only the files do.
        inner = codes[1:] == codes[:-1]
        self.is_clocked = not (inner & (np.diff(joined["times"]) < 0)).any()
        order = np.lexsort((joined["orders"], joined["times"])) if self.is_clocked else np.argsort(joined["orders"])
        self.codes = codes[order]
        self.orders, self.steps, self.parts = (joined[name][order] for name in ("orders", "steps", "parts"))
        self.times, self.values = joined["times"][order], joined["values"][order]


class Pivot:
    """Collects single points of metrics into rows by step, and leaves out what a restart superseded."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Points] = {}
        self._count, self._part = 0, 0
        self._purges: list[tuple[int, int]] = []
        self._settled: tuple[_Table, NDArray[np.int64], int, int] | None = None

    def add(self, name: str, step: int, seconds: float, value: float) -> None:
        """Adds a point, in the order of its logging; `seconds` is its time since the epoch."""
        points = self._metrics.get(name)
        if points is None:
            points = self._metrics[name] = _Points()
        points.orders.append(self._count)
        points.steps.append(step)
        points.parts.append(self._part)
        points.times.append(seconds)
        points.values.append(value)
        self._count += 1

    def begin_part(self) -> None:
        """Begins another part of the log: a metric that begins in it at or below what it had reached was restarted."""
        self._part += 1

    def purge(self, step: int) -> None:
        """Supersedes what was added so far at this step or later, of all metrics, as the log itself says."""
        self._purges.append((self._count, step))

    def _settle(self) -> tuple[_Table, NDArray[np.int64], int, int]:
        """Returns the points, which of them stay, and how many were logged again or left out by a restart."""
        if self._settled is None:
            from analysis.tables.order import find_superseded

            table = _Table(list(self._metrics.values()))
            dead = np.zeros(len(table.steps), dtype=bool)
            for before, step in self._purges:
                dead |= (table.orders < before) & (table.steps >= step)
            for codes in _group_scales(table):
                rows = np.flatnonzero(np.isin(table.codes, codes) & ~dead)
                begins = _find_begins(table, rows)
                dead[rows] = find_superseded(table.steps[rows].astype(np.float64), table.codes[rows], begins)
            alive = np.flatnonzero(~dead)
            by_point = np.lexsort((alive, table.steps[alive], table.codes[alive]))
            sorted_codes, sorted_steps = table.codes[alive][by_point], table.steps[alive][by_point]
            is_last = np.ones(len(alive), dtype=bool)
            is_last[:-1] = (sorted_codes[1:] != sorted_codes[:-1]) | (sorted_steps[1:] != sorted_steps[:-1])
            kept = alive[by_point][is_last]
            lost = list(zip(table.codes[dead].tolist(), table.steps[dead].tolist(), strict=True))
            held = set(zip(table.codes[kept].tolist(), table.steps[kept].tolist(), strict=True)) if lost else set()
            again = sum(point in held for point in lost)
            self._settled = table, kept, again + len(alive) - len(kept), len(lost) - again
        return self._settled

    def notices(self) -> tuple[str, ...]:
        """Returns what a person should know."""
        if not self._count:
            return ()
        _, _, again, abandoned = self._settle()
        found = []
        if again:
            found.append(f"{again} values were logged again at the same step; the later ones are kept")
        if abandoned:
            found.append(
                f"{abandoned} values of an abandoned attempt, at or after the step of a restart, are superseded and "
                "left out"
            )
        return tuple(found)

    def last(self) -> dict[str, float]:
        """Returns each metric's value where it ended."""
        if not self._count:
            return {}
        table, kept, _, _ = self._settle()
        names = list(self._metrics)  # in a metric the largest step comes last
        return {names[code]: float(table.values[row]) for code, row in zip(table.codes[kept], kept, strict=True)}

    def build(self) -> "pa.Table | None":
        """Returns the rows by step, with `_step`, `_timestamp` and `_runtime`; None where there are none."""
        import pyarrow as pa

        if not self._count:
            return None
        table, kept, _, _ = self._settle()
        if not len(kept):  # purged, and killed before the next point
            return None
        steps, places = np.unique(table.steps[kept], return_inverse=True)
        times = np.full(len(steps), -np.inf)
        np.maximum.at(times, places, table.times[kept])
        columns: dict[str, Any] = {"_step": pa.array(steps.astype(np.float64))}
        columns["_timestamp"], columns["_runtime"] = pa.array(times), pa.array(times - times.min())
        for code, name in enumerate(self._metrics):
            mine = table.codes[kept] == code
            if mine.any():
                values, missing = np.zeros(len(steps)), np.ones(len(steps), dtype=bool)
                values[places[mine]], missing[places[mine]] = table.values[kept[mine]], False
                columns[name] = pa.array(values, mask=missing)
        return pa.table(columns)


def _group_scales(table: _Table) -> list[list[int]]:
    """Returns metrics in groups that count the same steps: a point was logged while the largest one stood there.

    Epochs beside steps, or a test at step 0, are groups of their own, which no restart of another disturbs. So is
    each metric where the clock does not tell what was logged before what, as of two writers of one metric at once.
    """
    if not table.is_clocked:
        return [[code] for code in np.unique(table.codes).tolist()]
    rows = {int(code): np.flatnonzero(table.codes == code) for code in np.unique(table.codes)}
    left = sorted(rows, key=lambda code: -len(rows[code]))
    groups = []
    while left:
        base = rows[left[0]]
        steps = np.concatenate([[-np.inf], table.steps[base], [np.inf]])
        group = [left[0]]
        for code in left[1:]:
            place = np.searchsorted(base, rows[code])
            before, after = steps[place], steps[place + 1]
            mine = table.steps[rows[code]]
            stood = (mine >= np.minimum(before, after)) & (mine <= np.maximum(before, after))
            if stood.mean() >= SAME_SCALE:
                group.append(code)
        groups.append(group)
        left = [code for code in left if code not in group]
    return groups


def _find_begins(table: _Table, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns which rows are a metric's first in a part of the log that is not the first part with it `[n]`."""
    begins = np.zeros(len(rows), dtype=bool)
    for code in np.unique(table.codes[rows]):
        mine = np.flatnonzero(table.codes[rows] == code)
        begins[mine[np.flatnonzero(np.diff(table.parts[rows[mine]])) + 1]] = True
    return begins
