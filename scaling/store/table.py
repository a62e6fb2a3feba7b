"""The table of a store in columns: the rows of its records, in the study's order, with labels and fields."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from scaling.specs.base import Json
from scaling.specs.data import count_unique
from scaling.store.attempts import LastStatus
from scaling.store.columns import CONTRACT, CONVENTION, TOTAL, order_columns
from scaling.store.outline import Outline

if TYPE_CHECKING:
    import pyarrow as pa


def make_columns(outline: Outline, rows: "pa.Table", *, all_fields: bool) -> "dict[str, pa.ChunkedArray]":
    """Returns the table's columns by name, in order; none where there are no rows.

    Args:
      outline: of the study.
      rows: of its cells, those of a cell together and in order.
      all_fields: whether fields that are the same in every cell are columns too.
    """
    import numpy as np
    import pyarrow as pa

    if not rows.num_rows:
        return {}
    labels, chosen, places = _place_rows(outline, rows)
    if not np.array_equal(chosen, np.arange(rows.num_rows)):
        rows = rows.take(pa.array(chosen))
    fields = outline.fields(all_fields=all_fields)
    names = fields.column_names
    measured = {name for name in rows.column_names if name in CONTRACT or rows.column(name).null_count < len(labels)}
    columns = order_columns([*CONTRACT, *(name for name in measured if name not in names)])
    if CONVENTION not in measured or _is_total(rows.column(CONVENTION)):
        columns = [name for name in columns if name not in (CONVENTION, TOTAL)]
    elif TOTAL in rows.column_names:
        columns = order_columns([*columns, TOTAL])
    given = {"study": pa.array([outline.name]).take(pa.array(np.zeros(len(labels), np.int64))), "label": labels}
    found = {}
    for name in columns:
        column = given.get(name)
        if column is None:
            column = rows.column(name) if name in rows.column_names else pa.nulls(len(labels))
        found[name] = column
    for name in names:
        found[name] = fields.column(name).take(pa.array(places))
    return {name: column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
            for name, column in found.items()}  # fmt: skip


def _place_rows(outline: Outline, rows: "pa.Table") -> "tuple[pa.Array, Any, Any]":
    """Returns the label of each row of the table, which row it is of those that were measured, and which cell's.

    A cell in several series has its rows once for each of them.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = list(outline.labels)
    place = pc.index_in(rows.column("cell"), value_set=pa.array(cells, pa.string())).to_numpy()
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=len(cells))
    first = np.cumsum(counts) - counts
    number = {label: number for number, label in enumerate(outline.series)}
    numbers = np.array([number[label] for each in outline.labels.values() for label in each], np.int64)
    owner = np.repeat(np.arange(len(cells)), [len(each) for each in outline.labels.values()])
    lengths = counts[owner]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chosen = order[np.repeat(first[owner], lengths) + within]
    labels = pa.array(outline.series, pa.string()).take(pa.array(np.repeat(numbers, lengths)))
    return labels, chosen, np.repeat(owner, lengths)


def _is_total(column: "pa.ChunkedArray") -> bool:
    """Returns whether all rows that say how N is counted count everything."""
    return set(column.unique().to_pylist()) <= {"total", None}


def unfinished_rows(statuses: Mapping[str, LastStatus], cells: Mapping[str, Json]) -> Iterator[Json]:
    """Yields a row without measurements for each cell that was tried, and has no record.

    Args:
      statuses: how cells were left, by fingerprint.
      cells: their specifications.
    """
    for cell, status in statuses.items():
        if status != "missing":
            spec = cells[cell]
            data = spec["data"]
            unique = count_unique(data["size"], data.get("duplication", 0.0))
            yield {
                "cell": cell,
                "family": spec["model"]["kind"],
                "seed": spec["seed"],
                "is_final": True,
                "status": "failed" if status == "failed" else "interrupted",
                "data_unique": unique * data["source"].get("sequence_length", 1),  # of tokens, where they are counted
            }
