"""The cells and the study that a store holds."""

from etils import epath

from scaling.specs.base import canonical_json, parse
from scaling.specs.cell import Cell
from scaling.specs.study import Study
from scaling.store.store import Store


def missing_cells(study: Study, store: Store) -> dict[str, Cell]:
    """Returns the study's cells without a record, by fingerprint; failed and interrupted ones count as missing."""
    cells = study.cells
    complete = store.find_cells("record.json", cells)
    return {name: cell for name, cell in cells.items() if name not in complete}


def cell_file(store: Store, name: str) -> epath.Path:
    """Returns where a store keeps a cell, by its fingerprint."""
    return store.cell_path(name) / "cell.json"


def read_cell(store: Store, name: str) -> Cell:
    """Returns a cell of a store by its fingerprint."""
    path = cell_file(store, name)
    return parse(Cell, path.read_text(), str(path))


def read_study(store: Store) -> Study:
    """Returns the study that a store holds."""
    return parse(Study, canonical_json(store.study), str(store.path / "study.json"))
