"""Runs shown at W&B while they go: a process beside the trainer reads the store, and sends what it finds there."""

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from scaling.specs.base import Spec
from scaling.store.record import Record
from scaling.store.store import Store
from scaling.tracking.tracker import Tracker, warn
from scaling.tracking.wandb_runs import is_disabled

# Told and not yet taken by the process; it takes them at once, so that more means that it is stopped or dead.
MOST_MESSAGES = 100_000


class Following(Spec):
    """What the process beside the trainer is to do.

    Attributes:
      store, project, entity: whose runs, and where they go.
      pid: the trainer, whose use of the machine is shown.
      with_checkpoints: whether checkpoints are kept, so that runs can refer to them.
      live_cells: so many are shown while they go; others, of a large population, when they are complete.
      every_seconds: between two looks into the store.
    """

    store: str
    project: str | None = None
    entity: str | None = None
    pid: int
    with_checkpoints: bool = False
    live_cells: int = 16
    every_seconds: float = 5.0


class WeightsAndBiases(Tracker):
    """Mirrors cells to W&B; needs a tracker before it that writes the store's curves.

    Training neither waits for W&B nor learns of its troubles: they are the other process's, which says them in one
    line. What W&B lacks in the end, `scaling sync` sends.

    Args:
      store: where the ledger is.
      project, entity: at W&B.
      describe: from a cell's fingerprint to its `num_params`, `data_seen` and `train_flops` before it is trained.
      with_checkpoints: whether checkpoints are kept.
      live_cells, every_seconds: see `Following`.
      patience_seconds: that `close` waits while nothing is sent.
    """

    def __init__(
        self,
        store: Store,
        project: str | None = None,
        entity: str | None = None,
        *,
        describe: Callable[[str], Mapping[str, Any]] = lambda cell: {},
        with_checkpoints: bool = False,
        live_cells: int = 16,
        every_seconds: float = 5.0,
        patience_seconds: float = 15.0,
    ) -> None:
        self._following = Following(
            store=os.fspath(store.path), project=project, entity=entity, pid=os.getpid(),
            with_checkpoints=with_checkpoints, live_cells=live_cells, every_seconds=every_seconds,
        )  # fmt: skip
        self._describe, self._patience_seconds = describe, patience_seconds
        self._messages: queue.Queue[str | None] = queue.Queue(MOST_MESSAGES)
        self.process: subprocess.Popen[bytes] | None = None
        self._is_off = is_disabled()

    def begin(self, cell: str, step: int) -> None:
        """Has the cell's run opened, or gone on with."""
        if self.process is None and not self._is_off:
            self._start()
        facts: dict[str, Any] = {}
        with contextlib.suppress(Exception):  # it is for the axes alone
            facts = {name: value for name, value in self._describe(cell).items() if value is not None}
        self._tell(begin=cell, facts=facts)

    def end(self, cell: str, record: Record | None) -> None:
        """Has the rest sent."""
        self._tell(end=cell)

    def close(self) -> None:
        """Waits until all is sent, as long as the process gets on; then ends it. Called at exit if not before."""
        process, self.process, self._is_off = self.process, None, True
        if process is None:
            return
        atexit.unregister(self.close)
        self._messages.put(None)
        assert process.stdout is not None  # noqa: S101  (it was started with one)
        try:
            while select.select([process.stdout], [], [], self._patience_seconds)[0]:
                if not os.read(process.stdout.fileno(), 1024):  # a letter for every run that is done, then the end
                    break
            else:
                words = f"W&B has taken nothing for {self._patience_seconds:g} s"
                warn(f"{words}; `scaling sync {self._following.store}` sends what it lacks")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with W&B's own process, which waits for ever
            process.wait()
            process.stdout.close()

    def _start(self) -> None:
        # A session of its own, so that what stops the trainer lets it finish.
        command = [sys.executable, "-P", "-m", "scaling.tracking.follower", self._following.canonical_json()]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdin is not None  # noqa: S101  (it was started with one)
        threading.Thread(target=_hand_on, args=(self._messages, process.stdin), daemon=True).start()
        self.process = process
        atexit.register(self.close)

    def _tell(self, **message: Any) -> None:
        if self.process is None:
            return
        try:
            self._messages.put_nowait(json.dumps(message) + "\n")
        except queue.Full:
            warn(f"W&B is not mirrored any more; `scaling sync {self._following.store}` sends what it lacks")
            self.process, self._is_off = None, True


def _hand_on(messages: "queue.Queue[str | None]", pipe: IO[bytes]) -> None:
    """Writes messages into a pipe, which may block, until there are no more or nobody reads."""
    with contextlib.suppress(BrokenPipeError), pipe:
        while (message := messages.get()) is not None:
            pipe.write(message.encode())
            pipe.flush()
