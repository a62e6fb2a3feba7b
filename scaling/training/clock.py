"""What a job has taken so far, by the clock of this machine."""

import time
from typing import NamedTuple

from scaling.specs.base import Json


class LegTime(NamedTuple):
    """Seconds of one leg: all of them, and those of its optimiser steps."""

    wall_seconds: float
    train_seconds: float


class Clock:
    """Seconds and steps of a job; saves and restores itself.

    Attributes:
      train_seconds: the seconds of optimiser steps, all legs together, without what was compiled meanwhile.
      timed_steps: that these took.

    Args:
      began: when the job did, by `time.monotonic`.
    """

    def __init__(self, began: float) -> None:
        self._leg_began, self._leg_train_seconds = began, 0.0
        self.train_seconds, self.timed_steps = 0.0, 0

    def note(self, num_steps: int, seconds: float) -> None:
        """Takes what the steps of a chunk took."""
        self.train_seconds += seconds
        self._leg_train_seconds += seconds
        self.timed_steps += num_steps

    def finish_leg(self) -> LegTime:
        """Returns what the leg took; the next one begins now."""
        now = time.monotonic()
        taken = LegTime(now - self._leg_began, self._leg_train_seconds)
        self._leg_began, self._leg_train_seconds = now, 0.0
        return taken

    def state(self) -> Json:
        """Returns what a checkpoint keeps of it."""
        return {
            "seconds": time.monotonic() - self._leg_began,
            "train_seconds": self.train_seconds,
            "leg_train_seconds": self._leg_train_seconds,
            "timed_steps": self.timed_steps,
        }

    def restore(self, facts: Json, *, in_leg: bool) -> None:
        """Goes back to what a checkpoint has kept; the leg's own time only where the job goes on within that leg."""
        self.train_seconds, self.timed_steps = facts["train_seconds"], facts["timed_steps"]
        if in_leg:
            self._leg_began -= facts["seconds"]
            self._leg_train_seconds = facts["leg_train_seconds"]
