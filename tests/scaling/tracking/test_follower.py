"""Claims about the process beside a trainer, without W&B: what it does when, and when it gives up."""

import os

import pytest

from scaling.tracking import follower as module
from scaling.tracking.follower import Follower
from scaling.tracking.weights_and_biases import Following
from tests.told_runs import complete, networks_of


class Run:
    """A run that is open: counts how often rows were asked for, and keeps with what it was finished."""

    def __init__(self) -> None:
        self.num_sends, self.finished = 0, []

    def send(self):
        """Counts."""
        self.num_sends += 1

    def finish(self, description):
        """Keeps the record."""
        self.finished.append(description)


class Mirror:
    """Opens runs, after so many refusals, each of which leaves something behind that must be closed."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals, self.opened, self.is_closed = refusals, {}, True

    def close_all(self):
        """Makes it possible to open runs again."""
        self.is_closed = True

    def describe(self, cell, record=None, facts=None):
        """Returns what is known."""
        return cell, record

    def open(self, description):
        """Returns a run, or refuses."""
        assert self.is_closed
        if self.refusals:
            self.refusals -= 1
            self.is_closed = False
            raise ConnectionError("not\nnow")
        self.opened.setdefault(description[0], []).append(Run())
        return self.opened[description[0]][-1]


@pytest.fixture
def made(store, monkeypatch):
    """Returns a follower with a mirror that refuses so many times."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(module, "BACK_OFF", (0.0, 0.0))
    reading, writing = os.pipe()

    def make(refusals=0, **options):
        found = Follower(Following(store=os.fspath(store.path), pid=os.getpid(), **options), writing)
        found._mirror = Mirror(refusals)
        return found, found._mirror

    yield make
    os.close(reading)
    os.close(writing)


def test_what_was_refused_is_tried_again_in_order(made, store):
    follower, mirror = made(refusals=2)
    first, second = networks_of(store)[:2]
    complete(store, first, second)
    for cell in (first, second):
        follower.hear({"begin": cell, "facts": {}})
        follower.hear({"end": cell})
    follower.work()
    assert (mirror.opened, follower.is_idle) == ({}, False)
    follower.work()
    follower.work()
    assert list(mirror.opened) == [first, second]
    assert [run.finished for runs in mirror.opened.values() for run in runs] == [
        [(cell, store.read_record(cell))] for cell in (first, second)
    ]
    assert (follower.is_idle, follower.is_over) == (True, False)


def test_after_some_refusals_all_is_given_up_with_one_line(made, store, capsys):
    follower, mirror = made(refusals=1000)
    follower.hear({"begin": networks_of(store)[0], "facts": {}})
    for _ in range(10):
        follower.work()
    follower.hang_up()
    assert (mirror.refusals, follower.is_over, follower.is_idle) == (1000 - 3, True, True)
    assert capsys.readouterr().err == (
        "scaling: W&B does not take what it is sent (ConnectionError: not now); "
        f"`scaling sync {store.path}` sends what it lacks\n"
    )


def test_a_cell_that_goes_on_before_its_end_was_noticed_stays_open(made, store):
    follower, mirror = made()
    cell = networks_of(store)[0]
    follower.hear({"begin": cell, "facts": {}})
    follower.work()
    follower.hear({"end": cell})
    follower.hear({"begin": cell, "facts": {}})
    follower.work()
    (run,) = mirror.opened[cell]
    assert (run.num_sends, run.finished) == (2, [])
    follower.hang_up()
    follower.work()
    assert run.finished == [(cell, None)]


def test_the_next_is_shown_when_one_of_the_most_has_ended(made, store):
    follower, mirror = made(live_cells=2)
    cells = networks_of(store)[:3]
    for cell in cells:
        follower.hear({"begin": cell, "facts": {}})
    follower.work()
    assert list(mirror.opened) == cells[:2]
    follower.hear({"end": cells[0]})
    follower.work()
    assert list(mirror.opened) == cells


def test_offline_a_cell_is_written_once_when_it_is_complete(made, store, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    follower, mirror = made()
    cell = networks_of(store)[0]
    for _ in range(2):
        follower.hear({"begin": cell, "facts": {}})
        follower.work()
        follower.hear({"end": cell})
        follower.work()
    assert mirror.opened == {}
    complete(store, cell)
    follower.hear({"begin": cell, "facts": {}})
    follower.hear({"end": cell})
    follower.work()
    assert [run.finished for run in mirror.opened[cell]] == [[(cell, store.read_record(cell))]]
