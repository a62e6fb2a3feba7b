"""Heartbeats: a worker is silent after its patience by the clock of who observes it, or at once where it has ended."""

from launch.coordination.leases import Held, Lease
from tests.launch.coordination.watching import CELL, Racer, beat_from_afar


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
