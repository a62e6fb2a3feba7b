"""Leases: one holder at a time, takeover only from the silent, and one record whatever happens in between."""

import signal
import time

import pytest

from launch.coordination.leases import Complete, Held, Lease, LeaseLostError
from tests.launch.coordination.watching import CELL, Racer, beat_from_afar

WORKERS, RACES = 8, 200


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
