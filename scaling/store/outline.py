"""What a study's cells are called, and the fields of their specifications: of a large one, from the snapshot."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from scaling.specs.base import Json, canonical_json, fingerprint_text
from scaling.specs.collection import paused_collection
from scaling.specs.fields import find_varying, flatten_cell, to_column
from scaling.store.arrays import to_array
from scaling.store.columns import CONTRACT
from scaling.store.files import is_local
from scaling.store.record import CorruptStoreError
from scaling.store.snapshot import is_worth_it, read_snapshot, write_snapshot

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "study.json"
# Columns of the snapshot beside the fields; a field's path has no slash.
CELL, LABELS = "/cell", "/labels"


class Outline:
    """A study without the specifications of its cells.

    Attributes:
      name: of the study.
      series: the labels of its series.
      labels: of every cell, by fingerprint, in the study's order.
    """

    def __init__(self, store: epath.Path, content: bytes) -> None:
        """Reads the outline of a study.

        Args:
          store: the store's folder.
          content: of its study.json.

        Raises:
          CorruptStoreError: the study cannot be read.
        """
        self._store, self._content = store, content
        self._sha256 = hashlib.sha256(content).hexdigest()
        num_cells = content.count(b'"seed":')  # at least
        self._is_large = is_worth_it(store, num_cells, num_cells)
        # A bucket gives the whole file in one request.
        wanted = [CELL, LABELS] if is_local(store) else None
        if self._is_large and (kept := self._read_snapshot(wanted)) is not None:
            facts = kept.schema.metadata
            self.name, self.series, series_of = (json.loads(facts[name]) for name in (b"name", b"series", b"labels"))
            numbers = kept.column(LABELS).to_numpy().tolist()
            self.labels = dict(zip(kept.column(CELL).to_pylist(), map(series_of.__getitem__, numbers), strict=True))
            if wanted is None:
                self.__dict__["_fields"] = kept.drop_columns([CELL, LABELS]), set(json.loads(facts[b"varying"]))
            return
        with paused_collection():
            study = parse_study(content, store / FILE)
            self.name, self.series = study["name"], [each["label"] for each in study["series"]]
            self.labels, cells = _name_cells(study)
            del study
            if self._is_large:
                self.__dict__["_fields"] = make_fields(cells)
                self._write_snapshot()

    def fields(self, *, all_fields: bool = False) -> "pa.Table":
        """Returns the fields of the cells that vary among them, a row for each cell in the study's order.

        Args:
          all_fields: whether the fields that are the same in every cell are there too.
        """
        fields, varying = self._fields
        return fields if all_fields else fields.select([name for name in fields.column_names if name in varying])

    @functools.cached_property
    def _fields(self) -> "tuple[pa.Table, set[str]]":
        if self._is_large and (kept := self._read_snapshot(without=[CELL, LABELS])) is not None:
            return kept, set(json.loads(kept.schema.metadata[b"varying"]))
        with paused_collection():
            return make_fields(study_cells(parse_study(self._content, self._store / FILE)))

    def _read_snapshot(self, columns: list[str] | None = None, without: tuple[str, ...] | list[str] = ()) -> Any:
        return read_snapshot(self._store, "study", columns, without, study=self._sha256)

    def _write_snapshot(self) -> None:
        import pyarrow as pa

        fields, varying = self._fields
        several = {tuple(labels): None for labels in self.labels.values()}
        number = {labels: number for number, labels in enumerate(several)}
        numbers = pa.array([number[tuple(labels)] for labels in self.labels.values()], pa.int32())
        table = fields.append_column(CELL, pa.array(list(self.labels), pa.string())).append_column(LABELS, numbers)
        write_snapshot(
            self._store, "study", table, study=self._sha256, name=json.dumps(self.name),
            series=json.dumps(self.series), labels=json.dumps(list(several)), varying=json.dumps(sorted(varying)),
        )  # fmt: skip


def make_fields(cells: Mapping[str, Json]) -> "tuple[pa.Table, set[str]]":
    """Returns the fields of cells given as JSON, a row for each, and which of them vary."""
    import pyarrow as pa

    flat = [flatten_cell(cell) for cell in cells.values()]
    paths = dict.fromkeys(map(tuple, flat))
    names = dict.fromkeys(name for each in paths for name in each if name not in CONTRACT)
    return pa.table({name: to_array(to_column(flat, name)) for name in names}), set(find_varying(flat))


def parse_study(content: str | bytes, path: epath.Path) -> Json:
    """Returns a study as JSON.

    Raises:
      CorruptStoreError: it is none.
    """
    try:
        study: Json = json.loads(content)
        study["name"], study["metric"], study["fit"]
        for series in study["series"]:
            series["label"], iter(series["cells"])
    except (ValueError, KeyError, TypeError):
        raise CorruptStoreError(f"{path} is corrupt; restore it, or run the study into another --store") from None
    return study


def cell_labels(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the labels of every cell of a study given as JSON, by fingerprint, in the study's order."""
    return _name_cells(study)[0]


def study_cells(study: Mapping[str, Any]) -> dict[str, Json]:
    """Returns the distinct cells of a study given as JSON, by fingerprint, in the study's order."""
    return _name_cells(study)[1]


def _name_cells(study: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, Json]]:
    """Returns the labels and the specifications of a study's cells, by fingerprint, in the study's order."""
    labels: dict[str, list[str]] = {}
    cells: dict[str, Json] = {}
    for series in study["series"]:
        for cell in series["cells"]:
            name = fingerprint_text(canonical_json(cell))
            labels.setdefault(name, []).append(series["label"])
            cells.setdefault(name, cell)
    return labels, cells
