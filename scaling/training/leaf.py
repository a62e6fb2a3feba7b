"""One cell on its way through a job: what was evaluated so far, and what became of it."""

from typing import Any, NamedTuple

from scaling.specs.cell import Cell
from scaling.store.record import Evaluation
from scaling.training.loop import evaluation_steps


class Measured(NamedTuple):
    """What became of one cell.

    Attributes:
      status: `ok` or `diverged`.
      evaluations: in order.
      trunk: the branch tree's name, where the cell was a leaf of one.
      spent_steps: optimiser steps that this cell added to the job.
      wall_seconds, train_seconds: its share of the job's.
      waiting_seconds: of the device, for streamed data; None where data was resident.
      mfu: of the job; None where the device's peak is not known.
      steps_to_target: None while the target is not reached.
      loss_spikes: steps whose loss lay far above the ones before.
      num_resumes: how often the job went on from a checkpoint.
      notices: what happened that a person should know.
    """

    status: str
    evaluations: tuple[Evaluation, ...]
    trunk: str | None
    spent_steps: int
    wall_seconds: float
    train_seconds: float
    waiting_seconds: float | None
    mfu: float | None
    steps_to_target: int | None
    loss_spikes: int
    num_resumes: int
    notices: tuple[str, ...]


class Leaf:
    """One cell on its way.

    Attributes:
      cell: what is trained.
      name: its fingerprint.
      stops: steps after which it is evaluated.
      evaluations: so far.
      status: `ok` or `diverged` once it is over; None before.
      steps_to_target: None while the target is not reached.
      marked: (steps, sum of training losses) at the last evaluation.
      spikes: steps whose loss lay far above, when it was last looked at.
    """

    def __init__(self, cell: Cell) -> None:
        assert cell.training is not None  # noqa: S101  (networks have it)
        self.cell, self.training, self.name = cell, cell.training, cell.fingerprint()
        self.stops = frozenset(evaluation_steps(cell.training))
        self.evaluations: list[Evaluation] = []
        self.status: str | None = None
        self.steps_to_target: int | None = None
        self.marked = (0, 0.0)
        self.spikes = 0

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of it."""
        return {
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in self.evaluations],
            "status": self.status,
            "steps_to_target": self.steps_to_target,
            "marked": [self.marked[0], self.marked[1].hex()],
            "spikes": self.spikes,
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Goes back to what a checkpoint has kept."""
        self.evaluations = [Evaluation.model_validate(evaluation) for evaluation in kept["evaluations"]]
        self.status, self.steps_to_target = kept["status"], kept["steps_to_target"]
        self.marked = (kept["marked"][0], float.fromhex(kept["marked"][1]))
        self.spikes = kept["spikes"]
