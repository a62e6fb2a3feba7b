"""Cells → jobs: what is left to do, which cells share a compiled program, and roughly how long each takes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from scaling.specs.base import InputError, Spec, canonical_json, override, parse
from scaling.specs.cell import Cell
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.models import NetworkSpec
from scaling.specs.sharing import bundle, gather_members, program_key, trunk_of
from scaling.specs.study import Study
from scaling.specs.training import WSDSchedule
from scaling.store.files import write_atomically
from scaling.store.store import Store

# In the folder of a job's checkpoints: which cells it has.
BEGUN = "job.json"

# Seconds on one CPU core, measured on the demo study. They decide the order of cells and the first guess of the time
# left, which then follows what is seen; nothing else depends on them.
STEP_SECONDS = 1.5e-4
FLOPS_PER_SECOND = 5e10
CLASSICAL_SECONDS: dict[str, Callable[[Any, int], float]] = {  # by model and m
    "logistic_regression": lambda _, m: 1e-4 * m,
    "linear_svm": lambda _, m: 2e-5 * m,
    "random_forest": lambda model, m: 3e-6 * model.num_trees * m,
    "rbf_svm": lambda _, m: 1e-4 * m + 5e-7 * m * m,
    "gradient_boosting": lambda model, m: model.num_iterations * (3e-3 + 1e-6 * m),
    "naive_bayes": lambda _, m: 1e-3 + 1.5e-6 * m,
    "ridge": lambda _, m: 1e-2 + 2e-4 * m,
}


class Scale(NamedTuple):
    """What a network's size and cost follow from, within an order of magnitude, where its data has not been read.

    Attributes:
      params: N over depth · width².
      uses: how often an example uses each parameter: in every place of an image, for every token, or once.
    """

    params: float
    uses: float


# From published networks at 224 × 224 (He et al. 2015; Simonyan & Zisserman 2014; Szegedy et al. 2014; Chollet 2016),
# and 64 tokens.
SCALES = {
    "mlp": Scale(1, 1),
    "convnet": Scale(50, 30),
    "resnet": Scale(22, 150),
    "inception": Scale(6.5, 220),
    "xception": Scale(0.7, 370),
    "lstm": Scale(8, 64),
    "transformer": Scale(12, 64),
    "vit": Scale(12, 64),
}


def missing_cells(study: Study, store: Store) -> dict[str, Cell]:
    """Returns the study's cells without a record, by fingerprint; failed and interrupted ones count as missing."""
    return {name: cell for name, cell in study.cells.items() if not store.is_complete(name)}


def estimate_seconds(cell: Cell, train_flops: float | None = None) -> float:
    """Returns a rough time for a cell on one CPU core.

    Args:
      cell: what would be trained.
      train_flops: of a whole run of a network, where they are known (`describe_cell` counts them, but reads the data);
        None guesses them from the specification alone.
    """
    if not isinstance(cell.model, NetworkSpec):
        return CLASSICAL_SECONDS[cell.model.kind](cell.model, cell.data.size)
    assert cell.training is not None  # noqa: S101  (Cell requires it of networks)
    if train_flops is None:
        train_flops = _guess_example_flops(cell.model) * cell.training.num_steps * cell.training.batch_size
    return cell.training.num_steps * STEP_SECONDS + train_flops / FLOPS_PER_SECOND


def _guess_example_flops(model: Any) -> float:
    """Returns about 6 FLOPs for each use of a parameter: 2 forward and 4 backward."""
    scale = SCALES[model.kind]
    num_params = model.num_params or scale.params * max(model.depth or 1, 1) * model.width**2
    return 6.0 * num_params * scale.uses


def paid_shares(cells: Iterable[Cell]) -> dict[str, float]:
    """Returns which share of its own run each cell adds to what is trained, by fingerprint.

    That is 1, but for a leaf of a branch tree: the trunk up to the fork before is paid by the shorter ones.
    """
    found = {}
    for member in gather_members(cells):
        trunk_steps = 0
        for cell in member:
            found[cell.fingerprint()] = 1.0
            if (training := cell.training) is not None and isinstance(training.schedule, WSDSchedule):
                found[cell.fingerprint()] = 1.0 - trunk_steps / training.num_steps
                trunk_steps = training.schedule.decay_start(training.num_steps)
    return found


def divide_seconds(cells: Iterable[Cell]) -> dict[str, float]:
    """Returns a rough time on one CPU core for each cell of a job, by fingerprint."""
    cells = list(cells)
    shares = paid_shares(cells)
    return {cell.fingerprint(): shares[cell.fingerprint()] * estimate_seconds(cell) for cell in cells}


def estimate_job(cells: Iterable[Cell]) -> float:
    """Returns a rough time for the cells of a job, one after another on one CPU core."""
    return math.fsum(divide_seconds(cells).values())


# --- jobs that were begun -------------------------------------------------------------------------------------------


class Begun(Spec):
    """What `checkpoints/job.json` of a job's leader holds: enough to form the same job again, and so go on with it.

    Attributes:
      cells: fingerprints of all its cells.
      execution: how it was run.
    """

    cells: tuple[str, ...]
    execution: Execution


def note_begun(folder: epath.Path, cells: Sequence[Cell], execution: Execution) -> None:
    """Writes which job keeps its checkpoints in a folder."""
    begun = Begun(cells=tuple(cell.fingerprint() for cell in cells), execution=execution)
    write_atomically(folder / BEGUN, begun.canonical_json())


def begun_jobs(cells: Mapping[str, Cell], store: Store) -> list[tuple[tuple[Cell, ...], Execution]]:
    """Returns the jobs that have checkpoints, with the cells that they still miss and how they were run.

    A job of which some member is complete is left out: what is kept holds all of them. Leaves may be complete.

    Args:
      cells: without records, by fingerprint.
      store: where they will go.
    """
    found, taken = [], set[Cell]()
    for name, leader in cells.items():
        path = store.cell_path(name) / "checkpoints" / BEGUN
        if leader.training is None or not path.exists():
            continue
        try:
            begun = parse(Begun, path.read_text(), str(path))
        except InputError:  # torn, or of another version: the cells are trained anew, as they were found
            continue
        job = tuple(cells[cell] for cell in begun.cells if cell in cells)
        trunks = {trunk_of(cell) for cell in job}
        others = [cell for cell in begun.cells if cell not in cells]
        is_whole = all(
            cell_file(store, cell).exists() and trunk_of(read_cell(store, cell)) in trunks for cell in others
        )
        if is_whole and not taken.intersection(job):
            found.append((job, begun.execution))
            taken.update(job)
    return found


def cell_file(store: Store, name: str) -> epath.Path:
    """Returns where a store keeps a cell, by its fingerprint."""
    return store.cell_path(name) / "cell.json"


def read_cell(store: Store, name: str) -> Cell:
    """Returns a cell of a store by its fingerprint."""
    path = cell_file(store, name)
    return parse(Cell, path.read_text(), str(path))


def parse_execution(given: Sequence[str]) -> Execution | None:
    """Returns the execution that a user asks for: JSON, or `PATH=VALUE` over the defaults; None for no wish.

    Raises:
      InputError: there is no such field, or it does not take this value.
    """
    if not given:
        return None
    first, *others = given if given[0].lstrip().startswith("{") else ("{}", *given)
    try:
        (execution,) = override([parse(Execution, first, "--execution")], others)
    except InputError as error:
        raise InputError(str(error).replace("--set", "--execution")) from None
    return execution


def read_study(store: Store) -> Study:
    """Returns the study that a store holds."""
    return parse(Study, canonical_json(store.study), str(store.path / "study.json"))


# --- the queue ------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """Cells that a worker trains together.

    Attributes:
      program: its name.
      cells: in the order of `scaling.specs.sharing.bundle`.
      execution: how.
      seconds: what they take, roughly, on one core.
    """

    program: str
    cells: tuple[Cell, ...]
    execution: Execution
    seconds: float

    @classmethod
    def of(cls, cells: tuple[Cell, ...], execution: Execution) -> "Job":
        """Returns the job of some cells that share a program."""
        return cls(program_key(cells[0]), cells, execution, estimate_job(cells))


class Question(NamedTuple):
    """How shall a program be executed? Only a worker, which sees the devices, can tell; `Queue.plan` takes the answer.

    Attributes:
      program: its name.
      cell: one that it serves.
      num_members: the most members that a job could have.
      seconds: that all its cells take, roughly, on one core.
    """

    program: str
    cell: Cell
    num_members: int
    seconds: float


class Queue:
    """Cells waiting for workers: longest job first, and a worker keeps to the program that it has compiled.

    Args:
      cells: to train.
      workers: how many take jobs.
      execution: of all programs; None asks for each.
      begun: jobs to go on with, of other cells, each with its execution; they are handed out first.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        workers: int = 1,
        execution: Execution | None = None,
        begun: Iterable[tuple[tuple[Cell, ...], Execution]] = (),
    ) -> None:
        self._workers, self._execution = workers, execution
        self._waiting: dict[str, list[Cell]] = {}  # cells of programs whose execution is not known
        self._asked: set[str] = set()
        self._jobs: dict[str, list[Job]] = {}  # shortest first
        self._first = [Job.of(job, execution or before) for job, before in begun]
        for cell in sorted(cells, key=estimate_seconds):
            self._waiting.setdefault(program_key(cell), []).append(cell)
        self._users = dict.fromkeys(self._waiting, 0)
        self._work = {program: estimate_job(found) for program, found in self._waiting.items()}  # that is left, seconds
        for program, found in list(self._waiting.items()):
            if found[0].training is None:
                self.plan(program, DEFAULT)
            elif execution is not None:
                self.plan(program, execution)

    def take(self, program: str | None) -> Job | Question | None:
        """Returns what a worker that last ran `program` does next; None when there is nothing for it now.

        A worker that has run out of its own program's cells takes the program with the most work left per worker.
        """
        if self._first:
            return self._first.pop()
        if program is None or not self._jobs.get(program):
            open_ = [
                key for key in self._users if self._jobs.get(key) or (key in self._waiting and key not in self._asked)
            ]
            if not open_:
                return None
            program = max(open_, key=self._work_per_user)
            self._users[program] += 1
        if program not in self._waiting:
            job = self._jobs[program].pop()
            self._work[program] -= job.seconds
            return job
        self._asked.add(program)
        cells = self._waiting[program]
        most = max(self._most_members(group) for group in bundle(cells, len(cells)))
        return Question(program, cells[-1], most, self._work[program])

    def is_waiting(self) -> bool:
        """Returns whether a worker that was given nothing should ask again once a question is answered."""
        return bool(self._asked)

    def plan(self, program: str, execution: Execution) -> None:
        """Takes how a program's cells are executed, and divides them into jobs."""
        cells, multiple = self._waiting[program], execution.mesh.population
        jobs: list[Job] = []
        for group in bundle(cells, len(cells)):
            width = self._width(program, group, execution.population) // multiple * multiple
            together = bundle(group, width, multiple=multiple) if width else bundle(group, 1)
            jobs.extend(Job.of(job, execution) for job in together)
        self._jobs[program] = sorted(jobs, key=lambda job: job.seconds)
        self._waiting.pop(program)
        self._asked.discard(program)

    def give_back(self, job: Job, cells: Iterable[Cell]) -> None:
        """Takes cells of a job back, to be handed out one member at a time."""
        self._first.extend(Job.of(member, job.execution) for member in gather_members(cells))

    def go_on(self, cells: tuple[Cell, ...], execution: Execution) -> None:
        """Takes a job that was begun elsewhere, to be handed out before what has not begun."""
        self._first.append(Job.of(cells, execution))

    def _most_members(self, group: Sequence[Cell]) -> int:
        """Returns how many members of a group a job may have so that it takes no more than a worker's share of all."""
        members = gather_members(group)
        share = math.fsum(self._work.values()) / self._workers
        return max(1, min(len(members), math.ceil(share * len(members) / estimate_job(group) - 1e-9)))

    def _width(self, program: str, group: Sequence[Cell], population: int) -> int:
        """Returns the most members of a job of a group, so that all workers have work at the end."""
        num_members, width = len(gather_members(group)), min(population, self._most_members(group))
        num_jobs = -(-num_members // width)
        if num_jobs > 1 and not self._has_others(program):
            num_jobs = -(-num_jobs // self._workers) * self._workers
        return -(-num_members // num_jobs)

    def _has_others(self, program: str) -> bool:
        return any(self._jobs.get(other) or other in self._waiting for other in self._users if other != program)

    def _work_per_user(self, program: str) -> float:
        return self._work[program] / (1 + self._users[program])


def queue_cells(cells: Mapping[str, Cell], store: Store, workers: int = 1, execution: Execution | None = None) -> Queue:
    """Returns cells as jobs, beginning with those that have checkpoints; the store knows all of them from now on.

    Args:
      cells: without records, by fingerprint.
      store: where they go.
      workers: how many take jobs.
      execution: of all programs; None asks for each.
    """
    for cell in cells.values():
        store.write_cell(cell.canonical_json())
    begun = begun_jobs(cells, store)
    going_on = {cell for job, _ in begun for cell in job}
    return Queue([cell for cell in cells.values() if cell not in going_on], workers, execution, begun)
