"""Cells as jobs: which share a compiled program and go together, and who gets the next."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from launch.queue.begun import begun_jobs
from launch.queue.estimates import estimate_job, estimate_seconds
from scaling.specs.cell import Cell
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.sharing import bundle, gather_members, program_key
from scaling.store.store import Store

# A worker that joins others at a program compiles it, too: not worth it for less work than this for each of them.
# Estimates may be ten times off, so nobody waits for long on one.
SHORT_SECONDS, JOIN_SECONDS = 3.0, 10.0


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
      execution: the execution of all programs; None asks for each.
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

    def take(self, program: str | None, *, joins: bool = True) -> Job | Question | None:
        """Returns what a worker that last ran `program` does next; None when there is nothing for it now.

        A worker that has run out of its own program's cells takes the program with the most work left per worker.

        Args:
          program: the program; None for none yet.
          joins: whether it may take a program that others have and will be done with soon.
        """
        if self._first:
            return self._first.pop()
        if program is None or not self._jobs.get(program):
            open_ = [
                key
                for key in self._users
                if (self._jobs.get(key) or (key in self._waiting and key not in self._asked))
                and (joins or not self._is_short(key))
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

    def is_done(self) -> bool:
        """Returns whether all that there was has been taken."""
        return not (self._first or self._waiting or any(self._jobs.values()))

    def _is_short(self, program: str) -> bool:
        """Returns whether a program that others have compiled is better left to them."""
        is_compiled = program in self._waiting or self._jobs[program][-1].cells[0].training is not None
        return is_compiled and self._users[program] > 0 and self._work_per_user(program) < SHORT_SECONDS

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
      execution: the execution of all programs; None asks for each.
    """
    store.write_cells(cell.canonical_json() for cell in cells.values())
    begun = begun_jobs(cells, store)
    going_on = {cell for job, _ in begun for cell in job}
    return Queue([cell for cell in cells.values() if cell not in going_on], workers, execution, begun)
