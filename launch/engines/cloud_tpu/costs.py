"""What TPU slices have cost a store, and what they may still: a ledger in the store, which any process can go on with.

A slice is given, when it is asked for, the hours that it may run at most, and its hosts end it by themselves after
these. So what was spent, and what is running times its hours, never exceeds a budget, whoever watches.
"""

import dataclasses
from collections.abc import Iterable

from etils import epath

from launch.engines import EngineError
from scaling.specs.base import InputError, Spec, parse
from scaling.store.files import write_atomically
from scaling.store.record import CorruptStoreError
from scaling.store.store import Store

FOLDER, FILE = "cloud_tpu", "allocation.json"

# A shorter time is not worth starting: a machine takes minutes to start and to make its environment.
LEAST_HOURS = 0.25

# From the moment at which a slice is paid for to that at which its hosts begin to count, and from their end to its.
MARGIN_HOURS = 0.1

HOUR = 3600.0


class Allocation(Spec):
    """What the ledger holds of a queued resource; all times in seconds since 1970.

    Attributes:
      name: its full name.
      launch: that it was asked for in.
      accelerator: its type.
      chips: the chips of all its slices.
      hosts: the same.
      price_per_chip_hour: in dollars; None where nobody knows.
      hours: that it may run.
      asked: when it was asked for.
      began: when it was first paid for; None while it is not known to be.
      closing: when its machines were first given back, which takes minutes; None before.
      ended: when it was not paid for any longer; None while it may be.
      state: in which it ends; empty before that is known.
      why: the cause of that.
    """

    name: str
    launch: str
    accelerator: str
    chips: int
    hosts: int
    price_per_chip_hour: float | None
    hours: float
    asked: float
    began: float | None = None
    closing: float | None = None
    ended: float | None = None
    state: str = ""
    why: str = ""

    @property
    def handle(self) -> str:
        """What the engine calls it."""
        return self.name.rpartition("/")[2]

    def used_hours(self, now: float) -> float:
        """Returns for how long it has been paid for."""
        return 0.0 if self.began is None else max((now if self.ended is None else self.ended) - self.began, 0.0) / HOUR

    def most_hours(self, now: float) -> float:
        """Returns for how long it has been paid for, or will be at most."""
        used = self.used_hours(now)
        return used if self.ended is not None else max(used, self.hours)


@dataclasses.dataclass(frozen=True)
class Allowance:
    """What a store's slices may cost, all of them together; None for no bound.

    Attributes:
      chip_hours: the chip hours of all launches.
      dollars: the same.
      hours: that one slice may run.
    """

    chip_hours: float | None
    dollars: float | None
    hours: float

    def share(self, ledger: Iterable[Allocation], now: float, chips: int, price: float | None, count: int) -> float:
        """Returns the hours that each of `count` new slices of so many chips may run.

        Raises:
          EngineError: too little is left.
        """
        made = list(ledger)
        hours, why = self.hours, ""
        for limit, spent, rate, words in self._limits(made, now, chips, price):
            left = (limit - spent) / (rate * count)
            if left < hours:
                hours, why = left, f"{words}: {spent:,.2f} are spent or taken by what runs"
        if hours < min(LEAST_HOURS, self.hours):
            raise EngineError(
                f"{why}, which leaves {max(hours, 0.0) * 60:.0f} minutes for {count} times {chips} chips; a start is "
                f"worth it from {LEAST_HOURS * 60:.0f} on; allow more, or ask for fewer chips"
            )
        return hours

    def excess(self, ledger: Iterable[Allocation], now: float) -> str:
        """Returns why everything must stop; empty while less than the budget has been used."""
        for limit, spent, _, words in self._limits(list(ledger), now, 1, 1.0, used=True):
            if spent >= limit:
                return f"{words}: used up"
        return ""

    def _limits(
        self, ledger: list[Allocation], now: float, chips: int, price: float | None, *, used: bool = False
    ) -> list[tuple[float, float, float, str]]:
        """Returns each bound with what counts against it, what an hour of a new slice adds, and its name."""
        hours = [(one, one.used_hours(now) if used else one.most_hours(now)) for one in ledger]
        limits = []
        if self.chip_hours is not None:
            spent = sum(one.chips * each for one, each in hours)
            limits.append((self.chip_hours, spent, float(chips), f"max_chip_hours={self.chip_hours:g}"))
        if self.dollars is not None:
            spent = sum(one.chips * each * (one.price_per_chip_hour or price or 0.0) for one, each in hours)
            limits.append((self.dollars, spent, chips * (price or 0.0), f"max_dollars={self.dollars:g}"))
        return limits


class Ledger:
    """A store's allocations, each in a file of its own.

    Args:
      store: that they work on.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.path / FOLDER
        self._ended: dict[str, Allocation] = {}  # which do not change any more

    def folder(self, handle: str) -> epath.Path:
        """Returns where what belongs to an allocation is kept."""
        return self._folder / handle

    def read(self) -> dict[str, Allocation]:
        """Returns all allocations by handle.

        Raises:
          CorruptStoreError: an entry cannot be read.
        """
        found: dict[str, Allocation] = {}
        for folder in sorted(self._folder.iterdir()) if self._folder.exists() else ():
            if folder.name in self._ended:
                found[folder.name] = self._ended[folder.name]
            elif (one := self._read(folder / FILE)) is not None:
                found[folder.name] = one
                self._note(one)
        return found

    def write(self, allocation: Allocation) -> None:
        """Keeps an allocation's present state."""
        write_atomically(self.folder(allocation.handle) / FILE, allocation.canonical_json() + "\n")
        self._note(allocation)

    def _note(self, allocation: Allocation) -> None:
        if allocation.ended is not None:
            self._ended[allocation.handle] = allocation

    def _read(self, path: epath.Path) -> Allocation | None:
        try:
            return parse(Allocation, path.read_text(), str(path))
        except FileNotFoundError:  # reports of a machine may be there first
            return None
        except InputError as error:
            raise CorruptStoreError(f"{error}; what its slice has cost is not known without it") from None
