"""When a job's state is saved, and from where a job that was stopped goes on."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from etils import epath

from scaling.devices.processes import Preempted, agree
from scaling.learning.step import TRAINING_VERSION
from scaling.specs.base import Json
from scaling.specs.execution import CHECKPOINT_SECONDS, NUM_CHECKPOINTS
from scaling.training.checkpoints.checkpoint import Checkpoints
from scaling.training.loop import Leg, Place


@dataclasses.dataclass(frozen=True)
class Keeping:
    """How checkpoints are kept.

    Attributes:
      every_seconds: between saves; None for no limit.
      every_steps: between saves; None for no limit.
      num_kept: the newest so many stay.
      after_completion: whether the last one stays when all records are published; it is then saved at the end.
    """

    every_seconds: float | None = CHECKPOINT_SECONDS
    every_steps: int | None = None
    num_kept: int = NUM_CHECKPOINTS
    after_completion: bool = False


class Kept(NamedTuple):
    """What a job goes on from.

    Attributes:
      place: where it stood; its leg is the number of steps of that leaf's run.
      facts: what else was kept.
      notices: one line for each newer checkpoint that was damaged.
    """

    place: Place
    facts: Json
    notices: tuple[str, ...]


class Keeper:
    """The checkpoints of one job.

    Args:
      folder: the folder of the job.
      job: its name; checkpoints of another are refused.
      keeping: how often and how many.
      heard: whether a preemption notice has come.
    """

    def __init__(self, folder: epath.Path, job: str, keeping: Keeping, heard: Callable[[], bool]) -> None:
        self._keeping, self._heard, self._folder = keeping, heard, folder
        identity = {"job": job, "training_version": str(TRAINING_VERSION)}
        self._checkpoints = Checkpoints(folder, identity=identity, keep=keeping.num_kept)
        self._saved_at, self._saved_steps = time.monotonic(), 0

    def restore(self, state: Any) -> Kept | None:
        """Returns what the newest sound checkpoint holds, or None when there is none.

        Args:
          state: like the state to restore: shapes, dtypes and shardings.

        Raises:
          InputError: the checkpoints are those of another job or of another version.
          CorruptCheckpointError: there are checkpoints, and none is sound.
        """
        restored = self._checkpoints.restore(
            lambda facts: {"state": state, "trunk": state} if facts["has_trunk"] else {"state": state}
        )
        if restored is None:
            return None
        self._saved_steps = restored.step
        facts: Json = dict(restored.facts)
        place = Place(facts["num_steps"], facts["step"], restored.arrays["state"], restored.arrays.get("trunk"))
        return Kept(place, facts, restored.passed_over)

    def consider(self, place: Place, legs: list[Leg], facts: Callable[[], Mapping[str, Any]]) -> None:
        """Saves a place when it is time; every process of a job calls this at the same places.

        Raises:
          Preempted: a notice has come; the place is saved.
        """
        is_preempted = self._heard()
        steps = steps_done(legs, place)
        keeping = self._keeping
        due = keeping.every_steps is not None and steps - self._saved_steps >= keeping.every_steps
        if keeping.every_seconds is not None:
            due = bool(agree(int(due or time.monotonic() - self._saved_at >= keeping.every_seconds)))
        is_end = keeping.after_completion and place.leg == len(legs) - 1 and place.step == legs[-1].num_steps
        if (due or is_preempted or is_end) and steps > self._saved_steps:
            self.save(place, legs, facts)
        if is_preempted:
            self._checkpoints.wait()
            raise Preempted

    def save(self, place: Place, legs: list[Leg], facts: Callable[[], Mapping[str, Any]]) -> None:
        """Saves a place while the job goes on."""
        arrays = {"state": place.state} | ({} if place.trunk is None else {"trunk": place.trunk})
        known = {
            "has_trunk": place.trunk is not None,
            "num_steps": legs[place.leg].num_steps,
            "fork": legs[place.leg].fork,
            "step": place.step,
        }
        steps = steps_done(legs, place)
        self._checkpoints.save(steps, arrays, {**facts(), **known})
        self._saved_at, self._saved_steps = time.monotonic(), steps

    def close(self) -> None:
        """Waits for what is being saved."""
        self._checkpoints.close()

    def finish(self) -> None:
        """Removes the checkpoints of a job whose records are published, unless they are to stay."""
        self._checkpoints.close()
        if not self._keeping.after_completion and jax.process_index() == 0:
            self._folder.rmtree(missing_ok=True)


def steps_done(legs: list[Leg], place: Place) -> int:
    """Returns the steps that a job has done at a place, all legs together."""
    return place.step + sum(leg.num_steps - leg.fork for leg in legs[: place.leg])
