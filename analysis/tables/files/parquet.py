"""Tables in Parquet: nested values under dotted names, and an index of names as the column that it was."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pandas as pd

from analysis.tables.files.content import NAME_IT, BrokenError, first_line, hint
from analysis.tables.files.headers import name_columns
from analysis.tables.files.values import finish_columns
from analysis.tables.words import list_names

if TYPE_CHECKING:
    import pyarrow as pa


def flatten_structs(table: pa.Table) -> pa.Table:
    """Returns the table with a column of a dotted name for each field of a struct."""
    import pyarrow as pa

    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def read_parquet(content: bytes) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the table of a Parquet file, and sentences of what was changed.

    Raises:
      BrokenError: if it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        frame = flatten_structs(pq.read_table(io.BytesIO(content))).to_pandas()
    except (ValueError, OSError, TypeError, KeyError, NotImplementedError, pa.ArrowException) as error:
        kind = hint(content, ".parquet")
        raise BrokenError(f"{first_line(error)}{kind}", NAME_IT if kind else "write it again") from None
    said = []
    if not isinstance(frame.index, pd.RangeIndex):
        kept = [str(name) for name in frame.index.names if name is not None and name not in frame.columns]
        if kept:
            said.append(f"the index is read as columns: {list_names(kept)}")
        drop = [level for level, name in enumerate(frame.index.names) if str(name) not in kept]
        frame = frame.reset_index(level=drop, drop=True) if len(drop) < frame.index.nlevels else frame
        frame = frame.reset_index(drop=not kept)
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
    frame.columns = pd.RangeIndex(len(names))
    frame, converted = finish_columns(frame, texts_are_numbers=False)
    if converted:
        said.append(
            f"numbers among texts are read as numbers: {list_names([names[int(place)] for place in converted])}"
        )
    frame, renamed = name_columns(frame, names)
    return frame, (*said, *renamed)
