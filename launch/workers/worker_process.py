"""A worker process as its agent sees it: started in a slot, asked with JSON lines, read to its last words."""

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from launch.engines import EngineError
from launch.options import Options
from launch.workers.forks import ForkServer, start_process
from launch.workers.replies import Ready, Reply, Unusable, read_reply
from launch.workers.slots import Slot
from scaling.specs.base import InputError
from scaling.store.files import is_local
from scaling.store.store import Store

STDERR_TAIL = 2_000  # characters of a dead worker's last words kept in its attempt


class WorkerProcess:
    """A worker process: takes a JSON document a line, answers with events, one a line.

    What it writes to standard error is in the store's `logs/` when it has ended a job.

    Args:
      store: that it trains into.
      slot: where it runs.
      options: how it runs jobs.
      launch: that it belongs to.
      name: the name of its log.
      server: that forks it; None starts an interpreter.

    Raises:
      EngineError: it cannot be started, or its log not be written.
    """

    def __init__(
        self,
        store: Store,
        slot: Slot,
        options: Options,
        launch: str,
        name: str,
        server: ForkServer | None = None,
    ) -> None:
        self.has_ended = False
        self.worker: str | None = None  # its name in the store, once it is ready
        self._store, self._name = store, name
        # A regular file takes any amount of stderr without anybody reading it.
        self._log: IO[bytes] = _open_log(store, name)
        told = [f"--store={os.fspath(store.path)}", f"--options={options.canonical_json()}", f"--launch={launch}"]
        self._process = start_process("launch.workers.worker", told, slot, self._log, server)

    def wait_until_ready(self) -> str:
        """Waits for the process to be able to take jobs, and returns why it cannot: by what signal it was ended.

        Raises:
          EngineError: it has ended by itself, and the next one would, too.
        """
        reply = self._read()
        if isinstance(reply, Ready):
            self.worker = reply.worker
            return ""
        self.has_ended = True
        if isinstance(reply, Unusable):
            raise InputError(reply.error)
        ended, *words = self.last_words().splitlines()
        if self._process.wait() < 0:
            return ended
        errors = [line.strip() for line in words if line.strip()]
        raise EngineError(f"a worker did not start: {ended}: {errors[-1] if errors else 'it said nothing'}")

    def ask(self, **request: Any) -> Iterator[Reply]:
        """Yields the answers to a request, until the caller has enough or the process has ended."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            self.has_ended = True
            return
        while (reply := self._read()) is not None:
            yield reply

    def _read(self) -> Reply | None:
        line = self._process.stdout.readline()
        self.has_ended = not line.endswith("\n")
        return None if self.has_ended else read_reply(line)

    def last_words(self) -> str:
        """Returns how a dead process ended, with the end of its standard error."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._log.seek(0)
        return f"the worker process ended with {how}\n{self._log.read().decode(errors='replace')[-STDERR_TAIL:]}"

    def keep_log(self) -> None:
        """Brings the log to a store that is not a local folder."""
        if not is_local(self._store.path):
            self._log.seek(0)
            with contextlib.suppress(OSError):
                path = self._store.path / "logs" / f"{self._name}.log"
                path.write_text(self._log.read().decode(errors="replace"))

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
        self.keep_log()
        self._log.close()


def _open_log(store: Store, name: str) -> IO[bytes]:
    if not is_local(store.path):
        return tempfile.TemporaryFile()
    folder = Path(os.fspath(store.path)) / "logs"
    try:
        folder.mkdir(exist_ok=True)
        return (folder / f"{name}.log").open("a+b")
    except OSError as error:
        raise EngineError(f"the log {folder / name}.log cannot be written ({error.strerror})") from None
