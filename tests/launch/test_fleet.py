"""The fleet: asks for what is needed and no more, replaces what is lost, and stops when nothing gets on."""

import pytest

from launch.coordination.claims import Budget
from launch.coordination.launches import begin_launch, cancel_launch, note_allocations, read_allocations
from launch.coordination.presence import Presence
from launch.engines import EngineError, Order, Sighting
from launch.fleet import MOST_TRIES, Fleet
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec
from scaling.store import attempts

CELLS = {
    cell.fingerprint(): cell
    for cell in (
        Cell(model=LogisticRegressionSpec(), data=DataSpec(source=DigitsSource(), size=10), seed=seed)
        for seed in range(4)
    )
}


class Pool:
    """An engine of allocations that do as they are told."""

    outlives_command = True

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.asked: list[int] = []
        self.cancelled: list[str] = []
        self.is_down = False

    def describe(self, order: Order, count: int) -> str:
        return f"{count} of {order.words}"

    def submit(self, order: Order, count: int) -> list[str]:
        self.asked.append(count)
        made = [f"a{len(self.states) + i}" for i in range(count)]
        self.states |= dict.fromkeys(made, "running")
        return made

    def observe(self, handles):
        if self.is_down:
            raise EngineError("nobody answers")
        return {handle: Sighting(self.states[handle], why="told so") for handle in handles}

    def cancel(self, handles) -> None:
        self.cancelled += handles


@pytest.fixture
def pool() -> Pool:
    """An engine without machines."""
    return Pool()


@pytest.fixture
def launch(bare_store) -> str:
    """A launch on an empty store."""
    return begin_launch(bare_store, "local").name


@pytest.fixture
def make_fleet(bare_store, pool, launch, monkeypatch):
    """Makes a fleet whose pauses are events that a test scripts: the n-th pause calls the n-th function."""
    clock = [0.0]
    monkeypatch.setattr("launch.fleet.time.monotonic", lambda: clock[0])

    def make(events=(), count=2, retries=0, forever=lambda: None):
        coming = iter(events)

        def pause(seconds: float) -> None:
            clock[0] += seconds
            next(coming, forever)()

        order = Order(launch, str(bare_store.path), ("work",))
        return Fleet(bare_store, pool, order, count, Budget(failures=1 + retries), pause=pause)

    return make


def complete(store, make_record, *names):
    for name in names:
        store.publish(make_record(name))


def test_it_asks_for_as_many_as_wanted_and_lets_them_go_when_all_is_done(make_fleet, pool, bare_store, make_record):
    fleet = make_fleet([lambda: complete(bare_store, make_record, *CELLS)])
    outcome = fleet.run(CELLS)
    assert outcome.statuses == dict.fromkeys(CELLS, "ok")
    assert pool.asked == [2]
    assert pool.cancelled == ["a0", "a1"]


def test_it_asks_for_no_more_allocations_than_there_are_cells(make_fleet, pool, bare_store, make_record):
    make_fleet([lambda: complete(bare_store, make_record, *CELLS)], count=100).run(CELLS)
    assert pool.asked == [4]


def test_a_lost_allocation_is_replaced(make_fleet, pool, bare_store, make_record):
    first, *others = CELLS

    def lose():
        complete(bare_store, make_record, first)
        pool.states["a0"] = "preempted"

    events = [lambda: None, lose, lambda: None, lambda: complete(bare_store, make_record, *others)]
    make_fleet(events).run(CELLS)
    assert pool.asked == [2, 1]


def test_cells_that_others_hold_need_no_allocation(make_fleet, pool, bare_store, make_record):
    first, *others = CELLS
    complete(bare_store, make_record, *others)
    with Presence(bare_store) as presence:
        presence.begin(cells=(first,))
        make_fleet([lambda: None] * 3 + [lambda: complete(bare_store, make_record, first)]).run(CELLS)
    assert pool.asked == []


def test_allocations_that_end_without_getting_on_are_asked_for_later_and_later_and_then_no_more(make_fleet, pool):
    times = []

    def end():
        times.append(len(pool.asked))
        pool.states = dict.fromkeys(pool.states, "failed")

    with pytest.raises(EngineError, match=f"ended {MOST_TRIES} times without any cell getting on; .*told so"):
        make_fleet(forever=end).run(CELLS)
    assert pool.asked == [2] * MOST_TRIES
    waits = [times.count(tries) for tries in range(1, MOST_TRIES + 1)]
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]


def test_an_engine_that_does_not_answer_for_a_while_is_asked_again(make_fleet, pool, bare_store, make_record, capsys):
    events = [
        lambda: setattr(pool, "is_down", True),
        lambda: setattr(pool, "is_down", False),
        lambda: complete(bare_store, make_record, *CELLS),
    ]
    assert make_fleet(events).run(CELLS).count("ok") == 4
    assert capsys.readouterr().err.count("warning: nobody answers") == 1


def test_cells_that_failed_too_often_are_not_waited_for(make_fleet, pool, bare_store, launch, make_record):
    bad, *others = CELLS

    def fail():
        complete(bare_store, make_record, *others)
        folder = bare_store.cell_path(bad)
        attempts.end_attempt(folder, attempts.start_attempt(folder, launch=launch), "failed", "no luck")
        pool.states = dict.fromkeys(pool.states, "ended")

    outcome = make_fleet([fail, lambda: None]).run(CELLS)
    assert outcome.statuses[bad] == "failed"
    assert outcome.count("ok") == 3


def test_live_allocations_of_an_earlier_launch_are_adopted(make_fleet, pool, bare_store, make_record):
    before = begin_launch(bare_store, "local").name
    note_allocations(bare_store, before, pool.submit(Order(before, "", ()), 2))
    make_fleet([lambda: None, lambda: complete(bare_store, make_record, *CELLS)]).run(CELLS)
    assert pool.asked == [2], "nothing was asked for besides the earlier launch's"


def test_what_was_asked_for_is_known_to_the_store(make_fleet, bare_store, launch):
    make_fleet().start(CELLS)
    assert read_allocations(bare_store, launch) == ["a0", "a1"]


@pytest.mark.parametrize("outlives", [True, False])
def test_ctrl_c_leaves_allocations_alone_unless_they_would_end_with_the_command(make_fleet, pool, outlives, capsys):
    def interrupt():
        raise KeyboardInterrupt

    pool.outlives_command = outlives
    assert make_fleet([lambda: None, interrupt]).run(CELLS).stopped
    assert pool.cancelled == ([] if outlives else ["a0", "a1"])
    assert ("go on without" in capsys.readouterr().err) == outlives


def test_a_cancelled_launch_ends(make_fleet, pool, bare_store, launch):
    outcome = make_fleet([lambda: cancel_launch(bare_store, launch)]).run(CELLS)
    assert outcome.stopped
    assert pool.asked == [2]
