"""Processes for workers: forked from one that has loaded what they need, or each a new interpreter."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import IO, Any, Protocol

from launch.coordination.presence import Identity, identify, is_gone
from launch.engines import EngineError
from launch.workers.slots import Slot
from scaling.specs.cell import Cell, is_network

# What cells of each kind load before they train. The server loads nothing that starts threads or touches a device.
FOR_ALL = ("launch.workers.checker", "launch.workers.worker", "scaling.training.runner")
FOR_NETWORKS = ("scaling.training.networks", "scaling.training.calibration")
FOR_ESTIMATORS = ("scaling.training.estimators", "sklearn.linear_model")

# Threads do not survive a fork: libraries are told to start none when they are loaded (pandas loads Arrow).
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}

# Between two looks whether a process has ended.
LOOK_SECONDS = 0.005


class Process(Protocol):
    """A process that is spoken to by its standard input and output."""

    stdin: Any
    stdout: Any

    def wait(self) -> int:
        """Returns the exit status once the process has ended; minus the signal that ended it."""

    def terminate(self) -> None:
        """Sends SIGTERM."""

    def kill(self) -> None:
        """Sends SIGKILL."""


def start_process(
    module: str, words: Sequence[str], slot: Slot, errors: IO[bytes] | int, server: "ForkServer | None"
) -> Process:
    """Returns a new process that runs a module's `start` with words.

    Args:
      module: the module.
      words: of its command line.
      slot: where it runs.
      errors: takes its standard error.
      server: that forks it; None starts an interpreter.

    Raises:
      EngineError: the server does not answer.
    """
    threads = max(len(slot.cores), 1)
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    environment = {**limits, **slot.environment}
    if server is not None:
        return server.fork(module, words, environment, slot.cores, threads, errors)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        bufsize=1,
        start_new_session=True,  # Ctrl-C reaches the agent alone, which then stops the workers
        env={**os.environ, **environment},
    )
    if slot.cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, slot.cores)
    return process


def can_fork(slots: Iterable[Slot]) -> bool:
    """Returns whether workers in these slots may be forked: on Linux, where none has an accelerator to itself.

    Drivers of accelerators do not survive a fork in every version, nor do macOS's own libraries.
    """
    return sys.platform == "linux" and not any(slot.environment for slot in slots)


class ForkServer:
    """A server that forks processes, started with this object and ended with it.

    Args:
      cells: that the processes will train, which decide what is loaded.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        cells = tuple(cells)
        has_networks = any(map(is_network, cells))
        self._modules = [*FOR_ALL, *(FOR_NETWORKS if has_networks else ())]
        self._modules += FOR_ESTIMATORS if not all(map(is_network, cells)) else ()
        self._turn = threading.Lock()  # one question at a time
        self._ended = False
        self._start()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._ended = True
            self._end()

    def fork(
        self,
        module: str,
        words: Sequence[str],
        environment: dict[str, str],
        cores: Iterable[int],
        threads: int,
        errors: IO[bytes] | int,
    ) -> "Forked":
        """Returns a forked process; see `start_process`.

        Raises:
          EngineError: the server has ended and so has the next one.
        """
        task = {
            "module": module, "words": list(words), "environment": environment, "cores": sorted(cores),
            "threads": threads,
        }  # fmt: skip
        to_read, to_write = os.pipe(), os.pipe()
        theirs = [to_read[0], to_write[1], errors if isinstance(errors, int) else errors.fileno()]
        try:
            with self._turn:
                generation, pid = self._fork({"fork": task}, theirs)
        except BaseException:
            os.close(to_read[1])
            os.close(to_write[0])
            raise
        finally:
            os.close(to_read[0])
            os.close(to_write[1])
        return Forked(self, generation, pid, to_read[1], to_write[0])

    def status_of(self, generation: int, process: Identity) -> int | None:
        """Returns the exit status of a process; None while it runs, -9 where its server was killed and nobody knows."""
        with self._turn:
            if generation == self._generation and not self._ended:
                with contextlib.suppress(OSError):
                    status: int | None = self._ask({"wait": process.pid})["status"]
                    return status
            return -signal.SIGKILL if is_gone(process) else None

    def _fork(self, request: dict[str, Any], files: Sequence[int]) -> tuple[int, int]:
        for is_last in (False, True):
            try:
                return self._generation, self._ask(request, files)["pid"]
            except OSError as error:
                if is_last or self._ended:
                    raise EngineError(f"the process that starts workers has ended ({error})") from None
                self._end()  # the system may have killed it for its memory, say
                self._start()
        raise AssertionError

    def _ask(self, request: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        socket.send_fds(self._channel, [json.dumps(request).encode()], files)
        answer = self._channel.recv(1 << 12)
        if not answer:
            raise BrokenPipeError("no answer")
        reply: dict[str, Any] = json.loads(answer)
        return reply

    _generation = 0

    def _start(self) -> None:
        self._generation += 1
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "launch.workers.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, **ONE_THREAD},
            )
        with contextlib.suppress(OSError):  # the first question will find that it has ended
            self._channel.send(json.dumps({"load": self._modules}).encode())

    def _end(self) -> None:
        self._channel.close()
        self._process.kill()  # it has nothing to save, and may be loading still
        self._process.wait()


class Forked:
    """A forked process."""

    def __init__(self, server: ForkServer, generation: int, pid: int, stdin: int, stdout: int) -> None:
        self.stdin = os.fdopen(stdin, "w", buffering=1, encoding="utf-8")
        self.stdout = os.fdopen(stdout, "r", encoding="utf-8")
        self._server, self._generation, self._identity = server, generation, identify(pid)
        self._status: int | None = None

    def wait(self) -> int:
        """Returns the exit status once the process has ended."""
        while self._status is None:
            self._status = self._server.status_of(self._generation, self._identity)
            if self._status is None:
                time.sleep(LOOK_SECONDS)
        return self._status

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self._status is None:  # else the number may be another's
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._identity.pid, number)
