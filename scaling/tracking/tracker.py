"""Who follows runs while they go: three functions, told of cells by fingerprint."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from scaling.store.record import Record

Point = Mapping[str, Any]


class Tracker:
    """Is told what becomes of cells, by fingerprint; does nothing itself."""

    def begin(self, cell: str, step: int) -> None:
        """A cell starts, at step 0, or goes on from a checkpoint: what was told of later steps did not happen."""

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """A cell got on: points in order, each with its `step` (None for models without steps).

        A point is either an evaluation, with the fields of `scaling.store.record.Evaluation`, or holds metrics of the
        training steps before it; `is_evaluation` tells them apart.
        """

    def end(self, cell: str, record: Record | None) -> None:
        """A cell is complete, and its record published; or None: it was interrupted, or has failed."""


def is_evaluation(point: Point) -> bool:
    """Returns whether a point is an evaluation: only these say what was seen so far.

    >>> is_evaluation({"step": 10, "train_loss": 0.5})
    False
    """
    return "data_seen" in point


class Together(Tracker):
    """A ledger and its mirrors.

    What the ledger raises ends the run. A mirror that raises is told nothing more, a line says so, and training goes
    on: what it lacks is in the ledger.

    Args:
      ledger: is told first, so that mirrors may read what it has written.
      mirrors: by name.
    """

    def __init__(self, ledger: Tracker, mirrors: Mapping[str, Tracker]) -> None:
        self._ledger, self.mirrors = ledger, dict(mirrors)

    def begin(self, cell: str, step: int) -> None:
        """Tells all."""
        self._ledger.begin(cell, step)
        self._tell("begin", cell, step)

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """Tells all."""
        self._ledger.log(cell, points)
        self._tell("log", cell, points)

    def end(self, cell: str, record: Record | None) -> None:
        """Tells all."""
        self._ledger.end(cell, record)
        self._tell("end", cell, record)

    def _tell(self, function: str, *arguments: Any) -> None:
        for name, mirror in list(self.mirrors.items()):
            try:
                getattr(mirror, function)(*arguments)
            except Exception as error:  # noqa: BLE001  (whatever a mirror does wrong, training goes on)
                del self.mirrors[name]
                words = " ".join(f"{type(error).__name__}: {error}".split())
                warn(f"tracker {name} is left out from here on ({words}); the store has everything")


class Ended(Tracker):
    """Hands all it hears to another tracker and, as a context, ends without a record what has not ended at its exit."""

    def __init__(self, then: Tracker) -> None:
        self._then = then
        self._open: dict[str, None] = {}

    def begin(self, cell: str, step: int) -> None:
        """Hands it on."""
        self._open[cell] = None
        self._then.begin(cell, step)

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """Hands it on."""
        self._then.log(cell, points)

    def end(self, cell: str, record: Record | None) -> None:
        """Hands it on."""
        self._open.pop(cell, None)
        self._then.end(cell, record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for cell in list(self._open):
            self.end(cell, None)


def warn(words: str) -> None:
    """Prints a line to standard error."""
    print(f"scaling: {words}", file=sys.stderr, flush=True)
