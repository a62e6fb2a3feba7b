"""Stores of as many cells as a test likes, with records of their own."""

from etils import epath

from scaling.specs.study import Series, Study
from scaling.store.store import Store
from tests.scaling.store.toy_study import CELLS, make_record


def make_study(count: int) -> Study:
    """Returns a study of so many cells, which differ in m and seed."""
    cells = tuple(CELLS[0].model_copy(update={"seed": seed, "data": CELLS[seed % 2 * 2].data}) for seed in range(count))
    return Study(name="large", question="?", metric="error", series=(Series(label="all", cells=cells),))


def make_large(path: epath.PathLike, count: int, complete: int | None = None) -> Store:
    """Returns a store of so many cells, of which the first have records."""
    store, study = Store(path), make_study(count)
    store.create(study.canonical_json())
    store.write_cells(cell.canonical_json() for cell in study.cells.values())
    for cell in list(study.cells.values())[:complete]:
        store.publish(make_record(cell, wall_seconds=1.0 + cell.seed))
    return store
