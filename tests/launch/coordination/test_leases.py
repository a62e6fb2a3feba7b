"""Leases: one holder at a time, takeover only from the silent, and one record whatever happens in between."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from launch.coordination.leases import Complete, Held, Lease, LeaseLostError, Leases
from launch.coordination.presence import Observer, Presence, beat_path
from scaling.store.store import Store
from tests.places import ROOT

CELL = "0123456789ab"
WORKERS, RACES = 8, 200


class Clock:
    """A clock that goes as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Returns the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


@pytest.fixture
def leases(bare_store, clock) -> Leases:
    """Leases of an empty store, whose observer has a clock of its own."""
    return Leases(bare_store, Observer(bare_store, clock))


def beat_from_afar(store: Store, worker: str, count: int) -> None:
    """Leaves the heartbeat of a worker on another machine."""
    with Presence(store, patience_seconds=60.0) as presence:
        text = beat_path(store, presence.worker).read_text()
    far = text.replace(presence.worker, worker).replace('"count":1,', f'"count":{count},')
    machine = far.index('"machine":"') + len('"machine":"')
    beat_path(store, worker).parent.mkdir(exist_ok=True)
    beat_path(store, worker).write_text(far[:machine] + "other " + far[machine:])


def test_a_cell_has_one_holder(leases, bare_store):
    beat_from_afar(bare_store, "a", 1)
    assert leases.claim(CELL, "a") == Lease(CELL, 1, "a")
    assert leases.claim(CELL, "b") == Held("a")
    assert leases.holder(CELL) == "a"


def test_a_released_cell_is_free(leases):
    lease = leases.claim(CELL, "a")
    leases.release(lease)
    assert leases.holder(CELL) is None
    assert leases.claim(CELL, "b") == Lease(CELL, 3, "b")


def test_a_holder_is_silent_only_after_its_patience_by_the_observers_own_clock(leases, bare_store, clock):
    beat_from_afar(bare_store, "a", 1)
    leases.claim(CELL, "a")
    clock.now = 1e6  # the first look begins the wait, whatever the time is
    assert leases.claim(CELL, "b") == Held("a")
    clock.now += 59.0
    beat_from_afar(bare_store, "a", 2)
    assert leases.claim(CELL, "b") == Held("a")
    clock.now += 59.0
    assert leases.claim(CELL, "b") == Held("a")
    clock.now += 2.0
    assert leases.claim(CELL, "b") == Lease(CELL, 2, "b")


def test_a_holder_of_this_machine_that_has_ended_is_silent_at_once(leases, bare_store, python):
    racer = Racer(python, bare_store)
    racer.ask(CELL, "die")
    racer.process.communicate()
    assert leases.holder(CELL) is not None
    assert leases.claim(CELL, "b") == Lease(CELL, 2, "b")


def test_who_was_taken_over_cannot_publish(leases, bare_store, clock, make_record):
    late = leases.claim(CELL, "a")  # it has no heartbeat
    leases.claim(CELL, "b")
    clock.now = 1e3
    taken = leases.claim(CELL, "b")
    assert taken == Lease(CELL, 2, "b")
    assert not leases.is_held(late)
    with pytest.raises(LeaseLostError, match="taken over"):
        leases.publish(late, make_record(CELL, seed=1))
    assert bare_store.read_record(CELL) is None
    leases.publish(taken, make_record(CELL, seed=2))
    assert bare_store.read_record(CELL).seed == 2
    with pytest.raises(LeaseLostError):
        leases.publish(late, make_record(CELL, seed=1))
    assert bare_store.read_record(CELL).seed == 2


def test_a_record_whose_publisher_was_killed_in_between_is_shown_by_the_next(leases, bare_store, make_record):
    leases.publish(leases.claim(CELL, "a"), make_record(CELL))
    (bare_store.cell_path(CELL) / "record.json").unlink()
    assert leases.claim(CELL, "b") == Complete(make_record(CELL))
    assert bare_store.read_record(CELL) == make_record(CELL)


def test_nobody_releases_for_another_than_the_holder(leases):
    leases.claim(CELL, "a")
    leases.release_for(CELL, "b")
    assert leases.holder(CELL) == "a"
    leases.release_for(CELL, "a")
    assert leases.holder(CELL) is None


class Racer:
    """A process that claims and publishes when it is told to."""

    def __init__(self, python: str, store: Store) -> None:
        words = [python, str(Path(__file__).with_name("lease_racer.py")), str(store.path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def ask(self, *words: object) -> None:
        """Tells it what to do next."""
        print(*words, file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        """Returns how that went."""
        return json.loads(self.process.stdout.readline())


def test_200_races_of_8_workers_on_a_cell_give_exactly_one_record_each(python, bare_store):
    racers = [Racer(python, bare_store) for _ in range(WORKERS)]
    try:
        for race in range(RACES):
            cell, is_stopping = f"{race:012x}", race % 20 == 19
            for racer in racers:
                racer.ask(cell, int(is_stopping))
            if is_stopping:  # whoever gets it first is stopped with the lease in its hand, until another has it
                deadline = time.monotonic() + 30
                while not bare_store.is_complete(cell):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                for racer in racers:
                    racer.process.send_signal(signal.SIGCONT)
            answers = [racer.answer() for racer in racers]
            published = [answer["worker"] for answer in answers if answer["published"]]
            record = bare_store.read_record(cell)
            assert published == [record.environment["worker"]], f"race {race}"
            refused = sum(answer["refused"] for answer in answers)
            assert refused >= is_stopping  # a busy machine stops others for so long, too
            names = sorted(path.name for path in (bare_store.cell_path(cell) / "leases").iterdir())
            assert names == [f"{number:06d}" for number in range(1, 3 + refused)]
    finally:
        for racer in racers:
            racer.process.kill()
            racer.process.communicate()
