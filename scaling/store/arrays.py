"""Values of a table's column as Arrow arrays that give back exactly the Python values that they were made of.

A column has one kind of value, integers, numbers, words or truths, beside missing ones. Where the values are of
several kinds (or integers of more than 64 bits), each is kept as its JSON text, which the type `large_string` marks.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scaling.specs.base import Json

if TYPE_CHECKING:
    import pyarrow as pa


def to_array(values: Sequence[Any]) -> "pa.Array":
    """Returns the values as an array."""
    import pyarrow as pa

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), bytes: pa.large_binary()}
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    if len(kinds) == 1 and (kind := kinds.pop()) in types:
        try:
            return pa.array(values, types[kind])
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.large_string())


def to_values(column: "pa.Array | pa.ChunkedArray") -> list[Any]:
    """Returns the values that an array was made of."""
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if column.type != pa.large_string():
        return values
    return [None if value is None else json.loads(value) for value in values]


def is_mixed(column: "pa.Array | pa.ChunkedArray") -> bool:
    """Returns whether the values of an array are of several kinds, so that it has their JSON."""
    import pyarrow as pa

    return bool(column.type == pa.large_string())


def make_table(rows: Sequence[Json]) -> "pa.Table":
    """Returns rows as a table, whose columns are the names in the order in which they first appear."""
    import pyarrow as pa

    names = dict.fromkeys(name for keys in dict.fromkeys(map(tuple, rows)) for name in keys)
    columns = zip(*[(names | row).values() for row in rows], strict=True)  # a row has None where it has no such name
    return pa.table(dict(zip(names, map(to_array, columns), strict=True)))


def join_tables(tables: Iterable["pa.Table"]) -> "pa.Table":
    """Returns the rows of tables one after another; a column that one lacks has no values there."""
    import pyarrow as pa

    parts = [table for table in tables if table.num_rows]
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part.column_names)
    types: dict[str, Any] = {}
    for name in names:
        kinds = {part.schema.field(name).type for part in parts if name in part.column_names} - {pa.null()}
        types[name] = pa.null() if not kinds else kinds.pop() if len(kinds) == 1 else pa.large_string()

    def column(part: "pa.Table", name: str) -> list["pa.Array"]:
        kind = types[name]
        if name not in part.column_names:
            return [pa.nulls(part.num_rows, kind)]
        found = part.column(name)
        if found.type == kind:
            return list(found.chunks)
        if found.type == pa.null():
            return [pa.nulls(part.num_rows, kind)]
        return [pa.array([None if value is None else json.dumps(value) for value in to_values(found)], kind)]

    return pa.table(
        {name: pa.chunked_array([c for part in parts for c in column(part, name)], types[name]) for name in names}
    )
