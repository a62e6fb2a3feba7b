"""Claims about a job's clock: legs add up, and what was spent before a kill is not forgotten."""

import pytest

from scaling.training import clock as module
from scaling.training.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """The time that the clock reads, which a test sets."""
    read = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: read[0])
    return read


def test_each_leg_has_its_own_time_and_steps_add_up(now):
    clock = Clock(began=90.0)
    clock.note(10, 2.0)
    assert clock.finish_leg() == (10.0, 2.0)
    now[0] = 103.0
    clock.note(5, 1.0)
    assert clock.finish_leg() == (3.0, 1.0)
    assert (clock.timed_steps, clock.train_seconds) == (15, 3.0)


def test_a_job_that_goes_on_within_a_leg_has_what_was_spent_on_it(now):
    clock = Clock(began=90.0)
    clock.note(10, 2.0)
    facts = clock.state()
    now[0] = 500.0
    later = Clock(began=499.0)
    later.restore(facts, in_leg=True)
    later.note(10, 2.0)
    assert later.finish_leg() == (11.0, 4.0)
    assert later.timed_steps == 20


def test_a_job_that_goes_on_from_a_fork_begins_a_leg_anew(now):
    clock = Clock(began=90.0)
    clock.note(10, 2.0)
    facts = clock.state()
    later = Clock(began=99.0)
    later.restore(facts, in_leg=False)
    assert later.finish_leg() == (1.0, 0.0)
    assert (later.timed_steps, later.train_seconds) == (10, 2.0)
