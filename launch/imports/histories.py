"""The history of one run as a table of columns: numbers as doubles, all else as JSON text, kept in one Parquet file."""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

# How JSON of trackers writes numbers that are not finite.
NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields nested values under dotted names; lists and None stay what they are.

    >>> dict(flatten({"model": {"depth": 2, "sizes": [1, 2]}, "lr": 0.1}))
    {'model.depth': 2, 'model.sizes': [1, 2], 'lr': 0.1}
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


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


class Pivot:
    """Collects single points of metrics into rows by step; a step that is logged again replaces what was there."""

    def __init__(self) -> None:
        self.replaced = 0
        self._rows: dict[int, dict[str, float]] = {}
        self._times: dict[int, float] = {}

    def add(self, name: str, step: int, seconds: float, value: float) -> None:
        """Adds a point, in the order of its logging; `seconds` is its time since the epoch."""
        row = self._rows.get(step)
        if row is None:
            row = self._rows[step] = {}
        self.replaced += name in row
        row[name] = value
        self._times[step] = seconds

    def notices(self) -> tuple[str, ...]:
        """Returns what a person should know."""
        if not self.replaced:
            return ()
        return (f"{self.replaced} values were logged again at the same step; the later ones are kept",)

    def last(self) -> dict[str, float]:
        """Returns each metric's value at its last step."""
        return {name: value for _, row in sorted(self._rows.items()) for name, value in row.items()}

    def build(self) -> "pa.Table | None":
        """Returns the rows by step, with `_step`, `_timestamp` and `_runtime`; None where there are none."""
        if not self._rows:
            return None
        began = min(self._times.values())
        return build_history(
            {"_step": step, "_timestamp": self._times[step], "_runtime": self._times[step] - began, **row}
            for step, row in sorted(self._rows.items())
        )
