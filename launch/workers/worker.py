"""The worker process: trains job after job into a store, as its agent asks it to."""

import argparse
import json
import os
import queue
import sys
import threading
from typing import IO

from launch.coordination.presence import Presence
from launch.exits import DONE, PREEMPTED, WORK_FAILED, WRONG_CALL, leave
from launch.options import Options
from launch.queue.cells import read_cell
from launch.workers.flags import run_with_flags
from launch.workers.notices import StopNotices
from launch.workers.replies import CellEnded, JobDone, Planned, Ready, Reply, Stopped, Unusable
from launch.workers.trainer import Trainer
from scaling.devices.processes import Preempted
from scaling.specs.base import InputError, Json, parse
from scaling.specs.cell import Cell
from scaling.specs.execution import DEFAULT, Execution
from scaling.store.store import Store


def serve(store: Store, options: Options, launch: str | None, requests: IO[str], replies: IO[str]) -> int:
    """Answers requests, one JSON document a line, with events, one a line, and returns the exit status.

    `{"plan": FINGERPRINT, "members": k, "seconds": s}` asks how to execute a program, and is answered by `Planned`.
    `{"train": [FINGERPRINT, …], "execution": {…}, "silent": {WORKER: count}}` is answered by `CellEnded` for every cell
    that ends, or that others have, and then `JobDone`. On SIGTERM the job is saved where that is possible, and the last
    reply is `Stopped`; where the store cannot be used it is `Unusable`.

    When the requests end while something is being done, the agent is gone: the process ends at once, and the cells are
    trained again by whoever comes next.

    Args:
      store: with the cells.
      options: how jobs are run.
      launch: that this process belongs to.
      requests: the requests of the agent, to be read.
      replies: to the agent, to be written.
    """
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        for line in requests:
            arrived.put(line)
        if busy.is_set():
            os._exit(WORK_FAILED)
        arrived.put(None)

    def reply(message: Reply) -> None:
        replies.write(message.canonical_json() + "\n")
        replies.flush()

    threading.Thread(target=listen, daemon=True).start()
    try:
        with StopNotices() as notices, Presence(store, launch, patience_seconds=options.lease_seconds) as presence:
            trainer = Trainer(store, notices, presence, options, launch)
            reply(Ready(worker=presence.worker))
            while (line := arrived.get()) is not None:
                busy.set()
                request = json.loads(line)
                if "plan" in request:
                    reply(_plan(read_cell(store, request["plan"]), request))
                else:
                    cells = [read_cell(store, name) for name in request["train"]]
                    execution = parse(Execution, json.dumps(request["execution"]), "execution")
                    trainer.train(
                        cells,
                        execution,
                        lambda cell, status: reply(CellEnded(cell=cell, status=status)),
                        request.get("silent"),
                    )
                    reply(JobDone())
                busy.clear()
    except Preempted:
        reply(Stopped())
        return PREEMPTED
    except InputError as error:  # a cell's own errors are its attempts'
        reply(Unusable(error=str(error)))
        return WRONG_CALL
    return DONE


def _plan(cell: Cell, request: Json) -> Planned:
    """Returns the answer about a program; a measurement that fails leaves the defaults, and says so."""
    from scaling.training.calibration import choose_execution

    try:
        execution, how = choose_execution(cell, num_members=request["members"], seconds=request["seconds"])
    except Exception as error:  # noqa: BLE001  (what is wrong with the cell comes to light when it is trained)
        execution, how = DEFAULT, f"by default: not measured ({type(error).__name__}: {' '.join(str(error).split())})"
    return Planned(execution=execution, how=how)


def main(words: list[str]) -> int:
    """Serves what asks on standard input, as the words say, and returns the exit status."""
    from scaling.devices.compilation import use_compilation_cache

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--options", required=True, help="how jobs are run: `Options` as JSON")
    parser.add_argument("--launch")
    given = parser.parse_args(words)
    use_compilation_cache()
    # Whatever a library prints must not mix with the replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    options = parse(Options, given.options, "--options")
    return serve(Store.open(given.store), options, given.launch, sys.stdin, replies)


def start(words: list[str]) -> None:
    """Serves with JAX's flags, and exits."""
    try:
        run_with_flags(main, words)
    except SystemExit as stop:
        leave(stop.code if isinstance(stop.code, int) else WORK_FAILED)


if __name__ == "__main__":
    start(sys.argv[1:])
