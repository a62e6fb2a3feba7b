"""Who tried a cell, when, where and how it ended: one JSON line per event in the cell's `attempts.jsonl`."""

import collections
import contextlib
import datetime as dt
import os
import socket
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Literal

from etils import epath

from scaling.specs.base import InputError, Spec, parse
from scaling.store.files import append_line
from scaling.store.listing import find_files, read_files

FILE = "attempts.jsonl"

Outcome = Literal["ok", "diverged", "failed", "interrupted"]
LastStatus = Literal["failed", "interrupted", "started", "missing"]

# So few cells are asked for one by one; a listing tells of more, and of those that are complete too.
FEW = 16


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
    return _parse_attempts(path.read_text() if path.exists() else "", str(path))


def _parse_attempts(text: str, where: str) -> list[Attempt]:
    attempts = []
    for line in text.splitlines():
        with contextlib.suppress(InputError):
            attempts.append(parse(Attempt, line, where))
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


def last_status(folder: epath.Path) -> LastStatus:
    """Returns how a cell without a record was left; `started` is running, or was killed without a word."""
    return _status_after(read_attempts(folder))


def last_statuses(folder: epath.Path, cells: Collection[str]) -> dict[str, LastStatus]:
    """Returns how each of some cells without records was left; see `last_status`.

    Args:
      folder: that has a folder for each cell.
      cells: fingerprints.
    """
    begun = cells if len(cells) <= FEW else find_files(folder, FILE, cells)
    found: dict[str, LastStatus] = dict.fromkeys(cells, "missing")
    for cell, content in read_files(folder, FILE, begun):
        found[cell] = _status_after(_parse_attempts(content.decode(errors="replace"), f"{folder}/{cell}/{FILE}"))
    return found


def _status_after(attempts: Sequence[Attempt]) -> LastStatus:
    if not attempts:
        return "missing"
    if attempts[-1].event == "start":
        return "started"
    return "failed" if attempts[-1].outcome == "failed" else "interrupted"


def _here() -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    return {"time": now, "host": socket.gethostname(), "pid": os.getpid()}
