"""Claims about when a job is saved: by time, by steps, at a notice, and at its end where the last one is to stay."""

import jax.numpy as jnp
import pytest
from etils import epath

from scaling.devices.processes import Preempted
from scaling.training.checkpoints import keeper as module
from scaling.training.checkpoints.keeper import Keeper, Keeping, steps_done
from scaling.training.loop import Leg, Place

LEGS = [Leg(10, 8, (10,)), Leg(20, 20, (20,))]


def place(leg: int, step: int) -> Place:
    return Place(leg, step, {"w": jnp.full(2, float(step))}, None)


def open_keeper(folder, keeping: Keeping, heard=lambda: False) -> Keeper:
    return Keeper(epath.Path(folder), "job", keeping, heard)


def kept_step(folder) -> int | None:
    keeper = open_keeper(folder, Keeping())
    kept = keeper.restore(place(0, 0).state)
    keeper.close()
    return None if kept is None else kept.place.step


def consider(keeper: Keeper, *places: Place) -> None:
    for each in places:
        keeper.consider(each, LEGS, dict)
    keeper.close()


def test_steps_of_earlier_legs_count():
    assert steps_done(LEGS, place(0, 9)) == 9
    assert steps_done(LEGS, place(1, 9)) == 11  # the first leg left the trunk at 8, and did two more


def test_a_job_is_saved_every_so_many_steps(tmp_path):
    consider(open_keeper(tmp_path, Keeping(every_seconds=None, every_steps=4)), place(0, 3), place(0, 5), place(0, 7))
    assert kept_step(tmp_path) == 5


def test_a_job_is_saved_when_its_time_has_come(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    keeper = open_keeper(tmp_path, Keeping(every_seconds=60.0))
    keeper.consider(place(0, 3), LEGS, dict)
    now[0] = 61.0
    consider(keeper, place(0, 5))
    assert kept_step(tmp_path) == 5


def test_a_notice_saves_at_once_and_stops(tmp_path):
    keeper = open_keeper(tmp_path, Keeping(every_seconds=None), heard=lambda: True)
    with pytest.raises(Preempted):
        keeper.consider(place(0, 3), LEGS, dict)
    keeper.close()
    assert kept_step(tmp_path) == 3


@pytest.mark.parametrize("stays", [False, True])
def test_what_is_done_is_removed_unless_it_is_to_stay(tmp_path, stays):
    folder = tmp_path / "job"
    keeper = open_keeper(folder, Keeping(every_seconds=None, after_completion=stays))
    consider(keeper, place(1, 20))
    keeper.finish()
    assert (kept_step(folder) == 20) == stays
