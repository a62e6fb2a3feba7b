"""The process that trains jobs: one cell by hand (`scaling cell`), or job after job for an engine."""

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, Any

import jax
from absl import app, flags

from launch.coordination.claims import Budget
from launch.coordination.launches import is_cancelled
from launch.coordination.presence import PATIENCE_SECONDS, Presence
from launch.exits import DONE, PREEMPTED, WORK_FAILED, WRONG_CALL
from launch.options import parse_execution
from launch.queue.cells import read_cell
from launch.workers.notices import StopNotices
from launch.workers.trainer import Rules, Trainer
from scaling.devices.processes import Preempted, agree, is_writer, join
from scaling.specs.base import InputError, parse
from scaling.specs.cell import Cell
from scaling.specs.execution import DEFAULT, Execution
from scaling.store.attempts import read_attempts
from scaling.store.store import CorruptStoreError, Store

FLAGS = flags.FLAGS

STORE = flags.DEFINE_string("store", None, "Folder to which the record is published.")
READER_WORKERS = flags.DEFINE_integer(
    "reader_workers", 0, "Processes that read data which does not fit on the device; 0 reads in threads.", lower_bound=0
)
SERVE = flags.DEFINE_boolean("serve", False, "Train the jobs that arrive on standard input.")
GANG = flags.DEFINE_boolean("gang", False, "Train what a store lacks, together with other processes.")
LAUNCH = flags.DEFINE_string("launch", None, "Name of the launch that this process belongs to.")
TRACKER = flags.DEFINE_multi_string("tracker", [], "Who follows, besides curve.jsonl: wandb, tensorboard, jsonl.")
LEASE_SECONDS = flags.DEFINE_float(
    "lease_seconds", PATIENCE_SECONDS, "How long others wait for a sign of life before they take cells over.",
    lower_bound=0.1,
)  # fmt: skip
RETRIES = flags.DEFINE_integer("retries", 0, "Times that a cell which failed is tried again.", lower_bound=0)
WORKERS = flags.DEFINE_integer("workers", None, "Of an agent; processes that train together are one worker.")
INTERRUPTIONS = flags.DEFINE_integer(
    "interruptions", Budget().interruptions, "Attempts at a cell that may be interrupted in this launch.", lower_bound=1
)
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


# --- for an engine --------------------------------------------------------------------------------------------------


def serve(store: Store, requests: IO[str], replies: IO[str]) -> int:
    """Answers requests, one JSON document a line, with events, one a line, and returns the exit status.

    `{"plan": FINGERPRINT, "members": k, "seconds": s}` asks how to execute a program, and is answered by a `plan`:
    `execution`, and `how` in words. `{"train": [FINGERPRINT, …], "execution": {…}, "silent": {WORKER: count}}` is
    answered by a `record` for every cell that ends, or that others have, with its `status`, and then `done`. On SIGTERM
    the job is saved where that is possible, and the last event is `preempted`; where the store cannot be used it is
    `unusable`, with the `error`.

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
        with StopNotices() as notices, open_presence(store) as presence:
            trainer = Trainer(store, notices, presence, rules())
            reply(event="ready", worker=presence.worker)
            while (line := arrived.get()) is not None:
                busy.set()
                request = json.loads(line)
                if "plan" in request:
                    reply(event="plan", **_plan(read_cell(store, request["plan"]), request))
                else:
                    cells = [read_cell(store, name) for name in request["train"]]
                    execution = parse(Execution, json.dumps(request["execution"]), "execution")
                    trainer.train(
                        cells,
                        execution,
                        lambda cell, status: reply(event="record", cell=cell, status=status),
                        request.get("silent"),
                    )
                    reply(event="done")
                busy.clear()
    except Preempted:
        reply(event="preempted")
        return PREEMPTED
    except InputError as error:  # a cell's own errors are its attempts'
        reply(event="unusable", error=str(error))
        return WRONG_CALL
    return DONE


def _plan(cell: Cell, request: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer about a program; a measurement that fails leaves the defaults, and says so."""
    from scaling.training.calibration import choose_execution

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
    if GANG.value:
        return _work_in_gang(arguments)
    if STORE.value is None or len(arguments) != 2:
        raise app.UsageError("usage: scaling cell CELL.json --store DIR", exitcode=WRONG_CALL)
    return _train_one(Store(STORE.value), Path(arguments[1]))


def run(arguments: list[str]) -> None:
    """Parses flags, JAX's among them, and runs `main`; exits with its status."""
    jax.config.config_with_absl()
    try:
        app.run(main, argv=[_with_underscores(word) for word in arguments])
    except (InputError, CorruptStoreError) as error:
        print(f"scaling cell: {error}", file=sys.stderr)
        sys.exit(WRONG_CALL if isinstance(error, InputError) else WORK_FAILED)


def _with_underscores(word: str) -> str:
    """Returns `--num_processes=2` for `--num-processes=2`: absl knows the one, and people type either."""
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if word.startswith("--") else word


def _train_one(store: Store, path: Path) -> int:
    execution = parse_execution(EXECUTION.value) or DEFAULT
    for name, count in {"population": execution.population, "mesh.population": execution.mesh.population}.items():
        if count > 1:
            raise InputError(f"--execution {name}={count}: one cell is trained here; leave it out")
    writes, num_processes = _join()
    _check_mesh(execution, num_processes)
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"cell {str(path)!r} cannot be read ({error.strerror}); give a cell.json") from None
    cell = parse(Cell, text, str(path))
    name = cell.fingerprint()
    folder = store.cell_path(name)
    if store.is_complete(name):
        _say(writes, f"cell {name} is complete: {folder / 'record.json'}")
        return DONE
    if writes:
        store.write_cell(cell.canonical_json())
    ended: list[str] = []
    with StopNotices() as notices, open_presence(store) if writes else contextlib.nullcontext() as presence:
        trainer = Trainer(store, notices, presence, rules(), num_processes=num_processes)
        try:
            mine = trainer.claim([cell], lambda _, how: ended.append(how)) if writes else [cell]
            if agree(len(mine)):
                trainer.train_claimed([cell], execution, lambda _, how: ended.append(how))
        except Preempted:
            print("scaling cell: stopped; the same command goes on", file=sys.stderr)
            return PREEMPTED
    if ended == ["held"]:
        words = f"cell {name} is being trained by another worker; `scaling status` shows where"
        print(f"scaling cell: {words}", file=sys.stderr)
        return WORK_FAILED
    if ended[-1:] in (["failed"], ["again"]):
        words = (read_attempts(folder)[-1].error if writes else None) or "failed"
        print(f"scaling cell: {words.strip().splitlines()[-1]} ({folder / 'attempts.jsonl'})", file=sys.stderr)
        return WORK_FAILED
    _say(writes, f"cell {name} {ended[-1] if ended else 'ended'}: {folder / 'record.json'}")
    return DONE


def _join() -> tuple[bool, int]:
    """Joins the processes of this one's job, if there are others; returns whether it writes, and how many they are."""
    if DISTRIBUTED.value or any(flag.value is not None for flag in (COORDINATOR, NUM_PROCESSES, PROCESS_ID)):
        is_found = COORDINATOR.value is None
        join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        if is_found and jax.process_count() == 1:
            print("scaling: JAX finds one process alone; it works by itself", file=sys.stderr)
        return is_writer(), jax.process_count()
    return True, 1


def _check_mesh(execution: Execution, num_processes: int) -> None:
    """Checks that every process has a part in the work: one without would leave the others waiting for it.

    Raises:
      InputError: it has none.
    """
    wanted, there = execution.mesh.num_devices, jax.device_count()
    if num_processes > 1 and wanted != there:
        raise InputError(
            f"--execution mesh takes {wanted} of the {there} devices of {num_processes} processes; give one of all of "
            f"them, for example mesh.data={there}"
        )


def _work_in_gang(arguments: list[str]) -> int:
    from launch.workers.gang import work_together

    if len(arguments) != 2:
        raise app.UsageError("usage: scaling work STORE --launch NAME --distributed", exitcode=WRONG_CALL)
    if WORKERS.value is not None:
        raise InputError(f"--workers {WORKERS.value}: processes that train together are one worker; leave it out")
    store = Store.open(arguments[1])
    execution = parse_execution(EXECUTION.value)
    writes, num_processes = _join()
    if execution is not None:
        _check_mesh(execution, num_processes)
    with StopNotices() as notices, open_presence(store) if writes else contextlib.nullcontext() as presence:
        trainer = Trainer(store, notices, presence, rules(), num_processes=num_processes)
        return work_together(store, trainer, execution, is_first=writes)


def rules() -> Rules:
    """Returns how jobs are gone about, as the flags say."""
    return Rules(
        LAUNCH.value,
        Budget(failures=1 + RETRIES.value, interruptions=INTERRUPTIONS.value),
        CHECKPOINT_SECONDS.value,
        CHECKPOINT_STEPS.value,
        NUM_CHECKPOINTS.value,
        KEEP_CHECKPOINTS.value,
        READER_WORKERS.value,
        tuple(TRACKER.value),
    )


def open_presence(store: Store) -> Presence:
    """Returns this process's presence in a store, as its flags say."""
    launch = LAUNCH.value
    return Presence(
        store,
        launch,
        patience_seconds=LEASE_SECONDS.value,
        is_cancelled=lambda: launch is not None and is_cancelled(store, launch),
    )


def _say(aloud: bool, words: str) -> None:
    if aloud:
        print(words)


if __name__ == "__main__":
    run(sys.argv)
