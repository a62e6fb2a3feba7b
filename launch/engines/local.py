"""The local engine: K worker processes on this machine, each on its own cores, fed one job at a time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from launch.engines import DEFAULT, EngineError, Options, Outcome
from launch.jobs import Job, Question, Queue, begun_jobs, divide_seconds, estimate_job
from launch.lock import hold_store
from launch.progress import Progress
from scaling import attempts
from scaling.cell import Cell
from scaling.execution import Execution
from scaling.models.specs import NetworkSpec
from scaling.record import Store
from scaling.sharing import gather_members
from scaling.spec import parse

TRIES = 3  # workers that may die, one after another, before they reach a cell
STDERR_TAIL = 2_000  # characters of a dead worker's last words kept in its attempt


# How long workers may take to save once they are told to stop; a checkpoint of a large model is written in a few.
STOP_SECONDS = 20.0


def default_workers() -> int:
    """Returns one worker a core, or one in all where an NVIDIA GPU is present: workers would fight for its memory."""
    return 1 if Path("/proc/driver/nvidia/gpus").exists() else len(_cores())


def run_cells(cells: Mapping[str, Cell], store: Store, workers: int, options: Options = DEFAULT) -> Outcome:
    """Trains cells in `workers` processes and returns how each ended.

    A crashing cell fails alone; a dying worker fails its cell, or has the cells of its job trained one by one, and is
    replaced. SIGINT or SIGTERM lets the workers save and stops them, a second one does not wait: what is complete or
    saved stays, the rest is left for the next run. A killed launcher takes its workers with it.

    Raises:
      InputError: another launcher holds the store, or it cannot be written.
      EngineError: workers do not start at all.
    """
    with hold_store(store) as inherited:
        for cell in cells.values():
            store.write_cell(cell.canonical_json())
        begun = begun_jobs(cells, store)
        going_on = {cell for job, _ in begun for cell in job}
        others = [cell for cell in cells.values() if cell not in going_on]
        workers = min(workers, len(cells))
        progress = Progress(len(cells), estimate_job(cells.values()))
        sweep = _Sweep(store, Queue(others, workers, options.execution, begun), progress, inherited, options)
        try:
            with _Signals() as signals:
                stopped = sweep.run(_divide_cores(workers), signals)
        finally:
            progress.close()
    return Outcome(sweep.statuses, stopped)


class _Sweep:
    """The state that the threads, one for each worker process, share."""

    def __init__(
        self, store: Store, jobs: Queue, progress: Progress, inherited: Sequence[int], options: Options
    ) -> None:
        self.statuses: dict[str, str] = {}
        self._store, self._queue, self._progress = store, jobs, progress
        self._inherited, self._options = tuple(inherited), options
        self._changed = threading.Condition()  # guards the state, and tells who waits for a job
        self._workers: set[_Worker] = set()
        self._stopping = False
        self._preempted = False
        self._problem: Exception | None = None

    def run(self, shares: Sequence[set[int]], signals: "_Signals") -> bool:
        """Trains until nothing is left; returns whether it was stopped before."""
        threads = [threading.Thread(target=self._drive, args=(cores,), daemon=True) for cores in shares]
        deadline = None
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(0.1)
            if deadline is None and (signals.count or self._preempted):
                deadline = time.monotonic() + STOP_SECONDS
                self._progress.say("stopping: workers save what they can; press Ctrl-C again not to wait")
                self._stop(_Worker.ask_to_stop)
            if signals.count > 1 or (deadline is not None and time.monotonic() > deadline):
                self._stop(_Worker.kill)
        if self._problem is not None:
            raise self._problem
        return deadline is not None

    def _drive(self, cores: set[int]) -> None:
        program: str | None = None
        worker: _Worker | None = None
        try:
            while (found := self._take(program)) is not None:
                program = found.program
                for _ in range(TRIES):
                    worker = worker or self._start(cores)
                    done = self._train(found, worker) if isinstance(found, Job) else self._plan(found, worker)
                    if worker.has_ended:
                        worker.close()
                        worker = None
                    if done or self._stopping:
                        break
                else:
                    self._give_up(found)
        except Exception as error:  # noqa: BLE001  (raised again by `run`, in the thread that can report it)
            if not self._stopping:  # a stop ends workers at any moment, which is no news
                self._problem = error
                self._stop(_Worker.kill)
        finally:
            if worker is not None:
                worker.close()

    def _take(self, program: str | None) -> Job | Question | None:
        """Returns what to do next; waits while it depends on another worker's answer."""
        with self._changed:
            while not self._stopping:
                found = self._queue.take(program)
                if found is not None or not self._queue.is_waiting():
                    return found
                self._changed.wait()
            return None

    def _plan(self, question: Question, worker: "_Worker") -> bool:
        """Lets a worker choose how a program is executed; returns False if it died over it."""
        for reply in worker.ask(
            plan=question.cell.fingerprint(), members=question.num_members, seconds=question.seconds
        ):
            if reply["event"] == "plan":
                execution = parse(Execution, json.dumps(reply["execution"]), "execution")
                self._settle(question, execution, reply["how"])
                return True
            self._note_preempted(reply)
        return False

    def _settle(self, question: Question, execution: Execution, how: str) -> None:
        with self._changed:
            self._queue.plan(question.program, execution)
            model = question.cell.model
            size = f" of {model.num_params:,} parameters" if isinstance(model, NetworkSpec) and model.num_params else ""
            self._progress.say(f"{model.kind}{size}: {_in_words(execution)} ({how})")
            self._changed.notify_all()

    def _train(self, job: Job, worker: "_Worker") -> bool:
        """Lets a worker train a job; returns False if it died before it touched a cell."""
        cells = {cell.fingerprint(): cell for cell in job.cells}
        seconds = divide_seconds(job.cells)
        execution = job.execution.model_dump(mode="json", exclude_defaults=True)
        for reply in worker.ask(train=list(cells), execution=execution):
            if reply["event"] == "record":
                self._note(cells.pop(reply["cell"]), reply["status"], seconds[reply["cell"]])
            elif reply["event"] == "done":
                return True
            self._note_preempted(reply)
        if self._stopping:
            for name in cells:
                self._end_attempt(name, "interrupted", None)
            return True
        words, is_one = worker.last_words(), len(gather_members(job.cells)) == 1
        begun = [self._end_attempt(name, "failed" if is_one else "interrupted", words) for name in cells]
        if not any(begun):
            return False
        if is_one:
            for name, cell in cells.items():
                self._note(cell, "failed", seconds[name])
        else:
            with self._changed:
                self._queue.give_back(job, cells.values())
        return True

    def _give_up(self, found: Job | Question) -> None:
        """Goes on after several workers have died over the same."""
        if isinstance(found, Question):
            self._settle(found, execution=Execution(), how="by default: the measurement ended its process")
            return
        seconds = divide_seconds(found.cells)
        for cell in found.cells:
            if cell.fingerprint() not in self.statuses:
                self._note(cell, "failed", seconds[cell.fingerprint()])

    def _start(self, cores: set[int]) -> "_Worker":
        worker = _Worker(self._store, cores, self._inherited, self._options.worker_flags)
        with self._changed:
            self._workers.add(worker)
            if self._stopping:
                worker.kill()
        worker.wait_until_ready()
        return worker

    def _end_attempt(self, cell: str, outcome: attempts.Outcome, error: str | None) -> bool:
        """Ends the attempt that a dead worker had begun at a cell; returns whether there was one."""
        folder = self._store.cell_path(cell)
        made = attempts.read_attempts(folder)
        begun = bool(made) and made[-1].event == "start"
        if begun:
            attempts.end_attempt(folder, made[-1].attempt, outcome, error)
        return begun

    def _note(self, cell: Cell, status: str, seconds: float) -> None:
        with self._changed:
            self.statuses[cell.fingerprint()] = status
            what = f"{cell.model.kind} m={cell.data.size} seed={cell.seed} ({cell.fingerprint()})"
            self._progress.update(what, status, seconds)

    def _note_preempted(self, reply: Mapping[str, Any]) -> None:
        if reply["event"] == "preempted":  # maybe not by us: who wants one worker's place wants all
            self._preempted = self._stopping = True

    def _stop(self, how: "Callable[[_Worker], None]") -> None:
        with self._changed:
            self._stopping = True
            for worker in self._workers:
                how(worker)
            self._changed.notify_all()


class _Worker:
    """A worker process: takes a JSON document a line, answers with events, one a line."""

    def __init__(self, store: Store, cores: set[int], inherited: Sequence[int], more_flags: Sequence[str]) -> None:
        # A regular file takes any amount of stderr without anybody reading it.
        self.has_ended = False
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
        command = [sys.executable, "-m", "launch.worker", "--serve", f"--store={os.fspath(store.path)}", *more_flags]
        threads = str(max(len(cores), 1))
        self._process: Any = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which then stops the workers
            pass_fds=tuple(inherited),
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        )
        if cores and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(self._process.pid, cores)

    def wait_until_ready(self) -> None:
        if self._read() is None:
            raise EngineError(f"a worker did not start: {self.last_words()}")

    def ask(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Yields the answers to a request, until the caller has enough or the process has ended."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            self.has_ended = True
            return
        while (reply := self._read()) is not None:
            yield reply

    def _read(self) -> dict[str, Any] | None:
        line = self._process.stdout.readline()
        self.has_ended = not line.endswith("\n")
        return None if self.has_ended else json.loads(line)

    def last_words(self) -> str:
        """Returns how a dead process ended, with the end of its standard error."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._stderr.seek(0)
        return f"the worker process ended with {how}\n{self._stderr.read().decode(errors='replace')[-STDERR_TAIL:]}"

    def ask_to_stop(self) -> None:
        """Lets the process save what can be saved, and end."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends the process at once; the store does not mind."""
        self._process.kill()

    def close(self) -> None:
        """Lets an idle process end by itself, and a dead one rest."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._stderr.close()


def _in_words(execution: Execution) -> str:
    fields = execution.model_dump(mode="json", exclude_defaults=True)
    mesh = {f"mesh.{axis}": size for axis, size in fields.pop("mesh", {}).items()}
    return " ".join(f"{path}={value}" for path, value in (fields | mesh).items()) or "one cell after another"


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _divide_cores(workers: int) -> list[set[int]]:
    """Returns each worker's cores: an equal share, or one core in turn when there are more workers than cores.

    Processes that share cores slow each other down, and the number of visible cores changes the last bits of results.
    """
    cores = _cores()
    share = max(len(cores) // workers, 1)
    return [{cores[(i * share + j) % len(cores)] for j in range(share)} for i in range(workers)]


class _Signals:
    """Counts, while it is open, how often the launcher was told to stop."""

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
