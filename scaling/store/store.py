"""The store: a folder of one study's cells and records that survives being killed."""

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import fsspec.config
from etils import epath

from scaling.specs.base import InputError, Json, canonical_json, fingerprint_text, parse
from scaling.specs.data import count_unique
from scaling.specs.fields import find_varying, flatten_cell, to_columns
from scaling.store import attempts
from scaling.store.columns import CONTRACT, CONVENTION, TOTAL, order_columns
from scaling.store.files import is_local, one_line_errors, write_atomically
from scaling.store.record import Record
from scaling.store.rows import record_rows

CellStatus = Literal["ok", "diverged", "failed", "interrupted", "started", "missing"]


class CorruptStoreError(ValueError):
    """A file of the store does not say what it should; the message names the file and the remedy."""


class Store:
    """A folder, local or on any `etils.epath` path, that holds one study's cells and records.

    Layout: `study.json`; `cells/<fingerprint>/` with `cell.json`, `curve.jsonl`, `attempts.jsonl` and, published last
    and atomically, `record.json`, which exists if and only if the cell is complete.
    """

    def __init__(self, path: epath.PathLike) -> None:
        self.path = epath.Path(path)
        if not is_local(self.path):
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
        if not (self.path / "study.json").exists():
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
        path, text = self.path / "study.json", study_json + "\n"
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text)
            self.__dict__.pop("study", None)

    @functools.cached_property
    def study(self) -> Json:
        """The study as JSON: name, question, metric, fit and series of labelled cells."""
        path = self.path / "study.json"
        try:
            study: Json = json.loads(path.read_text())
            study["name"], study["metric"], study["fit"], cell_labels(study)
        except (ValueError, KeyError, TypeError):
            raise CorruptStoreError(f"{path} is corrupt; restore it, or run the study into another --store") from None
        return study

    # --- cells ------------------------------------------------------------------------------------------------------

    def cell_path(self, cell: str) -> epath.Path:
        """Returns the folder of a cell, by fingerprint."""
        return self.path / "cells" / cell

    def write_cell(self, cell_json: str) -> None:
        """Writes a cell's canonical JSON under its fingerprint, unless it is there."""
        path = self.cell_path(fingerprint_text(cell_json)) / "cell.json"
        if not path.exists():
            write_atomically(path, cell_json)

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
        if not path.exists():
            return None
        try:
            record = parse(Record, path.read_text(), str(path))
        except InputError as error:
            raise CorruptStoreError(f"corrupt record: {error}; delete that file to train the cell again") from None
        if record.cell != cell:
            raise CorruptStoreError(f"{path} is the record of cell {record.cell}; delete it to train {cell} again")
        return record

    def records(self) -> dict[str, Record]:
        """Returns the records of the study's complete cells, by fingerprint, in the study's order."""
        pairs = ((cell, self.read_record(cell)) for cell in cell_labels(self.study))
        return {cell: record for cell, record in pairs if record is not None}

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
        rows: list[Json] = []
        fields = self.fields(all_fields=all_fields)
        for cell, labels in cell_labels(self.study).items():
            record = self.read_record(cell)
            measured = list(self._unfinished_rows(cell) if record is None else record_rows(record))
            more = {"study": self.study["name"], **fields[cell]}
            rows.extend({**row, **more, "label": label} for label in labels for row in measured)
        names = next(iter(fields.values()), {})
        columns = order_columns([*CONTRACT, *(name for row in rows for name in row if name not in names)])
        if all(row.get(CONVENTION, "total") == "total" for row in rows):
            columns = [name for name in columns if name not in (CONVENTION, TOTAL)]
        return [{name: row.get(name) for name in (*columns, *names)} for row in rows]

    def fields(self, *, all_fields: bool = False) -> dict[str, Json]:
        """Returns the fields of each cell's specification that vary among the study's cells, by fingerprint and path.

        Args:
          all_fields: whether the fields that are the same in every cell are there too.
        """
        flat = {fingerprint: flatten_cell(cell) for fingerprint, cell in study_cells(self.study).items()}
        every = [
            name for name in dict.fromkeys(name for cell in flat.values() for name in cell) if name not in CONTRACT
        ]
        varying = set(find_varying(list(flat.values())))
        names = [name for name in every if all_fields or name in varying]
        return dict(zip(flat, to_columns(list(flat.values()), names), strict=True))

    def _unfinished_rows(self, cell: str) -> Iterator[Json]:
        status = attempts.last_status(self.cell_path(cell))
        if status != "missing":
            spec = json.loads((self.cell_path(cell) / "cell.json").read_text())
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


def cell_labels(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the labels of every cell of a study given as JSON, by fingerprint, in the study's order."""
    labels: dict[str, list[str]] = {}
    for series in study["series"]:
        for cell in series["cells"]:
            labels.setdefault(fingerprint_text(canonical_json(cell)), []).append(series["label"])
    return labels


def study_cells(study: Mapping[str, Any]) -> dict[str, Json]:
    """Returns the distinct cells of a study given as JSON, by fingerprint, in the study's order."""
    cells = (cell for series in study["series"] for cell in series["cells"])
    return {fingerprint_text(canonical_json(cell)): cell for cell in cells}
