"""Which cells share what: a compiled program, a trunk, a job; known from their specifications alone."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

from scaling.specs.base import canonical_json, fingerprint_text
from scaling.specs.cell import Cell, NetworkCell
from scaling.specs.schedules import WSDSchedule
from scaling.specs.training import TrainingSpec

# Fields of a cell's data that are values of arrays, or change nothing but these.
DATA_VALUES = {"size", "order", "label_noise", "duplication", "normalize"}


def program_training(training: TrainingSpec) -> TrainingSpec:
    """Returns how a program is trained: what its cells do not share, array values and points in time, is set aside.

    Cells with equal models, data sources and program trainings share one compilation.
    """
    optimizer = training.optimizer.model_copy(update={"peak_lr": 1.0, "weight_decay": 0.0})
    aside = {"num_steps": 1, "num_evaluations": 1, "evaluate_every": None, "target_loss": None}
    return training.model_copy(update={"optimizer": optimizer, **aside})


def program_key(cell: Cell) -> str:
    """Returns a name that cells share if and only if one compilation serves them.

    Such cells may differ in seed, m, order, noise, duplicates, number of steps, peak learning rate and weight decay.
    """
    data = cell.data.model_dump(mode="json", exclude=DATA_VALUES)
    training = None if cell.training is None else program_training(cell.training).model_dump(mode="json")
    document = {"model": cell.model.model_dump(mode="json"), "data": data, "training": training}
    return fingerprint_text(canonical_json(document))


def trunk_of(cell: NetworkCell) -> str:
    """Returns a name that cells share if and only if they differ in their number of steps at most."""
    return fingerprint_text(
        cell.model_copy(update={"training": cell.training.model_copy(update={"num_steps": 1})}).canonical_json()
    )


class Tree(NamedTuple):
    """The cells of a job: every member has a leaf of every length.

    Attributes:
      cells: [P][number of lengths], shortest run first.
    """

    cells: tuple[tuple[NetworkCell, ...], ...]

    @property
    def trainings(self) -> list[TrainingSpec]:
        """Of the first member's leaves."""
        return [cell.training for cell in self.cells[0]]

    @property
    def name(self) -> str:
        """The job's name: of its members, whatever their lengths."""
        return fingerprint_text(" ".join(trunk_of(member[0]) for member in self.cells))

    @property
    def leader(self) -> str:
        """The fingerprint of the cell that keeps the job's checkpoints: one of those that end last."""
        return self.cells[0][-1].fingerprint()


def plant(cells: Sequence[NetworkCell]) -> Tree:
    """Returns the cells by member and length.

    Raises:
      ValueError: some member lacks a length that another has, or the cells cannot be trained as one job.
    """
    members: dict[str, list[NetworkCell]] = {}
    for cell in cells:
        members.setdefault(trunk_of(cell), []).append(cell)
    ordered = tuple(tuple(sorted(leaves, key=_num_steps)) for leaves in members.values())
    if len({tuple(map(_num_steps, member)) for member in ordered}) != 1:
        raise ValueError("cells of different lengths: each member of a job needs a leaf of every length")
    if len(set(map(_togetherness, ordered))) != 1:
        raise ValueError("cells of different programs or points of evaluation: `bundle` says which can be one job")
    if len(ordered[0]) > 1 and not has_trunk(ordered[0][0]):
        raise ValueError("cells of different lengths, whose schedule is not wsd: they share no trunk; train them apart")
    return Tree(ordered)


def bundle(cells: Iterable[Cell], population: int, *, multiple: int = 1) -> list[tuple[Cell, ...]]:
    """Returns the cells as jobs that `plant` accepts, in the order of their first cells.

    Leaves of one trunk are in one job, so that the trunk is paid once. Members of a job share a program, lengths and
    points of evaluation. Members that could all be together are divided into as few jobs as possible, all of about one
    size. Equal cells in equal order make equal jobs.

    Args:
      cells: all different.
      population: the most members of a job, at least 1.
      multiple: of this are the members of a job, where they are not one; it divides `population`.
    """
    groups: dict[tuple[object, ...], list[tuple[Cell, ...]]] = {}
    for member in gather_members(cells):
        groups.setdefault(_togetherness(member), []).append(member)
    jobs = []
    for members in groups.values():
        start = 0
        for size in _divide(len(members), population, multiple):
            jobs.append(tuple(cell for member in members[start : start + size] for cell in member))
            start += size
    return jobs


def _divide(count: int, most: int, multiple: int) -> list[int]:
    """Returns sizes that add up to `count`: multiples of `multiple` up to `most`, largest first, then ones.

    >>> _divide(9, 4, 1), _divide(9, 4, 2)
    ([3, 3, 3], [4, 4, 1])
    """
    whole = count // multiple  # so many units of `multiple`
    num_jobs = -(-whole * multiple // most)
    sizes = [multiple * (whole // num_jobs + (number < whole % num_jobs)) for number in range(num_jobs)]
    return sizes + [1] * (count - whole * multiple)


def gather_members(cells: Iterable[Cell]) -> list[tuple[Cell, ...]]:
    """Returns the cells by member of a population: the leaves of one trunk, shortest run first, or one cell."""
    members: dict[str, list[Cell]] = {}
    for cell in cells:
        members.setdefault(trunk_of(cell) if has_trunk(cell) else cell.fingerprint(), []).append(cell)
    return [tuple(sorted(member, key=_num_steps)) if len(member) > 1 else tuple(member) for member in members.values()]


def has_trunk(cell: Cell) -> TypeGuard[NetworkCell]:
    """Returns whether runs of other lengths share the beginning of this one."""
    return cell.training is not None and isinstance(cell.training.schedule, WSDSchedule)


def _togetherness(member: Sequence[Cell]) -> tuple[object, ...]:
    """Returns what members of one job have in common; an estimator has nothing in common with others."""
    training = member[0].training
    if training is None:
        return (member[0].fingerprint(),)
    points = (training.num_evaluations, training.evaluate_every)
    return (program_key(member[0]), tuple(map(_num_steps, member)), *points)


def _num_steps(cell: Cell) -> int:
    return 0 if cell.training is None else cell.training.num_steps
