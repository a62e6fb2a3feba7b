"""The process that trains jobs: one cell by hand (`scaling cell`), or job after job for an engine."""

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import jax
from absl import app, flags
from etils import epath

from launch.jobs import estimate_job, note_begun, parse_execution, read_cell
from launch.notices import StopNotices
from scaling.attempts import Outcome, end_attempt, read_attempts, start_attempt
from scaling.cell import Cell
from scaling.devices.processes import Preempted, is_writer, join
from scaling.execution import DEFAULT, Execution
from scaling.record import CorruptStoreError, Record, Store
from scaling.sharing import gather_members, plant
from scaling.spec import InputError, parse

if TYPE_CHECKING:
    from scaling.checkpoints.keeper import Keeping
    from scaling.tracking import Tracker

FLAGS = flags.FLAGS

# The exit status of a process that was told to stop: what could be saved is, and the same call goes on from there.
PREEMPTED = 75

# Jobs that take less than this share of the time between two checkpoints keep none: they would be over before the first
# one, and the folder, the threads and the copies of a keeper would be for nothing. The estimate may be ten times off.
SHARE_WORTH_KEEPING = 0.1

STORE = flags.DEFINE_string("store", None, "Folder to which the record is published.")
READER_WORKERS = flags.DEFINE_integer(
    "reader_workers", 0, "Processes that read data which does not fit on the device; 0 reads in threads.", lower_bound=0
)
SERVE = flags.DEFINE_boolean("serve", False, "Train the jobs that arrive on standard input.")
EXECUTION = flags.DEFINE_multi_string(
    "execution", [], "How to run: PATH=VALUE, for example mesh.data=2, or JSON; repeatable."
)
CHECKPOINT_SECONDS = flags.DEFINE_float(
    "checkpoint_seconds", 600.0, "Between two checkpoints; 0 for none.", lower_bound=0.0
)
CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps", None, "Steps between two checkpoints, whatever the time.", lower_bound=1
)
NUM_CHECKPOINTS = flags.DEFINE_integer("num_checkpoints", 2, "The newest so many are kept.", lower_bound=1)
KEEP_CHECKPOINTS = flags.DEFINE_boolean("keep_checkpoints", False, "Keep the last one of a job that is complete.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes that train the cell together.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
DISTRIBUTED = flags.DEFINE_boolean(
    "distributed", False, "There are several processes, and JAX finds them (Cloud TPU, Slurm, Open MPI, Kubernetes)."
)


class Trainer:
    """Trains jobs into a store.

    Args:
      store: where records go.
      notices: of preemption.
      is_writer: whether this process writes to the store; of several that train together, the first does.
      num_processes: that train together.
    """

    def __init__(self, store: Store, notices: StopNotices, *, is_writer: bool = True, num_processes: int = 1) -> None:
        self._store, self._notices = store, notices
        self._is_writer, self._num_processes = is_writer, num_processes
        self._study_sizes = study_sizes(store)

    def train(self, cells: Sequence[Cell], execution: Execution, on_end: Callable[[str, Outcome], None]) -> None:
        """Trains the cells of a job, publishes their records, and tells how each ended as soon as it has.

        A job that crashes is trained again member by member, so that a bad one fails alone; its cells' attempts hold
        the traceback.

        Raises:
          Preempted: a notice has come; what could be saved is, and the attempts say that they were interrupted.
        """
        attempts = _Attempts(self._store, cells, self._is_writer, on_end)
        members = gather_members(cells)
        try:
            self._train(cells, members, execution, attempts)
        except Preempted:
            attempts.end_all("interrupted")
            raise
        except Exception:  # noqa: BLE001  (whatever a cell does wrong, the sweep goes on)
            words = traceback.format_exc()
            if len(members) == 1:
                attempts.end_all("failed", words)
                return
            left = attempts.end_all("interrupted", f"trained with {len(members) - 1} others, then alone\n{words}")
            for member in members:
                if alone := [cell for cell in member if cell.fingerprint() in left]:
                    self.train(alone, execution, on_end)

    def _train(
        self, cells: Sequence[Cell], members: Sequence[Sequence[Cell]], execution: Execution, attempts: "_Attempts"
    ) -> None:
        from scaling.runner import alone, train_cells

        if self._notices.heard():  # while the job before was in its last steps
            raise Preempted
        # What the record says of the population is what it was.
        fitting = alone(execution) if len(members) == 1 else execution.model_copy(update={"population": len(members)})
        folder, keeping = self._checkpoints(cells)
        if folder is not None and self._is_writer:
            note_begun(folder, cells, execution)

        def publish(record: Record) -> None:
            if self._is_writer:
                self._store.publish(record)
            attempts.end(record.cell, record.status)

        with self._notices.held_back(folder is not None):
            train_cells(
                cells,
                self._study_sizes,
                execution=fitting,
                tracker=self._tracker(),
                on_record=publish,
                checkpoints=folder,
                keeping=keeping,
                heard=self._notices.heard,
                reader_workers=READER_WORKERS.value,
            )
        if folder is not None and self._is_writer and not KEEP_CHECKPOINTS.value:
            folder.rmtree(missing_ok=True)  # with what earlier attempts in other company have left

    def _tracker(self) -> "Tracker":
        from scaling.tracking import CurveFile, Tracker

        return CurveFile(self._store.cell_path) if self._is_writer else Tracker()

    def _checkpoints(self, cells: Sequence[Cell]) -> "tuple[epath.Path | None, Keeping | None]":
        """Returns the folder for a job's checkpoints, None for none, and how they are kept."""
        seconds, steps = CHECKPOINT_SECONDS.value, CHECKPOINT_STEPS.value
        if cells[0].training is None or not (seconds or steps):
            return None, None
        from scaling.checkpoints.keeper import Keeping

        folder = self._store.cell_path(plant(cells).leader) / "checkpoints"
        is_long = steps is not None or estimate_job(cells) >= SHARE_WORTH_KEEPING * seconds
        # Several processes must decide alike, whichever looks at the folder first; one that has begun goes on.
        if not (is_long or self._num_processes > 1 or folder.exists()):
            return None, None
        keeping = Keeping(seconds or None, steps, NUM_CHECKPOINTS.value, KEEP_CHECKPOINTS.value)
        return folder, keeping


class _Attempts:
    """The attempts at a job's cells: all begin together, and each ends once."""

    def __init__(
        self, store: Store, cells: Sequence[Cell], is_writer: bool, on_end: Callable[[str, Outcome], None]
    ) -> None:
        self._store, self._is_writer, self._on_end = store, is_writer, on_end
        names = [cell.fingerprint() for cell in cells]
        self._open = {name: start_attempt(store.cell_path(name)) if is_writer else "" for name in names}

    def end(self, cell: str, outcome: Outcome, error: str | None = None) -> None:
        attempt = self._open.pop(cell)
        if self._is_writer:
            end_attempt(self._store.cell_path(cell), attempt, outcome, error)
        if outcome != "interrupted":
            self._on_end(cell, outcome)

    def end_all(self, outcome: Outcome, error: str | None = None) -> set[str]:
        """Ends what is open, and returns which cells' attempts that were."""
        left = set(self._open)
        for cell in list(self._open):
            self.end(cell, outcome, error)
        return left


def study_sizes(store: Store) -> tuple[int, ...]:
    """Returns the subset sizes of the store's study; none when a single cell is trained into a bare folder."""
    if not (store.path / "study.json").exists():
        return ()
    return tuple(sorted({cell["data"]["size"] for series in store.study["series"] for cell in series["cells"]}))


# --- for an engine --------------------------------------------------------------------------------------------------


def serve(store: Store, requests: IO[str], replies: IO[str]) -> int:
    """Answers requests, one JSON document a line, with events, one a line, and returns the exit status.

    `{"plan": FINGERPRINT, "members": k, "seconds": s}` asks how to execute a program, and is answered by a `plan`:
    `execution`, and `how` in words. `{"train": [FINGERPRINT, …], "execution": {…}}` is answered by a `record` for every
    cell that ends, with its `status`, and then `done`. On SIGTERM the job is saved where that is possible, and the last
    event is `preempted`.

    When the requests end while something is being done, the engine is gone: the process ends at once, and the cells are
    trained again by whoever comes next.
    """
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        for line in requests:
            arrived.put(line)
        if busy.is_set():
            os._exit(1)
        arrived.put(None)

    def reply(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    threading.Thread(target=listen, daemon=True).start()
    try:
        with StopNotices() as notices:
            trainer = Trainer(store, notices)
            reply(event="ready")
            while (line := arrived.get()) is not None:
                busy.set()
                request = json.loads(line)
                if "plan" in request:
                    reply(event="plan", **_plan(read_cell(store, request["plan"]), request))
                else:
                    cells = [read_cell(store, name) for name in request["train"]]
                    execution = parse(Execution, json.dumps(request["execution"]), "execution")
                    trainer.train(
                        cells, execution, lambda cell, status: reply(event="record", cell=cell, status=status)
                    )
                    reply(event="done")
                busy.clear()
    except Preempted:
        reply(event="preempted")
        return PREEMPTED
    return 0


def _plan(cell: Cell, request: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer about a program; a measurement that fails leaves the defaults, and says so."""
    from scaling.calibration import choose_execution

    try:
        execution, how = choose_execution(cell, num_members=request["members"], seconds=request["seconds"])
    except Exception as error:  # noqa: BLE001  (what is wrong with the cell comes to light when it is trained)
        execution, how = DEFAULT, f"by default: not measured ({type(error).__name__}: {' '.join(str(error).split())})"
    return {"execution": execution.model_dump(mode="json", exclude_defaults=True), "how": how}


# --- by hand --------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Runs the worker; absl parses the flags, so JAX's flags work here too."""
    from scaling.devices.compilation import use_compilation_cache

    use_compilation_cache()
    if SERVE.value:
        # Whatever a library prints must not mix with the replies.
        replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return serve(Store.open(STORE.value), sys.stdin, replies)
    if STORE.value is None or len(arguments) != 2:
        raise app.UsageError("usage: scaling cell CELL.json --store DIR", exitcode=2)
    return _train_one(Store(STORE.value), Path(arguments[1]))


def run(arguments: list[str]) -> None:
    """Parses flags, JAX's among them, and runs `main`; exits with its status."""
    jax.config.config_with_absl()
    try:
        app.run(main, argv=[_with_underscores(word) for word in arguments])
    except (InputError, CorruptStoreError) as error:
        print(f"scaling cell: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _with_underscores(word: str) -> str:
    """Returns `--num_processes=2` for `--num-processes=2`: absl knows the one, and people type either."""
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if word.startswith("--") else word


def _train_one(store: Store, path: Path) -> int:
    execution = parse_execution(EXECUTION.value) or DEFAULT
    for name, count in {"population": execution.population, "mesh.population": execution.mesh.population}.items():
        if count > 1:
            raise InputError(f"--execution {name}={count}: one cell is trained here; leave it out")
    is_several = DISTRIBUTED.value or any(flag.value is not None for flag in (COORDINATOR, NUM_PROCESSES, PROCESS_ID))
    if is_several:
        join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    writes, num_processes = (is_writer(), jax.process_count()) if is_several else (True, 1)
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"cell {str(path)!r} cannot be read ({error.strerror}); give a cell.json") from None
    cell = parse(Cell, text, str(path))
    name = cell.fingerprint()
    folder = store.cell_path(name)
    if store.is_complete(name):
        _say(writes, f"cell {name} is complete: {folder / 'record.json'}")
        return 0
    if writes:
        store.write_cell(cell.canonical_json())
    ended: list[Outcome] = []
    with StopNotices() as notices:
        trainer = Trainer(store, notices, is_writer=writes, num_processes=num_processes)
        try:
            trainer.train([cell], execution, lambda _, outcome: ended.append(outcome))
        except Preempted:
            print("scaling cell: stopped; the same command goes on", file=sys.stderr)
            return PREEMPTED
    if ended == ["failed"]:
        words = (read_attempts(folder)[-1].error if writes else None) or "failed"
        print(f"scaling cell: {words.strip().splitlines()[-1]} ({folder / 'attempts.jsonl'})", file=sys.stderr)
        return 1
    _say(writes, f"cell {name} {ended[0]}: {folder / 'record.json'}")
    return 0


def _say(aloud: bool, words: str) -> None:
    if aloud:
        print(words)


if __name__ == "__main__":
    run(sys.argv)
