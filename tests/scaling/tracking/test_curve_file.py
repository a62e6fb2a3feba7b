"""The ledger of runs that go on: read without its torn end, and rewound to where a run goes on from."""

from scaling.tracking import CurveFile
from scaling.tracking.curve_file import read_curve
from tests.told_runs import make_points, networks_of, tell


def test_curves_are_read_without_their_torn_end(store):
    cell = networks_of(store)[0]
    tell(CurveFile(store.cell_path), store, cell, stop=10)
    points = read_curve(store.cell_path(cell))
    assert points == make_points_of(store, cell, 10)
    with (store.cell_path(cell) / "curve.jsonl").open("a") as file:
        file.write('{"step": 11, "train_')
    assert read_curve(store.cell_path(cell)) == points
    assert read_curve(store.cell_path("nobody")) == []


def make_points_of(store, name, end):
    from scaling.specs.base import parse
    from scaling.specs.cell import Cell

    return make_points(parse(Cell, (store.cell_path(name) / "cell.json").read_text(), name), 0, end)
