"""The records of many cells: from the snapshot where a record's file is as it was, and else from the files."""

import collections
import os
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from etils import epath

from scaling.specs.base import InputError, Json, parse
from scaling.specs.collection import paused_collection
from scaling.store.arrays import join_tables, make_table
from scaling.store.listing import TOGETHER, find_files, read_files
from scaling.store.record import CorruptStoreError, Record
from scaling.store.rows import record_rows
from scaling.store.snapshot import is_worth_it, read_snapshot, write_snapshot

if TYPE_CHECKING:
    import pyarrow as pa

CELLS, FILE = "cells", "record.json"
# Of the rows of a snapshot, beside the table's columns: the signature of the record's file, and what the file holds.
SIGNATURE, TEXT = "/signature", "/text"


class Summary(NamedTuple):
    """What is told of a complete cell without its evaluations, as its record has it."""

    status: Literal["ok", "diverged"]
    wall_seconds: float
    device_kind: str
    num_devices: int


def read_record(folder: str, cell: str, content: str | bytes) -> Record:
    """Returns the record that a cell's file holds.

    Args:
      folder: of all cells.
      cell: its fingerprint.
      content: of the file.

    Raises:
      CorruptStoreError: it is no valid record of this cell.
    """
    path = f"{folder}/{cell}/{FILE}"
    try:
        record = parse(Record, content, path)
    except InputError as error:
        raise CorruptStoreError(f"corrupt record: {error}; delete that file to train the cell again") from None
    if record.cell != cell:
        raise CorruptStoreError(f"{path} is the record of cell {record.cell}; delete it to train {cell} again")
    return record


def gather_summaries(store: epath.Path, cells: Collection[str]) -> dict[str, Summary]:
    """Returns what is told of the complete ones among some cells, in their order.

    Raises:
      CorruptStoreError: a record cannot be read.
    """
    signatures = find_files(store / CELLS, FILE, cells)
    kept = _read_snapshot(store, len(signatures), columns=["cell", "is_final", SIGNATURE, *Summary._fields])
    known: dict[str, Summary] = {}
    if kept is not None:
        final = kept.filter(kept.column("is_final"))
        columns = [final.column(name).to_pylist() for name in ("cell", SIGNATURE, *Summary._fields)]
        known = {
            cell: Summary(*facts)
            for cell, signature, *facts in zip(*columns, strict=True)
            if signatures.get(cell) == signature
        }
    new = _Reader(store, signatures, known)
    for cell, record in new:
        known[cell] = Summary(*(getattr(record, name) for name in Summary._fields))
    new.keep()
    if list(known) == list(signatures):  # as it is where nothing has changed
        return known
    return {cell: known[cell] for cell in signatures if cell in known}


def gather_records(store: epath.Path, cells: Collection[str]) -> dict[str, Record]:
    """Returns the records of the complete ones among some cells, in their order.

    Raises:
      CorruptStoreError: a record cannot be read.
    """
    signatures = find_files(store / CELLS, FILE, cells)
    kept = _still_good(_read_snapshot(store, len(signatures), columns=["cell", SIGNATURE, TEXT]), signatures)
    known: dict[str, Record] = {}
    folder = os.fspath(store / CELLS)
    if kept is not None:
        for cell, content in zip(kept.column("cell").to_pylist(), kept.column(TEXT).to_pylist(), strict=True):
            if content is not None:
                known[cell] = read_record(folder, cell, content)
    new = _Reader(store, signatures, known)
    known |= dict(new)
    new.keep()
    return {cell: known[cell] for cell in signatures if cell in known}


def gather_rows(store: epath.Path, cells: Collection[str]) -> "pa.Table":
    """Returns the rows of the complete ones among some cells, those of one cell together and in order.

    Raises:
      CorruptStoreError: a record cannot be read.
    """
    signatures = find_files(store / CELLS, FILE, cells)
    kept = _still_good(_read_snapshot(store, len(signatures), without=[TEXT]), signatures)
    new = _Reader(store, signatures, _cells_of(kept), has_rows=True)
    collections.deque(new, maxlen=0)
    new.keep()
    rows = new.rows if kept is None else join_tables([kept, new.rows])
    return rows.drop_columns([name for name in (SIGNATURE, TEXT) if name in rows.column_names])


class _Reader:
    """Records that the snapshot lacks, as they are read from their files, and their rows where these are wanted.

    Args:
      store: the store's folder.
      signatures: of the files of all records, by cell.
      known: cells whose records are known.
      has_rows: whether rows are wanted although they would not be kept.
    """

    def __init__(
        self, store: epath.Path, signatures: Mapping[str, str], known: Collection[str], has_rows: bool = False
    ) -> None:
        self._store, self._signatures = store, signatures
        self._new = [cell for cell in signatures if cell not in known]
        self._is_kept = is_worth_it(store, len(self._new), len(signatures))
        self._has_rows = has_rows or self._is_kept
        self._parts: list[pa.Table] = []

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        waiting: list[Json] = []
        folder = os.fspath(self._store / CELLS)
        with paused_collection():
            for number, (cell, content) in enumerate(read_files(self._store / CELLS, FILE, self._new), 1):
                record = read_record(folder, cell, content)
                if self._has_rows:
                    waiting += self._rows_of(record, content)
                    if number % TOGETHER == 0:
                        self._parts.append(make_table(waiting))
                        waiting = []
                yield cell, record
            if waiting:
                self._parts.append(make_table(waiting))

    def _rows_of(self, record: Record, content: bytes) -> list[Json]:
        rows = list(record_rows(record))
        if self._is_kept:
            for row in rows:
                row[SIGNATURE] = self._signatures[record.cell]
            rows[-1][TEXT] = content
        return rows

    @property
    def rows(self) -> "pa.Table":
        """What was read, as rows; their signatures and texts with them, where they were kept."""
        return join_tables(self._parts)

    def keep(self) -> None:
        """Writes a snapshot where so much was new that it is worth one; after the last record."""
        if not self._is_kept:
            return
        old = _still_good(read_snapshot(self._store, "records"), self._signatures)
        read = self.rows
        if old is not None:
            news = set(_cells_of(read))
            old = old.filter(_is_among(old.column("cell"), [cell for cell in _cells_of(old) if cell not in news]))
        write_snapshot(self._store, "records", join_tables([read] if old is None else [old, read]))


def _cells_of(rows: "pa.Table | None") -> set[str]:
    return set() if rows is None or not rows.num_rows else set(rows.column("cell").unique().to_pylist())


def _read_snapshot(
    store: epath.Path, num_records: int, columns: Collection[str] | None = None, without: Collection[str] = ()
) -> "pa.Table | None":
    """Returns columns of the snapshot; None also where a store of so few records is not looked at for one."""
    return read_snapshot(store, "records", columns, without) if is_worth_it(store, num_records, num_records) else None


def _still_good(rows: "pa.Table | None", signatures: Mapping[str, str]) -> "pa.Table | None":
    """Returns the rows whose records' files are as they were."""
    if rows is None:
        return None
    import pyarrow.compute as pc

    signed = pc.binary_join_element_wise(rows.column("cell"), rows.column(SIGNATURE), " ")
    good = _is_among(signed, [f"{cell} {signature}" for cell, signature in signatures.items()])
    return rows if pc.all(good).as_py() else rows.filter(good)


def _is_among(values: "pa.ChunkedArray", wanted: list[str]) -> "pa.ChunkedArray":
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(values, value_set=pa.array(wanted, pa.string()))
