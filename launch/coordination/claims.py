"""A worker's own leases: what it takes before it trains, keeps while it does, and gives back afterwards."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from launch.coordination.leases import Complete, Held, Lease, LeaseLostError, Leases
from launch.coordination.presence import Observer, Presence, monotonic_seconds
from launch.progress import EndStatus
from scaling.specs.base import Spec
from scaling.store.attempts import count_outcomes, end_attempt, open_attempt
from scaling.store.record import Record
from scaling.store.store import Store

# An older last beat than this share of one's patience is a reason to look whether one was taken for lost.
DOUBT = 0.5


class Budget(Spec):
    """How often a cell may end badly in one launch before it is left.

    Attributes:
      failures: attempts that raised an error or killed their process.
      interruptions: attempts that were preempted, or whose machine was lost.
    """

    failures: int = 1
    interruptions: int = 50

    def is_spent(self, ended: Mapping[str, int]) -> bool:
        """Returns whether attempts, counted by outcome, are as many as are allowed."""
        return ended.get("failed", 0) >= self.failures or ended.get("interrupted", 0) >= self.interruptions


ONCE = Budget()


class Taken(NamedTuple):
    """What became of cells that a worker wanted.

    Attributes:
      mine: it has them now.
      held: others do.
      ended: status of those that are complete, or that have used up their budget, which is `failed`.
    """

    mine: list[str]
    held: list[str]
    ended: dict[str, EndStatus]


class Claims:
    """The leases that this process has.

    Args:
      store: with the cells.
      presence: the presence of this process.
      observer: who watches the others.
      budget: the budget of every cell.
      launch: that attempts are counted in; None for those by hand, which are not.
    """

    def __init__(
        self, store: Store, presence: Presence, observer: Observer, budget: Budget, launch: str | None = None
    ) -> None:
        self._store, self._presence, self._budget, self._launch = store, presence, budget, launch
        self._leases = Leases(store, observer)
        self._mine: dict[str, Lease] = {}

    def take(self, cells: Iterable[str]) -> Taken:
        """Claims the cells of a job.

        Where another worker has the first of them, it is about to take the others too: none is claimed then, so that
        two workers do not halve each other's populations.
        """
        taken = Taken([], [], {})
        names = sorted(cells)
        for name in names:
            found = self._leases.claim(name, self._presence.worker)
            if isinstance(found, Complete):
                taken.ended[name] = found.record.status
            elif isinstance(found, Held):
                if not taken.mine:
                    taken.held.extend(other for other in names if other not in taken.ended)
                    return taken
                taken.held.append(name)
            else:
                self._mine[name] = found
                self._end_what_was_left(name)
                if self._is_spent(name):
                    taken.ended[name] = "failed"
                    self.release(name)
                else:
                    taken.mine.append(name)
        return taken

    def check(self) -> None:
        """Checks, where this process may have been stopped for long, that all its leases are still its own.

        Raises:
          LeaseLostError: one is not.
        """
        if monotonic_seconds() - self._presence.last_beat < DOUBT * self._presence.patience_seconds:
            return
        for lease in self._mine.values():
            if not self._leases.is_held(lease):
                raise LeaseLostError(
                    f"cell {lease.cell} was taken over while this process did not respond; others train it now"
                )

    def publish(self, record: Record) -> None:
        """Makes one of the cells complete.

        Raises:
          LeaseLostError: it has been taken over.
        """
        self._leases.publish(self._mine.pop(record.cell), record)

    def still_holds(self, cell: str) -> bool:
        """Returns whether this process has a cell and nobody has taken it over."""
        return cell in self._mine and self._leases.is_held(self._mine[cell])

    def may_fail_again(self, cell: str) -> bool:
        """Returns whether a cell may be tried again when the attempt that is open fails."""
        if self._launch is None:
            return False
        return self._count(cell).get("failed", 0) + 1 < self._budget.failures

    def release(self, *cells: str) -> None:
        """Gives cells back, those that are still held; all of them if none is named."""
        for name in cells or list(self._mine):
            if (lease := self._mine.pop(name, None)) is not None:
                self._leases.release(lease)

    def _end_what_was_left(self, cell: str) -> None:
        """Ends the attempt of a holder that fell silent."""
        folder = self._store.cell_path(cell)
        left = open_attempt(folder)
        if left is not None:
            words = f"lost: process {left.pid} on {left.host} ended without a word, or did not respond"
            end_attempt(folder, left.attempt, "interrupted", words)

    def _is_spent(self, cell: str) -> bool:
        if self._launch is None:  # by hand, as often as one likes
            return False
        return self._budget.is_spent(self._count(cell))

    def _count(self, cell: str) -> dict[str, int]:
        return count_outcomes(self._store.cell_path(cell), self._launch)
