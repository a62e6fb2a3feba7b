"""Claims about a cell's curve: what is whole is read, in order."""

import pytest

from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.store.curves import read_curve
from scaling.tracking import CurveFile
from tests.told_runs import make_points, make_store, networks_of, tell


@pytest.fixture
def store(tmp_path):
    """A store of which nothing was trained."""
    return make_store(tmp_path / "store")


def test_curves_are_read_without_their_torn_end(store):
    cell = networks_of(store)[0]
    tell(CurveFile(store.cell_path), store, cell, stop=10)
    points = read_curve(store.cell_path(cell))
    assert points == make_points(parse(Cell, (store.cell_path(cell) / "cell.json").read_text(), cell), 0, 10)
    with (store.cell_path(cell) / "curve.jsonl").open("a") as file:
        file.write('{"step": 11, "train_')
    assert read_curve(store.cell_path(cell)) == points
    assert read_curve(store.cell_path("nobody")) == []
