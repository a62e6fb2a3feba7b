"""The local engine: agents on this machine that go on when the terminal is closed, each a process of its own."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.coordination.presence import Identity, identify, is_gone
from launch.engines import Order, Sighting
from scaling.specs.base import Spec
from scaling.store.files import is_local
from scaling.store.store import Store

# How long an agent may take to let its workers save, before it is killed.
GRACE_SECONDS = 30.0


class Settings(Spec):
    """There is nothing to set."""


def connect(settings: Settings, store: Store) -> "Local":
    """Returns this machine as an engine."""
    return Local(store)


class Local:
    """This machine.

    A handle is the identity of the agent's process, so that no other process with its number is taken for it.

    Args:
      store: whose agents these are.
    """

    outlives_command = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started: set[int] = set()

    def describe(self, order: Order, count: int) -> str:
        """Returns the command line of each agent."""
        return "\n".join([" ".join(_command(order))] * count)

    def submit(self, order: Order, count: int) -> list[str]:
        """Starts agents."""
        return [self._start(order) for _ in range(count)]

    def _start(self, order: Order) -> str:
        folder = Path(os.fspath(self._store.path)) / "logs" if is_local(self._store.path) else Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{order.launch}-agent-{time.time_ns()}.log"
        words = _command(order)
        pid = os.posix_spawn(  # nobody here waits for it, as a `Popen` would
            words[0],
            words,
            os.environ,
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        self._started.add(pid)
        return identify(pid).handle

    def observe(self, handles: Sequence[str]) -> Mapping[str, Sighting]:
        """Returns which agents are alive; how one has ended is in the store."""
        for pid in list(self._started):  # none of this process's own stays a zombie
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._started.discard(pid)
        found = {}
        for handle in handles:
            identity = Identity.from_handle(handle)
            found[handle] = Sighting("ended" if is_gone(identity) else "running", f"{identity.host} {identity.pid}")
        return found

    def cancel(self, handles: Sequence[str]) -> None:
        """Asks agents to save and end, and kills those that do not."""
        agents = [Identity.from_handle(handle) for handle in handles]
        for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            for agent in agents:
                if not is_gone(agent):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(agent.pid, number)
            deadline = time.monotonic() + seconds
            while not all(map(is_gone, agents)) and time.monotonic() < deadline:
                time.sleep(0.05)


def _command(order: Order) -> list[str]:
    return [sys.executable, "-P", "-m", "launch.cli", *order.words]
