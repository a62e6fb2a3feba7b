"""Workers that are killed while they start: replaced a few times, then one line; and who starts one at all."""

import threading

import pytest

from launch.engines import EngineError
from launch.options import Options
from launch.workers import agent
from launch.workers.agent import run_cells
from launch.workers.replies import CellEnded, JobDone
from launch.workers.slots import Slot
from scaling.specs.execution import Execution
from tests.launch.workers.cells import cells

HERE = Slot(frozenset(), {})
KILLED = "the worker process ended with signal SIGKILL"


class StandIn:
    """A worker that trains nothing, and says so at once; the first ones are killed before they are ready."""

    started: list["StandIn"]
    ends: list[str]
    is_released: threading.Event

    def __init__(self, *_: object) -> None:
        self.has_ended, self.worker = False, None
        self.started.append(self)

    def wait_until_ready(self) -> str:
        return self.ends.pop(0) if self.ends else ""

    def ask(self, train, **_: object):
        self.is_released.wait(30)
        yield from (CellEnded(cell=cell, status="ok") for cell in train)
        yield JobDone()

    def kill(self) -> None: ...
    def close(self) -> None: ...
    def keep_log(self) -> None: ...


@pytest.fixture
def started(monkeypatch):
    """The stand-ins that were started."""
    found: list[StandIn] = []
    monkeypatch.setattr(StandIn, "started", found, raising=False)
    monkeypatch.setattr(StandIn, "is_released", threading.Event(), raising=False)
    StandIn.is_released.set()
    monkeypatch.setattr(agent, "WorkerProcess", StandIn)
    return found


def run(store, ends, num_slots=1, wanted=None):
    StandIn.ends = list(ends)
    options = Options(execution=Execution())
    by_name = {cell.fingerprint(): cell for cell in wanted or cells(3)}
    return run_cells(by_name, store, [HERE] * num_slots, options, "launch", waits=True)


def test_a_worker_that_is_killed_while_it_starts_is_replaced(store, started):
    assert run(store, [KILLED, KILLED]).count("ok") == 3
    assert len(started) == 3


def test_workers_that_are_killed_one_after_another_are_one_line(store, started):
    with pytest.raises(EngineError) as caught:
        run(store, [KILLED] * 9)
    assert str(caught.value) == f"3 workers were ended, one after another, before they were ready: {KILLED}"
    assert len(started) == 3


def test_of_two_workers_one_is_started_for_what_will_soon_be_done(store, started, monkeypatch):
    assert run(store, [], 2).count("ok") == 3
    assert len(started) == 1
    # One whose job takes longer than was thought is joined.
    monkeypatch.setattr(agent, "JOIN_SECONDS", 0.2)
    StandIn.is_released.clear()
    threading.Timer(1.0, StandIn.is_released.set).start()
    assert run(store, [], 2).count("ok") == 3
    assert len(started) == 3
