"""The cells of a job on their way: what was evaluated so far, what became of each, and what each is charged with."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scaling.specs.base import Json
from scaling.specs.cell import NetworkCell
from scaling.specs.sharing import Tree
from scaling.store.record import Evaluation
from scaling.training.loop import Leg, evaluation_steps


class Measured(NamedTuple):
    """What became of one cell.

    Attributes:
      status: `ok` or `diverged`.
      evaluations: in order.
      trunk: the branch tree's name, where the cell was a leaf of one.
      spent_steps: optimiser steps that this cell added to the job.
      wall_seconds, train_seconds: its share of the job's.
      waiting_seconds: the seconds that the device waited, for streamed data; None where data was resident.
      mfu: the MFU of the job; None where the device's peak is not known.
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

    def __init__(self, cell: NetworkCell) -> None:
        self.cell, self.training, self.name = cell, cell.training, cell.fingerprint()
        self.stops = frozenset(evaluation_steps(cell.training))
        self.evaluations: list[Evaluation] = []
        self.status: str | None = None
        self.steps_to_target: int | None = None
        self.marked = (0, 0.0)
        self.spikes = 0

    def mark_loss(self, step: int, total: float) -> dict[str, float]:
        """Returns the mean of the training losses since the last evaluation as `train_loss`, where it is finite.

        Args:
          step: the step of this evaluation.
          total: sum of the training losses of all steps up to it.
        """
        before, total_before = self.marked
        self.marked = (step, total)
        mean = (total - total_before) / (step - before)
        return {"train_loss": mean} if math.isfinite(mean) else {}

    def state(self) -> Json:
        """Returns what a checkpoint keeps of it."""
        return {
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in self.evaluations],
            "status": self.status,
            "steps_to_target": self.steps_to_target,
            "marked": [self.marked[0], self.marked[1].hex()],
            "spikes": self.spikes,
        }

    def restore(self, kept: Json) -> None:
        """Goes back to what a checkpoint has kept."""
        self.evaluations = [Evaluation.model_validate(evaluation) for evaluation in kept["evaluations"]]
        self.status, self.steps_to_target = kept["status"], kept["steps_to_target"]
        self.marked = (kept["marked"][0], float.fromhex(kept["marked"][1]))
        self.spikes = kept["spikes"]


class Leaves:
    """All cells of a job, by member and leg: which of them a step belongs to, and who pays for it.

    Args:
      tree: the cells.
      legs: the legs of their runs.
    """

    def __init__(self, tree: Tree, legs: Sequence[Leg]) -> None:
        self._legs = legs
        self._members = [[Leaf(cell) for cell in cells] for cells in tree.cells]  # [P][legs]
        self._paid = [0] * len(self._members)  # steps of each member's path that earlier leaves account for

    def __len__(self) -> int:
        """Returns the number of members, P."""
        return len(self._members)

    @property
    def has_branches(self) -> bool:
        """Whether the job is a branch tree, and no single run of each member."""
        return len(self._legs) > 1

    def all(self) -> list[Leaf]:
        """Returns every leaf."""
        return [leaf for leaves in self._members for leaf in leaves]

    def of_leg(self, leg: int) -> list[Leaf]:
        """Returns the leaf that ends a leg, of each member."""
        return [leaves[leg] for leaves in self._members]

    def left(self, leg: int) -> list[Leaf]:
        """Returns the leaves that end a leg or a later one."""
        return [leaf for leaves in self._members for leaf in leaves[leg:]]

    def on_path(self, leg: int, step: int) -> Iterator[tuple[int, Leaf]]:
        """Yields (number of the member, leaf) of all leaves whose run goes through a step of a leg."""
        on_trunk = step <= self._legs[leg].fork
        for index, leaves in enumerate(self._members):
            for leaf in leaves[leg:] if on_trunk else leaves[leg : leg + 1]:
                yield index, leaf

    def charge(self, leg: int) -> list[int]:
        """Returns the steps that each member's leaf of a leg added to the job, and notes that they are paid."""
        spent = []
        for index, leaf in enumerate(self.of_leg(leg)):
            last = leaf.evaluations[-1].step or 0
            spent.append(max(0, last - self._paid[index]))
            self._paid[index] = max(self._paid[index], min(last, self._legs[leg].fork))
        return spent

    def state(self) -> Json:
        """Returns what a checkpoint keeps of them."""
        return {"leaves": {leaf.name: leaf.state() for leaf in self.all()}, "paid": list(self._paid)}

    def are_in(self, facts: Json) -> bool:
        """Returns whether a checkpoint knows every one of them."""
        return all(leaf.name in facts["leaves"] for leaf in self.all())

    def restore(self, facts: Json, *, paid_steps: int | None = None) -> None:
        """Goes back to what a checkpoint has kept.

        Args:
          facts: the facts of the checkpoint.
          paid_steps: of every member's path, where the record of the leaf that was on its way stands since.
        """
        for leaf in self.all():
            leaf.restore(facts["leaves"][leaf.name])
        self._paid = list(facts["paid"]) if paid_steps is None else [paid_steps] * len(self._members)
