"""The process beside a trainer that mirrors its cells to W&B: reads the store, and is told which cells run.

Reads one JSON document a line: `{"begin": CELL, "facts": {…}}` and `{"end": CELL}`. Where the trainer ends, is killed
or hangs up, it sends what the store has by then, and ends. Writes a letter to standard output for every run that it is
done with, so that whoever waits sees that it gets on.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

from scaling.specs.base import InputError, parse
from scaling.store.record import CorruptStoreError
from scaling.store.store import Store
from scaling.tracking.tracker import warn
from scaling.tracking.wandb_runs import Mirror, MirroredRun, has_account, is_offline
from scaling.tracking.weights_and_biases import Following

# Seconds to wait after each failure in a row, of which as many are allowed. Once a run is open, the client itself tries
# again; this is for opening one.
BACK_OFF = (2.0, 10.0, 60.0, 300.0, 900.0)
# That it is waited for on the spot; where it takes longer, on the way.
RESET_SECONDS = 1.0
# After the trainer has hung up; it waits for less, but may be dead.
LONGEST_FAREWELL_SECONDS = 600.0


class Follower:
    """Mirrors the cells that are begun, until each ends.

    Args:
      following: what to do.
      progress: the descriptor of a pipe, which receives a letter for every run that is done.

    Attributes:
      is_over: all was given up.
    """

    def __init__(self, following: Following, progress: int) -> None:
        self._following, self._progress = following, progress
        self._store = Store(following.store)
        self._mirror = Mirror(
            self._store, following.project, following.entity,
            watched_pid=following.pid, with_checkpoints=following.with_checkpoints,
        )  # fmt: skip
        self._facts: dict[str, dict[str, Any]] = {}  # of the cells that run, in the order of their beginning
        self._ended: list[str] = []
        self._open: dict[str, MirroredRun] = {}
        self._failures = 0
        self._wait_until = 0.0
        self._resetting: threading.Thread | None = None
        self.is_over = False

    def hear(self, message: dict[str, Any]) -> None:
        """Takes a message."""
        if "begin" in message:
            self._facts[message["begin"]] = message["facts"]
            if message["begin"] in self._ended:  # it goes on before its end was taken note of
                self._ended.remove(message["begin"])
        else:
            self._ended.append(message["end"])

    def hang_up(self) -> None:
        """Ends all that runs."""
        self._ended.extend(cell for cell in self._facts if cell not in self._ended)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do but to look into the store now and then."""
        return not self._ended or self.is_over

    def work(self) -> None:
        """Does what can be done now: sends rows, finishes what has ended, opens what has begun.

        Failures are tried again later, a few times; then all is given up.
        """
        is_resetting = self._resetting is not None and self._resetting.is_alive()
        if self.is_over or is_resetting or time.monotonic() < self._wait_until:
            return
        try:
            while self._ended:
                self._finish(self._ended[0])
                del self._ended[0]
                self._failures = 0
            self._send()
        except Exception as error:  # noqa: BLE001  (whatever the client raises, training must not hear of it)
            self._fail(error)
        else:
            self._failures = 0

    def _send(self) -> None:
        if is_offline():  # nobody looks, and what was written before a preemption would be there twice
            return
        for cell, facts in list(self._facts.items())[: self._following.live_cells]:
            if cell not in self._open:
                self._open[cell] = self._mirror.open(self._mirror.describe(cell, facts=facts))
            self._open[cell].send()

    def _finish(self, cell: str) -> None:
        record, facts = self._store.read_record(cell), self._facts.get(cell, {})
        description = self._mirror.describe(cell, record, facts)
        if cell not in self._open and (record is not None or not is_offline()):
            self._open[cell] = self._mirror.open(description)
        if run := self._open.get(cell):
            run.finish(description)
        self._open.pop(cell, None)
        self._facts.pop(cell, None)
        with contextlib.suppress(BrokenPipeError):  # the trainer may be dead
            os.write(self._progress, b".")

    def _fail(self, error: Exception) -> None:
        if self._failures < len(BACK_OFF):
            self._wait_until = time.monotonic() + BACK_OFF[self._failures]
            self._failures += 1
            # The client does not open a run twice, and waits for the server before it forgets one that is open.
            self._open.clear()
            self._resetting = threading.Thread(target=self._mirror.close_all, daemon=True)
            self._resetting.start()
            self._resetting.join(RESET_SECONDS)
            return
        words = " ".join(f"{type(error).__name__}: {error}".split())
        self.give_up(f"W&B does not take what it is sent ({words[:200]})")

    def give_up(self, words: str) -> None:
        """Says why nothing is mirrored any more."""
        warn(f"{words}; `scaling sync {self._following.store}` sends what it lacks")
        self.is_over = True


def main() -> None:
    """Follows a trainer until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the trainer, after which there is something left to do
        signal.signal(number, signal.SIG_IGN)
    # The client may print; what it prints must not look like progress.
    progress = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    following = parse(Following, sys.argv[1], "what to follow")
    try:
        follower = Follower(following, progress)
    except (InputError, CorruptStoreError) as error:
        warn(f"W&B is not mirrored: {error}")
        return
    if not is_offline() and not has_account():
        follower.give_up("W&B has no account on this machine (set WANDB_API_KEY, or call `wandb login`)")
    _follow(follower, messages, following.every_seconds)
    if follower.is_over:
        os._exit(1)  # W&B's own farewell would wait for ever for a server that does not answer


def _follow(follower: Follower, messages: "queue.SimpleQueue[str | None]", every_seconds: float) -> None:
    has_hung_up = False
    while not has_hung_up or not follower.is_idle:
        try:
            message = messages.get(timeout=0.2 if has_hung_up else every_seconds)
        except queue.Empty:
            pass
        else:
            if message is None:
                has_hung_up = True
                follower.hang_up()
                deadline = threading.Timer(LONGEST_FAREWELL_SECONDS, os._exit, (1,))
                deadline.daemon = True
                deadline.start()
            else:
                follower.hear(json.loads(message))
                if not messages.empty():
                    continue
        follower.work()


def _listen(messages: "queue.SimpleQueue[str | None]") -> None:
    for line in sys.stdin:
        messages.put(line)
    messages.put(None)


if __name__ == "__main__":
    main()
