"""Claims about trackers: the ledger comes first, a mirror's trouble is nobody else's, and names are checked."""

import json

import pytest
from etils import epath

from scaling.specs.base import InputError
from scaling.store.curves import read_curve
from scaling.store.store import Store
from scaling.tracking import CurveFile, Ended, Together, Tracker, check_mirror, make_tracker
from tests.told_runs import NUM_STEPS, estimators_of, make_points, make_store, networks_of, tell


@pytest.fixture
def store(tmp_path) -> Store:
    """A store of which nothing was trained."""
    return make_store(tmp_path / "store")


class Broken(Tracker):
    """Fails at a function."""

    def __init__(self, function):
        self.heard = []
        setattr(self, function, self.fail)

    def fail(self, *_):
        """Fails."""
        self.heard.append("it")
        raise OSError("disk full\nreally")


@pytest.mark.parametrize("function", ["begin", "log", "end"])
def test_a_mirror_that_fails_is_left_out_with_one_line(store, capsys, function):
    broken, cell = Broken(function), networks_of(store)[0]
    record = tell(Together(CurveFile(store.cell_path), {"mine": broken}), store, cell)
    assert broken.heard == ["it"]
    assert store.read_record(cell) == record
    assert len(read_curve(store.cell_path(cell))) == NUM_STEPS + 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("scaling: tracker mine is left out from here on (OSError: disk full really)")


def test_a_ledger_that_fails_ends_the_run(store):
    with pytest.raises(OSError, match="disk full"):
        tell(Together(Broken("log"), {}), store, networks_of(store)[0])


def test_what_is_open_ends_without_a_record(store):
    ended = []

    class Listening(Tracker):
        def end(self, cell, record):
            ended.append((cell, record))

    with pytest.raises(KeyboardInterrupt), Ended(Listening()) as told:
        for cell in ("a", "b"):
            told.begin(cell, 0)
        told.end("a", "record")
        raise KeyboardInterrupt
    assert ended == [("a", "record"), ("b", None)]


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


def test_unknown_names_are_refused_with_the_nearest(store):
    with pytest.raises(InputError, match="--tracker wandbb: there is no such tracker; did you mean 'wandb'"):
        make_tracker(["jsonl", "wandbb"], store)
    assert isinstance(make_tracker([], store), CurveFile)


def test_a_missing_package_is_said_before_anything_runs(store, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs tensorboardX, which is not installed; pip install 'scaling\[tens"):
        check_mirror("tensorboard", store)


def test_files_that_are_appended_to_need_a_disk(store):
    store.path = epath.Path("gs://bucket/store")
    with pytest.raises(
        InputError, match=r"jsonl appends to files, which 'gs://bucket/store' does not allow; choose wa"
    ):
        check_mirror("jsonl", store)
    check_mirror("wandb", store)


def test_events_of_all_cells_are_in_one_file_with_their_time(store):
    tracker = make_tracker(["jsonl"], store)
    network, estimator = networks_of(store)[0], estimators_of(store)[0]
    tell(tracker, store, network, stop=12)
    tell(tracker, store, network, begin=10)
    tell(tracker, store, estimator)
    events = [json.loads(line) for line in (store.path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if e["cell"] == estimator] == ["begin", "evaluation", "end"]
    ours = [event for event in events if event["cell"] == network]
    assert [(e["event"], e["step"]) for e in ours if e["event"] == "begin"] == [("begin", 0), ("begin", 10)]
    steps = [event["step"] for event in ours if event["event"] == "train"]
    assert steps == [*range(1, 13), *range(11, NUM_STEPS + 1)]
    assert [event["status"] for event in ours if event["event"] == "end"] == ["interrupted", "ok"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert len(read_curve(store.cell_path(network))) == NUM_STEPS + 4  # the ledger has every step once
