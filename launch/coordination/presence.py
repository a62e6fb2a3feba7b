"""Who is at work on a store: each worker's heartbeat file, and how others tell that it has fallen silent.

No clock is compared between machines. A worker counts up in `workers/<name>.json`; whoever depends on it notes when it
last saw the count change, by a clock of its own.
"""

import contextlib
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
from pydantic import Field

from launch.coordination.launches import is_cancelled
from scaling.specs.base import InputError, Spec, fingerprint_text, parse
from scaling.store.files import write_atomically
from scaling.store.store import Store

# A worker that has not been seen to count up for so long is taken for lost. On a shared disk a beat can be seen late by
# as long as attributes are cached, 60 s at most under NFS's defaults.
PATIENCE_SECONDS = 90.0
BEATS = 9  # in that time


class Identity(Spec):
    """Which process of which running machine; two are equal only if they are the same.

    Attributes:
      host: name of the machine.
      pid: of the process.
      machine: names the machine's present run and the process's namespace; empty where that cannot be told.
      began: when the process began, in ticks of that machine.
    """

    host: str
    pid: int
    machine: str = ""
    began: str = ""

    @property
    def handle(self) -> str:
        """In one word, which `from_handle` reads."""
        return f"{self.host}:{self.pid}:{self.began}:{self.machine}"

    @classmethod
    def from_handle(cls, handle: str) -> "Identity":
        """Returns the identity that has this handle."""
        host, pid, began, machine = handle.rsplit(":", 3)
        return cls(host=host, pid=int(pid), machine=machine, began=began)


class Beat(Spec):
    """What a worker says of itself.

    Attributes:
      worker: its name.
      count: goes up with every beat.
      patience_seconds: how long others shall wait for the next.
      identity: the process.
      launch: what started it; None by hand.
      place: its machine or slot, as its engine calls it.
      cells: fingerprints of those it trains now.
      steps: for each cell that was told of, the steps done and to do.
      rate: optimiser steps a second, lately.
      seconds: for how long it has been at these cells.
      device_kind: the device kind of its devices; empty before they are known.
      num_devices: how many.
    """

    worker: str
    count: int
    patience_seconds: float
    identity: Identity
    launch: str | None = None
    place: str = ""
    cells: tuple[str, ...] = ()
    steps: dict[str, tuple[int, int]] = Field(default_factory=dict)
    rate: float | None = None
    seconds: float = 0.0
    device_kind: str = ""
    num_devices: int = 0


def monotonic_seconds() -> float:
    """Returns a clock of this machine that never goes back and, where there is one, counts sleep of the machine too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def identify(pid: int | None = None) -> Identity:
    """Returns the identity of a process of this machine that has not ended; of this one by default."""
    number = os.getpid() if pid is None else pid
    return Identity(host=socket.gethostname(), pid=number, machine=_this_machine(), began=_begin_of(number) or "")


def is_gone(identity: Identity) -> bool:
    """Returns whether a process is known to have ended: only for those of this machine's present run."""
    if not identity.machine or identity.machine != _this_machine():
        return False
    return _begin_of(identity.pid) != identity.began


def _this_machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return fingerprint_text(f"{boot} {Path('/proc/self/ns/pid').readlink()}")
    except OSError:  # not Linux
        return ""


def _begin_of(pid: int) -> str | None:
    """Returns when a living process began; None if there is none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


# --- telling --------------------------------------------------------------------------------------------------------


class Presence:
    """A worker's heartbeat while it is open, from a thread of its own.

    Args:
      store: where it is kept.
      launch: what started the worker; when it is cancelled, this process hears SIGTERM with the next beat.
      patience_seconds: how long others shall wait for a beat.
    """

    def __init__(self, store: Store, launch: str | None = None, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.worker = uuid.uuid4().hex[:12]
        self._path = beat_path(store, self.worker)
        self._beat = Beat(
            worker=self.worker, count=0, patience_seconds=patience_seconds, identity=identify(), launch=launch,
            place=os.environ.get("SCALING_PLACE", ""),
        )  # fmt: skip
        self._store, self._launch = store, launch
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = {}
        self._began = self.last_beat = monotonic_seconds()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True, name="heartbeat")

    @property
    def patience_seconds(self) -> float:
        """How long others shall wait for a beat."""
        return self._beat.patience_seconds

    def __enter__(self) -> "Presence":
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def begin(self, **facts: Any) -> None:
        """Says, at once, what the worker does from now on: fields of `Beat`."""
        self._began = monotonic_seconds()
        with self._lock:
            self._facts = facts
        self.beat()

    def tell(self, steps: dict[str, tuple[int, int]], rate: float | None) -> None:
        """Says, with the next beat, how far cells are."""
        with self._lock:
            self._facts["steps"] = self._facts.get("steps", {}) | steps
            if rate is not None:
                self._facts["rate"] = rate

    def beat(self) -> None:
        """Counts up.

        Raises:
          InputError: the store cannot be written.
        """
        with self._lock:
            said = {"count": self._beat.count + 1, "seconds": monotonic_seconds() - self._began, **self._facts}
            self._beat = self._beat.model_copy(update=said)
            text = self._beat.canonical_json()
        write_atomically(self._path, text, is_lasting=False)
        self.last_beat = monotonic_seconds()

    def _go_on(self) -> None:
        has_told = False
        while not self._ended.wait(self.patience_seconds / BEATS):
            with contextlib.suppress(InputError, OSError):  # others will see it; publishing looks at the lease itself
                self.beat()
                if not has_told and self._launch is not None and is_cancelled(self._store, self._launch):
                    has_told = True
                    os.kill(os.getpid(), signal.SIGTERM)


def beat_path(store: Store, worker: str) -> epath.Path:
    """Returns where a worker's heartbeat is."""
    return store.path / "workers" / f"{worker}.json"


# --- watching -------------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """The newest beat of a worker, as counted by it, and when this process first saw it; -1 for none."""

    beat: int
    at: float


class Observer:
    """What this process has seen of others' heartbeats, and when, by its own clock.

    Args:
      store: where they are.
      clock: in seconds; never goes back.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = monotonic_seconds) -> None:
        self._store, self._clock = store, clock
        self._seen: dict[str, Seen] = {}
        self._silent: dict[str, int] = {}

    def trust(self, silent: dict[str, int]) -> None:
        """Takes from somebody who has watched for long enough which workers were silent, and at which counts."""
        self._silent |= silent

    def is_silent(self, worker: str) -> bool:
        """Returns whether a worker has ended without a word, or has not counted up for as long as it promised to."""
        beat = read_beat(self._store, worker)
        if beat is not None and is_gone(beat.identity):
            return True
        count = -1 if beat is None else beat.count
        now, before = self._clock(), self._seen.get(worker)
        if before is None or before.beat != count:
            self._seen[worker] = Seen(count, now)
            return self._silent.get(worker) == count
        patience = PATIENCE_SECONDS if beat is None else beat.patience_seconds
        return self._silent.get(worker) == count or now - before.at > patience

    def count_of(self, worker: str) -> int:
        """Returns the count that was last seen of a worker; -1 where it has no heartbeat."""
        return self._seen[worker].beat if worker in self._seen else -1


def read_beat(store: Store, worker: str) -> Beat | None:
    """Returns a worker's last beat; None if there is none."""
    return _read(beat_path(store, worker))


def read_beats(store: Store) -> Iterator[Beat]:
    """Yields the last beat of every worker that has not ended properly, dead ones too."""
    folder = store.path / "workers"
    for path in sorted(folder.glob("*.json")) if folder.exists() else ():
        beat = _read(path)
        if beat is not None:
            yield beat


def _read(path: epath.Path) -> Beat | None:
    try:
        return parse(Beat, path.read_text(), str(path))
    except (OSError, InputError):  # gone between two looks, or of another version
        return None
