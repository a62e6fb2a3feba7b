"""The agent: keeps this machine's worker processes busy with a store's jobs until there is nothing left for them.

Every engine's machines run it, and `scaling run` does on a laptop. Agents on many machines share a store without
knowing of each other: what another has is left to it, and taken over when it falls silent.
"""

import dataclasses
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from launch.coordination.launches import is_cancelled
from launch.coordination.leases import Leases
from launch.coordination.presence import Observer, beat_path
from launch.engines import EngineError
from launch.options import Options
from launch.progress import Ended, EndStatus, Progress
from launch.queue.begun import begun_jobs
from launch.queue.estimates import divide_seconds, estimate_job
from launch.queue.queue import JOIN_SECONDS, Job, Question, Queue, queue_cells
from launch.workers.forks import ForkServer
from launch.workers.replies import CellEnd, CellEnded, JobDone, Planned, Ready, Reply, Stopped, Unusable
from launch.workers.slots import Slot
from launch.workers.worker_process import WorkerProcess
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.specs.models import NetworkSpec
from scaling.specs.sharing import gather_members
from scaling.store import attempts
from scaling.store.store import Store

TRIES = 3  # workers that may die, one after another, before they reach a cell

# How long workers may take to save once they are told to stop; a checkpoint of a large model is written in a few.
STOP_SECONDS = 20.0

LOOK_SECONDS = 2.0  # between two looks at what other agents have


def run_cells(
    cells: Mapping[str, Cell],
    store: Store,
    slots: Sequence[Slot],
    options: Options,
    launch: str,
    *,
    waits: bool,
    server: ForkServer | None = None,
) -> Ended:
    """Trains cells in one worker process a slot and returns how each ended.

    A crashing cell fails alone; a dying worker fails its cell, or has the cells of its job trained one by one, and is
    replaced. SIGINT or SIGTERM lets the workers save and stops them, a second one does not wait: what is complete or
    saved stays, the rest is left for the next run. A killed agent takes its workers with it.

    Args:
      cells: by fingerprint.
      store: where they go.
      slots: the slots of this machine.
      options: how jobs are run.
      launch: that this belongs to.
      waits: whether to wait at the end for cells that others have, and take them over if those are lost.
      server: that forks the workers; None starts an interpreter for each.

    Raises:
      InputError: the store cannot be written.
      EngineError: workers do not start at all.
    """
    slots = slots[: len(cells)]
    jobs = queue_cells(cells, store, len(slots), options.execution)
    progress = Progress(len(cells), estimate_job(cells.values()))
    sweep = _Sweep(store, jobs, progress, options, launch, server, waits=waits)
    try:
        with _Signals() as signals:
            stopped = sweep.run(slots, signals)
    finally:
        progress.close()
    return Ended(sweep.statuses, stopped)


@dataclasses.dataclass
class _HeldCell:
    """A cell that another agent's worker has, and how it would be trained here."""

    cell: Cell
    execution: Execution


class _Sweep:
    """The state that the threads, one for each worker process, share."""

    def __init__(
        self,
        store: Store,
        jobs: Queue,
        progress: Progress,
        options: Options,
        launch: str,
        server: ForkServer | None,
        *,
        waits: bool,
    ) -> None:
        self.statuses: dict[str, EndStatus] = {}
        self._store, self._queue, self._progress = store, jobs, progress
        self._options, self._launch, self._server, self._waits = options, launch, server, waits
        self._observer = Observer(store)
        self._leases = Leases(store, self._observer)
        self._changed = threading.Condition()  # guards the state, and tells who waits for a job
        self._workers: set[WorkerProcess] = set()
        self._held: dict[str, _HeldCell] = {}
        self._silent: dict[str, int] = {}
        self._looked = 0.0
        self._stopping = False
        self._preempted = False
        self._problem: Exception | None = None

    def run(self, slots: Sequence[Slot], signals: "_Signals") -> bool:
        """Trains until nothing is left; returns whether it was stopped before."""
        threads = [threading.Thread(target=self._drive, args=(slot,), daemon=True) for slot in slots]
        deadline, looked = None, time.monotonic()
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(0.1)
            if deadline is None and time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self._preempted |= is_cancelled(self._store, self._launch)
            if deadline is None and (signals.count or self._preempted):
                deadline = time.monotonic() + STOP_SECONDS
                self._progress.say("stopping: workers save what they can; press Ctrl-C again not to wait")
                self._stop(WorkerProcess.ask_to_stop)
            if signals.count > 1 or (deadline is not None and time.monotonic() > deadline):
                self._stop(WorkerProcess.kill)
        if self._problem is not None:
            raise self._problem
        return deadline is not None

    def _drive(self, slot: Slot) -> None:
        program: str | None = None
        worker: WorkerProcess | None = None
        try:
            while (found := self._take(program)) is not None:
                program = found.program
                for _ in range(TRIES):
                    worker = worker or self._start(slot)
                    done = self._train(found, worker) if isinstance(found, Job) else self._plan(found, worker)
                    if worker.has_ended:
                        self._lay_to_rest(worker)
                        worker = None
                    if done or self._stopping:
                        break
                else:
                    self._give_up(found)
        except Exception as error:  # noqa: BLE001  (raised again by `run`, in the thread that can report it)
            if not self._stopping:  # a stop ends workers at any moment, which is no news
                self._problem = error
                self._stop(WorkerProcess.kill)
        finally:
            if worker is not None:
                self._lay_to_rest(worker)

    # --- what to do next --------------------------------------------------------------------------------------------

    def _take(self, program: str | None) -> Job | Question | None:
        """Returns what to do next; waits while that depends on another worker's answer, or on other agents.

        What others have compiled and will be done with soon is left to them for a while.
        """
        began = time.monotonic()
        with self._changed:
            while not self._stopping:
                left = began + JOIN_SECONDS - time.monotonic()
                found = self._queue.take(program, joins=left <= 0)
                if found is not None:
                    if self._queue.is_done():
                        self._changed.notify_all()
                    return found
                if self._queue.is_waiting():
                    self._changed.wait()
                elif not self._queue.is_done():
                    self._changed.wait(max(left, 0.0))
                elif self._held and self._waits:
                    self._look_at_held()
                    self._changed.wait(LOOK_SECONDS)
                else:
                    return None
            return None

    def _look_at_held(self) -> None:
        """Takes back, of the cells that others have, those that are free again, and notes those that are complete."""
        if time.monotonic() - self._looked < LOOK_SECONDS / 2:
            return
        self._looked = time.monotonic()
        free: dict[str, _HeldCell] = {}
        for name, held in list(self._held.items()):
            record = self._store.read_record(name)
            if record is not None:
                del self._held[name]
                self._note(held.cell, record.status)
                continue
            worker = self._leases.holder(name)
            if worker is None or self._observer.is_silent(worker):
                if worker is not None:
                    self._silent[worker] = self._observer.count_of(worker)
                free[name] = self._held.pop(name)
        begun = begun_jobs({name: held.cell for name, held in free.items()}, self._store)
        for job, execution in begun:
            self._queue.go_on(job, self._options.execution or execution)
        going_on = {cell for job, _ in begun for cell in job}
        for held in free.values():
            if held.cell not in going_on:
                self._queue.go_on((held.cell,), held.execution)

    def _hold(self, cell: Cell, execution: Execution) -> None:
        with self._changed:
            if not self._held and self._waits:
                self._progress.say("some cells are being trained by others on this store; this run waits for them last")
            self._held[cell.fingerprint()] = _HeldCell(cell, execution)

    # --- workers ----------------------------------------------------------------------------------------------------

    def _plan(self, question: Question, worker: WorkerProcess) -> bool:
        """Lets a worker choose how a program is executed; returns False if it died over it."""
        for reply in worker.ask(
            plan=question.cell.fingerprint(), members=question.num_members, seconds=question.seconds
        ):
            if isinstance(reply, Planned):
                self._settle(question, reply.execution, reply.how)
                return True
            self._note_end(reply)
        return False

    def _settle(self, question: Question, execution: Execution, how: str) -> None:
        with self._changed:
            self._queue.plan(question.program, execution)
            model = question.cell.model
            size = f" of {model.num_params:,} parameters" if isinstance(model, NetworkSpec) and model.num_params else ""
            self._progress.say(f"{model.kind}{size}: {_in_words(execution)} ({how})")
            self._changed.notify_all()

    def _train(self, job: Job, worker: WorkerProcess) -> bool:
        """Lets a worker train a job; returns False if it died before it touched a cell."""
        cells = {cell.fingerprint(): cell for cell in job.cells}
        seconds = divide_seconds(job.cells)
        execution = job.execution.model_dump(mode="json", exclude_defaults=True)
        for reply in worker.ask(train=list(cells), execution=execution, silent=self._silent):
            if isinstance(reply, CellEnded):
                self._take_note(job, cells.pop(reply.cell), reply.status, seconds[reply.cell])
            elif isinstance(reply, JobDone):
                worker.keep_log()
                return True
            else:
                self._note_end(reply)
        words, is_one = worker.last_words(), len(gather_members(job.cells)) == 1
        if self._stopping:
            for name in cells:
                self._end_attempt(name, worker, "interrupted", None)
            return True
        begun = [self._end_attempt(name, worker, "failed" if is_one else "interrupted", words) for name in cells]
        if not any(begun):
            return False
        self._give_back(job, list(cells.values()))  # the next worker finds those that have failed too often
        return True

    def _take_note(self, job: Job, cell: Cell, status: CellEnd, seconds: float) -> None:
        """Does what follows from how a cell of a job has ended in a worker."""
        match status:
            case "held":
                self._hold(cell, job.execution)
            case "again":
                self._give_back(job, [cell])
            case "ok" | "diverged" | "failed":
                self._note(cell, status, seconds)
            case _:
                assert_never(status)

    def _give_back(self, job: Job, cells: Sequence[Cell]) -> None:
        with self._changed:
            self._queue.give_back(job, cells)
            self._changed.notify_all()

    def _give_up(self, found: Job | Question) -> None:
        """Goes on after several workers have died over the same."""
        if isinstance(found, Question):
            self._settle(found, execution=Execution(), how="by default: the measurement ended its process")
            return
        seconds = divide_seconds(found.cells)
        for cell in found.cells:
            if cell.fingerprint() not in self.statuses:
                self._note(cell, "failed", seconds[cell.fingerprint()])

    def _start(self, slot: Slot) -> WorkerProcess:
        """Returns a worker that is ready; one that is killed before, for its memory say, is replaced a few times.

        Raises:
          EngineError: none becomes ready.
        """
        ended = ""
        for _ in range(TRIES):
            name = f"{self._launch}-{socket.gethostname()}-{uuid.uuid4().hex[:6]}"
            worker = WorkerProcess(self._store, slot, self._options, self._launch, name, self._server)
            with self._changed:
                self._workers.add(worker)
                if self._stopping:
                    worker.kill()
            ended = worker.wait_until_ready()
            if not ended:
                return worker
            self._lay_to_rest(worker)
            if self._stopping:
                break
        raise EngineError(f"{TRIES} workers were ended, one after another, before they were ready: {ended}")

    def _lay_to_rest(self, worker: WorkerProcess) -> None:
        """Waits for a worker that has ended or is about to, and removes what it may have left."""
        worker.close()
        with self._changed:
            self._workers.discard(worker)
        if worker.worker is not None:
            beat_path(self._store, worker.worker).unlink(missing_ok=True)

    def _end_attempt(self, cell: str, worker: WorkerProcess, outcome: attempts.Outcome, error: str | None) -> bool:
        """Ends the attempt that a dead worker had begun at a cell, and its lease; returns whether there was one."""
        folder = self._store.cell_path(cell)
        begun = attempts.open_attempt(folder)
        is_its = begun is not None and begun.worker == worker.worker
        if begun is not None and is_its:
            attempts.end_attempt(folder, begun.attempt, outcome, error)
        self._leases.release_for(cell, worker.worker or "")
        return is_its

    # --- what is told -----------------------------------------------------------------------------------------------

    def _note(self, cell: Cell, status: EndStatus, seconds: float = 0.0) -> None:
        with self._changed:
            self.statuses[cell.fingerprint()] = status
            self._progress.update(cell, status, seconds)

    def _note_end(self, reply: Reply) -> None:
        """Takes a worker's last reply for all of them.

        Raises:
          InputError: the store cannot be used.
        """
        match reply:
            case Stopped():  # maybe not by us: who wants one worker's place wants all
                self._preempted = self._stopping = True
            case Unusable():
                raise InputError(reply.error)
            case Ready() | Planned() | CellEnded() | JobDone():
                raise EngineError(f"a worker has said {reply.event!r}, which nobody has asked it")
            case _:
                assert_never(reply)

    def _stop(self, how: Callable[[WorkerProcess], None]) -> None:
        with self._changed:
            self._stopping = True
            for worker in self._workers:
                how(worker)
            self._changed.notify_all()


def _in_words(execution: Execution) -> str:
    fields = execution.model_dump(mode="json", exclude_defaults=True)
    mesh = {f"mesh.{axis}": size for axis, size in fields.pop("mesh", {}).items()}
    return " ".join(f"{path}={value}" for path, value in (fields | mesh).items()) or "one cell after another"


class _Signals:
    """Counts, while it is open, how often the agent was told to stop."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, self._hear) for number in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, *_: object) -> None:
        self.count += 1
