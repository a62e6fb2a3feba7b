"""The store: a folder of one study's cells and records that survives being killed."""

import functools
import json
import logging
import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal

from etils import epath

from scaling.specs.base import InputError, Json, fingerprint_text
from scaling.store import attempts, gathering, listing
from scaling.store.arrays import join_tables, make_table, to_values
from scaling.store.files import is_local, one_line_errors, read_file, write_atomically
from scaling.store.gathering import Summary
from scaling.store.outline import Outline, cell_labels, parse_study, study_cells
from scaling.store.record import Record
from scaling.store.table import make_columns, unfinished_rows

if TYPE_CHECKING:
    import pyarrow as pa

CellStatus = Literal["ok", "diverged", "failed", "interrupted", "started", "missing"]


class Store:
    """A folder, local or on any `etils.epath` path, that holds one study's cells and records.

    Layout: `study.json`; `cells/<fingerprint>/` with `cell.json`, `curve.jsonl`, `attempts.jsonl` and, published last
    and atomically, `record.json`, which exists if and only if the cell is complete. A large one has a `snapshot/`,
    which only makes reading faster.
    """

    def __init__(self, path: epath.PathLike) -> None:
        self.path = epath.Path(path)
        if not is_local(self.path):
            import fsspec.config  # takes a tenth of a second

            # Others write there: gcsfs would go on showing a folder, and a file's size, as it first saw them.
            fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
            logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it raises what it would also print
        try:
            with one_line_errors(self.path, "reach"):
                self.path.exists()
        except ImportError as error:
            raise InputError(
                f"store {str(path)!r} needs a package that is not installed ({error}); for gs:// install scaling[gcs]"
            ) from None

    @classmethod
    def open(cls, path: epath.PathLike) -> "Store":
        """Returns the store at a path.

        Raises:
          InputError: there is no store.
        """
        store = cls(path)
        if not (store.path / "study.json").exists():
            raise InputError(f"store {str(path)!r} holds no study.json; give a folder that `scaling run` has written")
        return store

    # --- the study --------------------------------------------------------------------------------------------------

    def check(self, study_json: str) -> None:
        """Checks that the store is new, or holds this study or a part of it.

        Raises:
          InputError: the store belongs to another study, or holds cells that this study lacks.
          CorruptStoreError: what it holds cannot be read.
        """
        content = self._read_study()
        if content is None or content == f"{study_json}\n".encode():
            return
        study, held = json.loads(study_json), self.study
        if held["name"] != study["name"]:
            raise InputError(
                f"store {str(self.path)!r} belongs to study {held['name']!r}, not {study['name']!r}; "
                "choose another --store"
            )
        lost = set(cell_labels(held)) - set(cell_labels(study))
        if lost:
            raise InputError(
                f"store {str(self.path)!r} holds {len(lost)} cells that this version of study {study['name']!r} "
                "lacks; choose another --store, or add cells instead of changing them"
            )

    def create(self, study_json: str) -> None:
        """Writes a study into a new store, or into one that holds a part of it.

        Raises:
          InputError: the store belongs to another study, holds cells that this study lacks, or cannot be written.
        """
        self.check(study_json)
        text = study_json + "\n"
        if self._read_study() != text.encode():
            write_atomically(self.path / "study.json", text)
            self.__dict__.pop("study", None)
            self.__dict__.pop("outline", None)

    def _read_study(self) -> bytes | None:
        try:
            return read_file(self.path / "study.json")
        except FileNotFoundError:
            return None

    @functools.cached_property
    def study(self) -> Json:
        """The study as JSON: name, question, metric, fit and series of labelled cells."""
        path = self.path / "study.json"
        return parse_study(read_file(path), path)

    @functools.cached_property
    def outline(self) -> Outline:
        """The study's name, labels and cells, and their fields; without its specifications, of which there may be many.

        Raises:
          CorruptStoreError: the study cannot be read.
        """
        return Outline(self.path, read_file(self.path / "study.json"))

    # --- cells ------------------------------------------------------------------------------------------------------

    def cell_path(self, cell: str) -> epath.Path:
        """Returns the folder of a cell, by fingerprint."""
        return self.path / "cells" / cell

    def write_cell(self, cell_json: str) -> None:
        """Writes a cell's canonical JSON under its fingerprint, unless it is there."""
        path = self.cell_path(fingerprint_text(cell_json)) / "cell.json"
        if not path.exists():
            write_atomically(path, cell_json)

    def write_cells(self, cells: Iterable[str]) -> None:
        """Writes the canonical JSON of cells under their fingerprints, of those that are not there."""
        texts = {fingerprint_text(cell): cell for cell in cells}
        there = self.find_cells("cell.json", texts)
        absent = {cell: text for cell, text in texts.items() if cell not in there}
        listing.write_files(self.path / "cells", "cell.json", absent)

    def find_cells(self, name: str, cells: Collection[str]) -> set[str]:
        """Returns which of some cells have a file, by its name below their folders, without asking for each."""
        return set(listing.find_files(self.path / "cells", name, cells))

    def publish(self, record: Record) -> None:
        """Makes a cell complete: its record appears whole or not at all, and a present one is left as it is."""
        path = self.cell_path(record.cell) / "record.json"
        if not path.exists():
            write_atomically(path, record.canonical_json() + "\n")

    def is_complete(self, cell: str) -> bool:
        """Returns whether a cell has its record."""
        return (self.cell_path(cell) / "record.json").exists()

    def read_record(self, cell: str) -> Record | None:
        """Returns a cell's record, or None while it has none.

        Raises:
          CorruptStoreError: the file does not hold a valid record of this cell.
        """
        path = self.cell_path(cell) / "record.json"
        return gathering.read_record(os.fspath(self.path / "cells"), cell, path.read_bytes()) if path.exists() else None

    def records(self) -> dict[str, Record]:
        """Returns the records of the study's complete cells, by fingerprint, in the study's order.

        Raises:
          CorruptStoreError: one cannot be read.
        """
        return gathering.gather_records(self.path, self.outline.labels)

    def summaries(self, cells: Collection[str] | None = None) -> dict[str, Summary]:
        """Returns how complete cells ended, and what they took, by fingerprint.

        Args:
          cells: among which; the study's by default, in its order.

        Raises:
          CorruptStoreError: a record cannot be read.
        """
        return gathering.gather_summaries(self.path, self.outline.labels if cells is None else cells)

    def last_statuses(self, cells: Collection[str]) -> dict[str, attempts.LastStatus]:
        """Returns how each of some cells without records was left, without asking for each."""
        return attempts.last_statuses(self.path / "cells", cells)

    def cell_status(self, cell: str) -> CellStatus:
        """Returns where a cell stands; `started` is running or was killed, which only its engine can tell apart."""
        record = self.read_record(cell)
        return record.status if record is not None else attempts.last_status(self.cell_path(cell))

    # --- the table --------------------------------------------------------------------------------------------------

    def rows(self, *, all_fields: bool = False) -> list[Json]:
        """Returns one flat row per evaluation of every cell that was tried, in the contract's columns and order.

        Each field of the cells' specifications that varies among the study's cells is a column under its path, after
        those of the contract; with `all_fields`, the others are too. A cell in several series has a row for each label.
        A cell without a record but with attempts has one row with status `failed` or `interrupted` and no measurements.
        Where some model counts N in another way than the total, all rows say how they count it, and the total.
        """
        columns = self.columns(all_fields=all_fields)
        values = [to_values(column) for column in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]

    def columns(self, *, all_fields: bool = False) -> "dict[str, pa.ChunkedArray]":
        """Returns the columns of the table that `rows` returns, as `scaling.store.arrays` has them.

        Raises:
          CorruptStoreError: a record, or the study, cannot be read.
        """
        outline = self.outline
        rows = gathering.gather_rows(self.path, outline.labels)
        complete = set(rows.column("cell").unique().to_pylist()) if rows.num_rows else set()
        left = self.last_statuses([cell for cell in outline.labels if cell not in complete])
        if set(left.values()) - {"missing"}:
            rows = join_tables([rows, make_table(list(unfinished_rows(left, study_cells(self.study))))])
        return make_columns(outline, rows, all_fields=all_fields)

    def fields(self, *, all_fields: bool = False) -> dict[str, Json]:
        """Returns the fields of each cell's specification that vary among the study's cells, by fingerprint and path.

        Args:
          all_fields: whether the fields that are the same in every cell are there too.
        """
        fields = self.outline.fields(all_fields=all_fields)
        values = [to_values(column) for column in fields.columns]
        rows = zip(*values, strict=True) if values else ((),) * len(self.outline.labels)
        return {cell: dict(zip(fields.column_names, row, strict=True))
                for cell, row in zip(self.outline.labels, rows, strict=True)}  # fmt: skip
