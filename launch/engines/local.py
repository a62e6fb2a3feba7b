"""The local engine: K worker processes on this machine, each on its own cores, fed one cell at a time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from launch.engines import EngineError, Outcome
from launch.jobs import Queue, estimate_seconds
from launch.lock import hold_store
from launch.progress import Progress
from scaling import attempts
from scaling.cell import Cell
from scaling.record import Store

TRIES = 3  # workers that may die, one after another, before they reach a cell
STDERR_TAIL = 2_000  # characters of a dead worker's last words kept in its attempt


class _Stop(BaseException):
    """SIGINT or SIGTERM arrived."""


def default_workers() -> int:
    """Returns one worker a core, or one in all where an NVIDIA GPU is present: workers would fight for its memory."""
    return 1 if Path("/proc/driver/nvidia/gpus").exists() else len(_cores())


def run_cells(cells: Mapping[str, Cell], store: Store, workers: int) -> Outcome:
    """Trains cells in `workers` processes and returns how each ended.

    A crashing cell fails alone; a dying worker fails its cell and is replaced. SIGINT or SIGTERM stops all workers:
    what is complete stays, the rest is left for the next run. A killed launcher takes its workers with it.

    Raises:
      InputError: another launcher holds the store, or it cannot be written.
      EngineError: workers do not start at all.
    """
    with hold_store(store) as inherited:
        for cell in cells.values():
            store.write_cell(cell.canonical_json())
        progress = Progress(len(cells), sum(map(estimate_seconds, cells.values())))
        sweep = _Sweep(store, Queue(cells.values()), progress, inherited)
        try:
            with _signals_stop():
                sweep.run(_divide_cores(min(workers, len(cells))))
            stopped = False
        except _Stop:
            stopped = True
        finally:
            progress.close()
    return Outcome(sweep.statuses, stopped)


class _Sweep:
    """The state that the threads, one for each worker process, share."""

    def __init__(self, store: Store, cells: Queue, progress: Progress, inherited: Sequence[int]) -> None:
        self.statuses: dict[str, str] = {}
        self._store, self._queue, self._progress, self._inherited = store, cells, progress, tuple(inherited)
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._stopping = False
        self._problem: Exception | None = None

    def run(self, shares: Sequence[set[int]]) -> None:
        threads = [threading.Thread(target=self._drive, args=(cores,), daemon=True) for cores in shares]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a join without a time limit would not let signals through
                    thread.join(0.2)
        finally:
            self._stop()
            for thread in threads:
                thread.join()
        if self._problem is not None:
            raise self._problem

    def _drive(self, cores: set[int]) -> None:
        program: str | None = None
        worker: _Worker | None = None
        try:
            while not self._stopping:
                with self._lock:
                    taken = self._queue.take(program)
                if taken is None:
                    break
                program, cell = taken
                worker, status = self._train(cell, worker or self._start(cores), cores)
                if status == "interrupted":
                    break
                self._note(cell, status)
        except Exception as error:  # noqa: BLE001  (raised again by `run`, in the thread that can report it)
            if not self._stopping:  # a stop kills the other workers, which is no news
                self._problem = error
            self._stop()
        finally:
            if worker is not None:
                worker.close()

    def _train(self, cell: Cell, worker: "_Worker", cores: set[int]) -> tuple["_Worker | None", str]:
        """Returns the worker, or None if it died, and how the cell ended."""
        for _ in range(TRIES):
            reply = worker.train(cell.fingerprint())
            if reply is not None:
                return worker, reply["status"]
            words = worker.last_words()
            worker.close()
            outcome: attempts.Outcome = "interrupted" if self._stopping else "failed"
            begun = self._end_attempt(cell, outcome, None if self._stopping else words)
            if begun or self._stopping:
                return None, outcome
            worker = self._start(cores)  # it died before it touched the cell, which is not to blame
        worker.close()
        return None, "failed"

    def _start(self, cores: set[int]) -> "_Worker":
        worker = _Worker(self._store, cores, self._inherited)
        with self._lock:
            self._workers.add(worker)
            if self._stopping:
                worker.kill()
        worker.wait_until_ready()
        return worker

    def _end_attempt(self, cell: Cell, outcome: attempts.Outcome, error: str | None) -> bool:
        """Ends the attempt that a dead worker had begun at a cell; returns whether there was one."""
        folder = self._store.cell_path(cell.fingerprint())
        made = attempts.read_attempts(folder)
        begun = bool(made) and made[-1].event == "start"
        if begun:
            attempts.end_attempt(folder, made[-1].attempt, outcome, error)
        return begun

    def _note(self, cell: Cell, status: str) -> None:
        with self._lock:
            self.statuses[cell.fingerprint()] = status
            what = f"{cell.model.kind} m={cell.data.size} seed={cell.seed} ({cell.fingerprint()})"
            self._progress.update(what, status, estimate_seconds(cell))

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            for worker in self._workers:
                worker.kill()


class _Worker:
    """A worker process: takes a fingerprint a line, answers a JSON document a line."""

    def __init__(self, store: Store, cores: set[int], inherited: Sequence[int]) -> None:
        # A regular file takes any amount of stderr without anybody reading it.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
        command = [sys.executable, "-m", "launch.worker", "--serve", f"--store={os.fspath(store.path)}"]
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

    def train(self, cell: str) -> dict[str, Any] | None:
        """Returns the reply about a cell, or None when the process died."""
        try:
            self._process.stdin.write(cell + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return None
        return self._read()

    def _read(self) -> dict[str, Any] | None:
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def last_words(self) -> str:
        """Returns how a dead process ended, with the end of its standard error."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._stderr.seek(0)
        return f"the worker process ended with {how}\n{self._stderr.read().decode(errors='replace')[-STDERR_TAIL:]}"

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


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _divide_cores(workers: int) -> list[set[int]]:
    """Returns each worker's cores: an equal share, or one core in turn when there are more workers than cores.

    Processes that share cores slow each other down, and the number of visible cores changes the last bits of results.
    """
    cores = _cores()
    share = max(len(cores) // workers, 1)
    return [{cores[(i * share + j) % len(cores)] for j in range(share)} for i in range(workers)]


@contextlib.contextmanager
def _signals_stop() -> Iterator[None]:
    def stop(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # one is enough; the rest of the way out is short
        raise _Stop

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
