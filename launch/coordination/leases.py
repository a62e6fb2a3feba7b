"""Who may train a cell and publish its record: a chain of entries, each of which exactly one process can add.

`cells/<fingerprint>/leases/` holds numbered files. Number n + 1 is created only by who has seen n as the last, and
creation fails where the file exists, so the chain has no forks: a claim, then a release, or somebody else's claim after
a holder that fell silent, and at the end the record itself. Publishing is adding an entry right after one's own claim.
A worker that was stopped past its lease and continues finds another entry there, and cannot.
"""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Literal

from etils import epath

from launch.coordination.presence import Observer
from scaling.specs.base import InputError, Spec, parse
from scaling.store.files import create_once, is_local, one_line_errors
from scaling.store.record import Record
from scaling.store.store import Store

FOLDER = "leases"


class LeaseLostError(RuntimeError):
    """Others have taken this worker for lost and the cell over; what it has done since does not count."""


class Entry(Spec):
    """A claim of a worker, or its release; a chain's last entry may be a `Record` instead."""

    kind: Literal["claim", "release"]
    worker: str


@dataclasses.dataclass(frozen=True)
class Lease:
    """A worker's claim of a cell."""

    cell: str
    number: int
    worker: str


@dataclasses.dataclass(frozen=True)
class Held:
    """Another worker has the cell."""

    worker: str


@dataclasses.dataclass(frozen=True)
class Complete:
    """The cell has its record."""

    record: Record


class Leases:
    """The leases on a store's cells.

    Args:
      store: with the cells.
      observer: who watches those who hold them.
    """

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store, self._observer = store, observer

    def claim(self, cell: str, worker: str) -> Lease | Held | Complete:
        """Returns a lease on a cell for a worker, or why there is none."""
        if (record := self._store.read_record(cell)) is not None:
            return Complete(record)
        number, last = self._last(cell)
        if isinstance(last, Record):  # whoever added it ended before it could do this
            self._show(cell, number, last)
            return Complete(last)
        if last is not None and last.kind == "claim" and not self._observer.is_silent(last.worker):
            return Held(last.worker)
        claim = Entry(kind="claim", worker=worker)
        # Who loses power loses its claims with it.
        if create_once(self._path(cell, number + 1), claim.canonical_json(), is_lasting=False):
            return Lease(cell, number + 1, worker)
        _, last = self._last(cell)
        return Complete(last) if isinstance(last, Record) else Held("" if last is None else last.worker)

    def holder(self, cell: str) -> str | None:
        """Returns the worker whose claim is a cell's last entry, silent or not; None where it is free or complete."""
        _, last = self._last(cell)
        return last.worker if isinstance(last, Entry) and last.kind == "claim" else None

    def is_held(self, lease: Lease) -> bool:
        """Returns whether nobody has taken a lease over."""
        return not self._path(lease.cell, lease.number + 1).exists()

    def publish(self, lease: Lease, record: Record) -> None:
        """Makes a cell complete.

        Raises:
          LeaseLostError: somebody else holds the lease, or has published.
        """
        if not create_once(self._path(lease.cell, lease.number + 1), record.canonical_json() + "\n"):
            raise LeaseLostError(f"cell {lease.cell} was taken over while worker {lease.worker} did not respond")
        self._show(lease.cell, lease.number + 1, record)

    def release(self, lease: Lease) -> None:
        """Lets others have a cell; one that is lost already stays so."""
        entry = Entry(kind="release", worker=lease.worker)
        create_once(self._path(lease.cell, lease.number + 1), entry.canonical_json(), is_lasting=False)

    def release_for(self, cell: str, worker: str) -> None:
        """Releases a cell for a worker that has surely ended."""
        number, last = self._last(cell)
        if isinstance(last, Entry) and last == Entry(kind="claim", worker=worker):
            self.release(Lease(cell, number, worker))

    def _show(self, cell: str, number: int, record: Record) -> None:
        """Puts the record that ends a chain where readers look for it."""
        if not is_local(self._store.path):
            self._store.publish(record)
            return
        entry = Path(os.fspath(self._path(cell, number)))
        with contextlib.suppress(FileExistsError):
            os.link(entry, entry.parent.parent / "record.json")

    def _last(self, cell: str) -> tuple[int, Entry | Record | None]:
        folder = self._store.cell_path(cell) / FOLDER
        with one_line_errors(folder, "read"):
            names = [path.name for path in folder.iterdir()] if folder.exists() else []
            numbers = [int(name) for name in names if name.isdigit()]
            if not numbers:
                return 0, None
            return max(numbers), _read(self._path(cell, max(numbers)))

    def _path(self, cell: str, number: int) -> epath.Path:
        return self._store.cell_path(cell) / FOLDER / f"{number:06d}"


def _read(path: epath.Path) -> Entry | Record | None:
    """Returns an entry; None for a damaged one, which no longer says that somebody has the cell."""
    text = path.read_text()
    with contextlib.suppress(InputError):
        return parse(Entry, text, str(path))
    with contextlib.suppress(InputError):
        return parse(Record, text, str(path))
    return None
