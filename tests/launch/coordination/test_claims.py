"""A worker's own leases: whole jobs are claimed or left, budgets end what ends badly, and nothing is kept too long."""

import pytest

from launch.coordination.claims import Budget, Claims
from launch.coordination.leases import LeaseLostError, Leases
from launch.coordination.presence import Observer, Presence
from scaling.store.attempts import end_attempt, read_attempts, start_attempt
from scaling.store.store import Store

CELLS = ["a" * 12, "b" * 12, "c" * 12]


@pytest.fixture
def claims(bare_store):
    """Makes the claims of a process of its own."""

    def make(budget: Budget = Budget(), launch: str | None = "launch") -> Claims:  # noqa: B008  (frozen)
        return Claims(bare_store, Presence(bare_store, launch), Observer(bare_store), budget, launch)

    return make


def end(store: Store, cell: str, outcome: str, times: int = 1, launch: str | None = "launch") -> None:
    folder = store.cell_path(cell)
    for _ in range(times):
        end_attempt(folder, start_attempt(folder, launch=launch), outcome)


def test_a_job_is_claimed_whole_and_given_back_whole(claims, bare_store):
    mine = claims()
    assert mine.take(CELLS) == (CELLS, [], {})
    leases = Leases(bare_store, Observer(bare_store))
    assert all(leases.holder(cell) for cell in CELLS)
    mine.release()
    assert not any(leases.holder(cell) for cell in CELLS)


def test_a_job_whose_first_cell_another_has_is_left_to_it(claims, bare_store):
    with Presence(bare_store) as other:
        Leases(bare_store, Observer(bare_store)).claim(CELLS[0], other.worker)
        assert claims().take(CELLS) == ([], CELLS, {})


def test_a_cell_in_the_middle_that_another_has_is_left_and_the_rest_is_taken(claims, bare_store):
    with Presence(bare_store) as other:
        Leases(bare_store, Observer(bare_store)).claim(CELLS[1], other.worker)
        assert claims().take(CELLS) == ([CELLS[0], CELLS[2]], [CELLS[1]], {})


def test_a_complete_cell_has_ended_as_its_record_says(claims, bare_store, make_record):
    bare_store.publish(make_record(CELLS[0], status="diverged"))
    assert claims().take(CELLS[:1]) == ([], [], {CELLS[0]: "diverged"})


@pytest.mark.parametrize(("outcome", "times"), [("failed", 2), ("interrupted", 3)])
def test_a_cell_that_has_used_up_its_budget_has_failed_and_is_free_again(claims, bare_store, outcome, times):
    budget = Budget(failures=2, interruptions=3)
    end(bare_store, CELLS[0], outcome, times - 1)
    mine = claims(budget)
    assert mine.take(CELLS[:1]).mine == CELLS[:1]
    mine.release()
    end(bare_store, CELLS[0], outcome)
    assert claims(budget).take(CELLS[:1]).ended == {CELLS[0]: "failed"}
    assert Leases(bare_store, Observer(bare_store)).holder(CELLS[0]) is None


def test_attempts_of_other_launches_do_not_count_and_by_hand_none_does(claims, bare_store):
    end(bare_store, CELLS[0], "failed", 5)
    end(bare_store, CELLS[0], "failed", 5, launch=None)
    for launch in ("another", None):
        mine = claims(launch=launch)
        assert mine.take(CELLS[:1]).mine == CELLS[:1]
        mine.release()


def test_a_cell_may_fail_again_while_its_budget_lasts(claims, bare_store):
    assert claims(Budget(failures=2)).may_fail_again(CELLS[0])
    end(bare_store, CELLS[0], "failed")
    assert not claims(Budget(failures=2)).may_fail_again(CELLS[0])
    assert not claims(Budget(failures=9), launch=None).may_fail_again(CELLS[0])


def test_the_attempt_of_a_holder_that_fell_silent_is_ended_for_it(claims, bare_store):
    start_attempt(bare_store.cell_path(CELLS[0]), launch="launch", worker="gone")
    claims().take(CELLS[:1])
    (_, last) = read_attempts(bare_store.cell_path(CELLS[0]))
    assert last.outcome == "interrupted"
    assert last.error.startswith("lost: process ")


def test_who_was_stopped_for_long_finds_out_that_a_cell_was_taken_over(claims, bare_store):
    late = claims()
    late.take(CELLS[:1])
    late._presence.last_beat -= 1000.0
    late.check()  # nobody has come
    Leases(bare_store, Observer(bare_store)).release_for(CELLS[0], late._presence.worker)
    assert not late.still_holds(CELLS[0])
    with pytest.raises(LeaseLostError, match="was taken over while this process did not respond"):
        late.check()
