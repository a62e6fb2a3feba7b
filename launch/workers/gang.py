"""Processes of several hosts that act as one worker: the first takes jobs from the store, all train them together."""

import contextlib
import json
from collections.abc import Callable
from typing import assert_never

import jax
import numpy as np

from launch.coordination.presence import Presence
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.options import Options
from launch.queue.cells import missing_cells, read_cell, read_study
from launch.queue.queue import Job, Queue, queue_cells
from launch.workers.companions import Companions, check_mesh, join_companions
from launch.workers.notices import StopNotices
from launch.workers.replies import CellEnd
from launch.workers.trainer import Trainer
from scaling.devices.compilation import use_compilation_cache
from scaling.devices.processes import Preempted, agree
from scaling.specs.base import InputError, parse
from scaling.specs.execution import Execution, MeshSpec
from scaling.store.store import Store


def work_in_gang(store: Store, options: Options, companions: Companions, launch: str) -> int:
    """Trains what is missing in a store together with other processes, and returns the exit status.

    Args:
      store: that all processes see.
      options: how jobs are run.
      companions: the companions of this process.
      launch: that they belong to.

    Raises:
      InputError: the processes cannot work so.
    """
    if options.workers is not None:
        raise InputError(f"--workers {options.workers}: processes that train together are one worker; leave it out")
    use_compilation_cache()
    writes, num_processes = join_companions(companions)
    if options.execution is not None:
        check_mesh(options.execution, num_processes)
    own = Presence(store, launch, patience_seconds=options.lease_seconds) if writes else contextlib.nullcontext()
    with StopNotices() as notices, own as presence:
        trainer = Trainer(store, notices, presence, options, launch, num_processes=num_processes)
        return work_together(store, trainer, options.execution, is_first=writes)


def work_together(store: Store, trainer: Trainer, execution: Execution | None, *, is_first: bool) -> int:
    """Trains what is missing in a store and nobody else has, until nothing is left, and returns the exit status.

    Args:
      store: that all processes see.
      trainer: the trainer of this process.
      execution: the execution of all programs; None divides every batch among all devices.
      is_first: whether this process takes the jobs and writes.
    """
    if execution is None:
        execution = Execution(mesh=MeshSpec(data=jax.device_count()))
    queue = Queue((), 1)
    if is_first:
        queue = queue_cells(missing_cells(read_study(store), store), store, execution=execution)
    has_failed = False

    def note(cell: str, status: CellEnd) -> None:
        nonlocal has_failed
        match status:
            case "failed":
                has_failed = True
            case "again":
                queue.go_on((read_cell(store, cell),), execution)
            case "ok" | "diverged" | "held":
                pass
            case _:
                assert_never(status)

    try:
        while True:
            job = _next(trainer, queue, note) if is_first else None
            names, how = _share(job)
            if not names:
                return WORK_FAILED if agree(int(has_failed)) else DONE
            cells = [read_cell(store, name) for name in names]
            trainer.train_claimed(cells, parse(Execution, how, "execution"), note)
    except Preempted:
        return PREEMPTED


def _next(trainer: Trainer, queue: Queue, note: Callable[[str, CellEnd], None]) -> Job | None:
    """Returns the next job, with those of its cells that are now this gang's; None when nothing is left."""
    while (found := queue.take(None)) is not None:
        assert isinstance(found, Job)  # noqa: S101  (the execution is given, so nothing is asked)
        mine = trainer.claim(found.cells, note)
        if mine:
            return found._replace(cells=tuple(mine))
    return None


def _share(job: Job | None) -> tuple[list[str], str]:
    """Returns the fingerprints and the execution of the first process's job on all processes; none for no job."""
    from jax.experimental import multihost_utils

    text = ""
    if job is not None:
        text = json.dumps([[cell.fingerprint() for cell in job.cells], job.execution.canonical_json()])
    size = agree(len(text))
    if not size:
        return [], ""
    sent = np.frombuffer(text.encode(), np.uint8) if text else np.zeros(size, np.uint8)
    if jax.process_count() > 1:
        sent = np.asarray(multihost_utils.broadcast_one_to_all(sent))
    names, how = json.loads(sent.tobytes().decode())
    return names, how
