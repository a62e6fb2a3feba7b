"""A process that has loaded what workers need, and forks them: one is ready in hundredths of a second.

It has one thread, touches no device and does nothing but what it is asked: so what it forks begins as a new interpreter
would that had all these modules. It ends when the socket to its client does. `forks.py` is the client.
"""

import contextlib
import gc
import importlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

STANDARD = 3  # files: input, output, errors
MOST_BYTES = 1 << 17  # of a request


class Task(NamedTuple):
    """What a forked process shall do.

    Attributes:
      module: the module whose `start` takes the words.
      words: of its command line.
      environment: variables that differ from those of the server.
      cores: that it may use; none for all.
      threads: that libraries may compute with.
    """

    module: str
    words: Sequence[str]
    environment: dict[str, str]
    cores: Sequence[int]
    threads: int


def serve(channel: socket.socket) -> Task | None:
    """Answers requests, one JSON document a message, until the client is gone; returns a task in a forked process.

    `{"load": [MODULE, …]}` imports modules, and is not answered. `{"fork": {…}}` comes with three files and a `Task`'s
    fields, and is answered with the `pid`. `{"wait": PID}` is answered with the `status`, as `subprocess` has it, of a
    process that has ended; None for one that has not. Until this is asked, its number is no other process's.
    """
    while True:
        message, files, _, _ = socket.recv_fds(channel, MOST_BYTES, STANDARD)
        if not message:
            return None
        request = json.loads(message)
        if "load" in request:
            for name in request["load"]:
                with contextlib.suppress(Exception):  # the process that needs it will say so
                    importlib.import_module(name)
            gc.collect()
            gc.freeze()  # a look for garbage would copy all the pages that are shared
        elif "fork" in request:
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                channel.close()
                task = Task(**request["fork"])
                _settle(task, files)
                return task
            for file in files:
                os.close(file)
            _answer(channel, pid=pid)
        else:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            _answer(channel, status=os.waitstatus_to_exitcode(status) if pid else None)


def _answer(channel: socket.socket, **reply: Any) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next request is none
        channel.send(json.dumps(reply).encode())


def _settle(task: Task, files: Sequence[int]) -> None:
    """Makes a forked process one of its own."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.update(task.environment)
    if task.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task.cores)
    if task.threads > 1:  # the server's libraries were told to use one
        from threadpoolctl import threadpool_limits

        threadpool_limits(task.threads)


if __name__ == "__main__":
    found = serve(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        sys.argv[1:] = found.words
        importlib.import_module(found.module).start(list(found.words))
