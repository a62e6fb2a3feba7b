"""What every engine must do, as tests that a class for each engine inherits: no sweep may depend on which it is.

A class gives the fixture `lab`, and marks itself slow where that takes long.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest
from etils import epath

from launch.coordination.launches import begin_launch, note_allocations, read_allocations
from launch.engines import LIVE, Engine, reconnect
from launch.fleet import Fleet
from launch.options import Options
from launch.queue.cells import missing_cells
from launch.running import make_order
from scaling.specs.study import Study, resolve_study
from scaling.store.attempts import read_attempts
from scaling.store.columns import TIMES
from scaling.store.store import Store
from tests.launch.waiting import wait_until

# Two networks, long enough to be disturbed, and two linear models.
SETTINGS = ("data.size=100", "num_seeds=2", "num_steps=40000")
WORDS = ("--execution=population=1", "--checkpoint-steps=4000", "--lease-seconds=6", "--workers=1")


class Lab(Protocol):
    """An engine in a test, and what a test does to its machines."""

    name: str
    settings: dict
    engine: Engine

    def lose(self, handle: str) -> None:
        """Takes an allocation's machines away without a word, as a power cut does."""


class Sweep:
    """A study in a store, and a launch of it."""

    def __init__(self, lab: Lab, folder: Path, study: Study, words: Sequence[str] = WORDS) -> None:
        self.lab, self.study = lab, study
        self.store = Store(folder / "store")
        self.store.create(study.canonical_json())
        for cell in study.cells.values():
            self.store.write_cell(cell.canonical_json())
        self.launch = begin_launch(self.store, lab.name, settings=lab.settings, flags=tuple(words))
        self.order = make_order(self.store, self.launch.name, words)

    def submit(self, count: int) -> list[str]:
        """Asks the engine for allocations, as a launcher does."""
        handles = self.lab.engine.submit(self.order, count)
        note_allocations(self.store, self.launch.name, handles)
        return handles

    def states(self, handles: Sequence[str]) -> list[str]:
        """Returns what the engine says of allocations."""
        seen = self.lab.engine.observe(handles)
        return [seen[handle].state for handle in handles]

    def finish(self, count: int = 1) -> dict[str, str]:
        """Returns how cells end when a fleet sees to it."""
        fleet = Fleet(
            self.store, self.lab.engine, self.order, count, Options().budget, poll_seconds=0.5, first_pause=1.0
        )
        return fleet.run(missing_cells(self.study, self.store)).statuses

    def is_saved(self) -> bool:
        """Returns whether a job that is not over has a checkpoint."""
        return bool(list(self.store.path.glob("cells/*/checkpoints/*/*/manifest.json")))

    def outcomes(self) -> list[list[str]]:
        """Returns how attempts at the networks ended."""
        names = [name for name, cell in self.study.cells.items() if cell.training is not None]
        made = [read_attempts(self.store.cell_path(name)) for name in names]
        return [[str(one.outcome) for one in attempts if one.event == "end"] for attempts in made]

    def rows(self) -> list[dict]:
        """Returns the table, without what differs between two runs of a cell."""
        return rows_of(self.store)


def rows_of(store: Store) -> list[dict]:
    """Returns a store's table, without what differs between two runs of a cell."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in store.rows()]


class EngineContract:
    """The tests."""

    @pytest.fixture
    def sweep(self, lab, tmp_path, study_file):
        """A store with nothing done; what is live at the end is cancelled."""
        made = Sweep(lab, tmp_path, resolve_study(str(study_file), SETTINGS))
        yield made
        handles = read_allocations(made.store, made.launch.name)
        if handles:
            lab.engine.cancel(handles)

    def test_what_is_submitted_is_described_and_runs_to_its_end(self, sweep, reference):
        described = sweep.lab.engine.describe(sweep.order, 2)
        assert all(word in described for word in sweep.order.words)
        handles = sweep.submit(2)  # the second one shares the work
        assert len(set(handles)) == 2
        assert set(sweep.states(handles)) <= set(LIVE)
        wait_until(lambda: not set(sweep.states(handles)) & set(LIVE))
        assert sweep.states(handles) == ["ended", "ended"]
        assert sweep.rows() == reference
        assert sweep.outcomes() == [["ok"], ["ok"]], "a cell was trained twice"

    def test_what_is_cancelled_saves_first_and_goes_on_when_it_is_submitted_again(self, sweep, reference):
        (handle,) = sweep.submit(1)
        wait_until(sweep.is_saved)
        assert sweep.states([handle]) == ["running"]
        again = reconnect(sweep.lab.name, sweep.lab.settings, sweep.store)  # as another process finds it
        assert again.observe([handle])[handle].state == "running"
        again.cancel([handle])
        wait_until(lambda: sweep.states([handle])[0] not in LIVE)
        again.cancel([handle])  # once more does not matter
        assert ["interrupted"] in sweep.outcomes()
        assert set(sweep.finish().values()) == {"ok"}
        assert sweep.rows() == reference
        records = sweep.store.records().values()
        assert max(record.num_resumes for record in records) == 1, "it began anew"

    def test_work_of_a_lost_machine_is_done_by_others(self, sweep, reference):
        (handle,) = sweep.submit(1)
        wait_until(sweep.is_saved)
        sweep.lab.lose(handle)
        assert set(sweep.finish().values()) == {"ok"}
        assert sweep.rows() == reference
        assert sorted(map(len, sweep.outcomes())) == [1, 2], "one cell was interrupted, and one was not begun"


class BucketContract(EngineContract):
    """The tests, with the store in a bucket."""

    @pytest.fixture
    def tmp_path(self):
        """The bucket."""
        return epath.Path("gs://bucket")

    @pytest.fixture
    def study_file(self, tmp_path_factory, toy_study):
        """The toy study as a local file."""
        path = tmp_path_factory.mktemp("study") / "toy.py"
        path.write_text(toy_study)
        return path
