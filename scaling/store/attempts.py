"""Who tried a cell, when, where and how it ended: one JSON line per event in the cell's `attempts.jsonl`."""

import collections
import contextlib
import datetime as dt
import os
import socket
import uuid
from typing import Any, Literal

from etils import epath

from scaling.specs.base import InputError, Spec, parse
from scaling.store.files import append_line

FILE = "attempts.jsonl"

Outcome = Literal["ok", "diverged", "failed", "interrupted"]


class Attempt(Spec):
    """Somebody began a cell, or ended it.

    Attributes:
      attempt: its name.
      event: which of the two.
      outcome: the outcome of an end.
      time: the time of the machine's clock.
      host, pid: whose process.
      launch: that the process belongs to; None by hand.
      worker: the name of the process in the store.
      error: the error of an end: why, with the traceback.
    """

    attempt: str
    event: Literal["start", "end"]
    outcome: Outcome | None = None
    time: str
    host: str
    pid: int
    launch: str | None = None
    worker: str | None = None
    error: str | None = None


def start_attempt(folder: epath.Path, *, launch: str | None = None, worker: str | None = None) -> str:
    """Notes that this process begins the cell in `folder` and returns the attempt's name."""
    attempt = uuid.uuid4().hex[:12]
    event = Attempt(attempt=attempt, event="start", launch=launch, worker=worker, **_here())
    append_line(folder / FILE, event.canonical_json())
    return attempt


def end_attempt(folder: epath.Path, attempt: str, outcome: Outcome, error: str | None = None) -> None:
    """Notes how an attempt ended, with its traceback where there is one."""
    event = Attempt(attempt=attempt, event="end", outcome=outcome, error=error, **_here())
    append_line(folder / FILE, event.canonical_json())


def read_attempts(folder: epath.Path) -> list[Attempt]:
    """Returns a cell's attempts in order; a torn line, left by a killed writer, does not count."""
    path = folder / FILE
    attempts = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(InputError):
            attempts.append(parse(Attempt, line, str(path)))
    return attempts


def open_attempt(folder: epath.Path) -> Attempt | None:
    """Returns the beginning of a cell's last attempt if that has no end."""
    attempts = read_attempts(folder)
    return attempts[-1] if attempts and attempts[-1].event == "start" else None


def count_outcomes(folder: epath.Path, launch: str | None) -> dict[str, int]:
    """Returns how many of a launch's attempts at a cell ended in each way."""
    attempts = read_attempts(folder)
    ours = {attempt.attempt for attempt in attempts if attempt.event == "start" and attempt.launch == launch}
    return dict(collections.Counter(str(end.outcome) for end in attempts if end.outcome and end.attempt in ours))


def last_status(folder: epath.Path) -> Literal["failed", "interrupted", "started", "missing"]:
    """Returns how a cell without a record was left; `started` is running, or was killed without a word."""
    attempts = read_attempts(folder)
    if not attempts:
        return "missing"
    if attempts[-1].event == "start":
        return "started"
    return "failed" if attempts[-1].outcome == "failed" else "interrupted"


def _here() -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    return {"time": now, "host": socket.gethostname(), "pid": os.getpid()}
