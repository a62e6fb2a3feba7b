"""Bringing a source's runs into a folder: only those that are new, changed or still going; safe to stop and repeat."""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from launch.imports.raw import Origin, RawFolder, RawRun
from launch.progress import PLAIN_INTERVAL_SECONDS

if TYPE_CHECKING:
    import pyarrow as pa

POLL_SECONDS = 0.5


class SourceError(Exception):
    """The source cannot be read any further; the one-line message says why and what to do."""


class RunError(Exception):
    """One run cannot be read; the others can."""


class Listed(NamedTuple):
    """A run as the source lists it: `is_live` means that it may change without its version telling."""

    id: str
    version: str
    is_live: bool = False
    payload: Any = None


class Source(Protocol):
    """Where runs come from.

    Attributes:
      origin: what the folder remembers of the source.
      workers: how many runs may be fetched at a time.
      patience: seconds within which some run must arrive, else the source is given up.
    """

    origin: Origin
    workers: int
    patience: float

    def list_runs(self) -> list[Listed]:
        """Returns all runs of the source."""

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its history."""

    def close(self) -> None:
        """Gives up whatever is still waited for."""


class LocalSource:
    """What sources on this machine have in common: one run at a time, and nothing to wait for."""

    workers = 1
    patience = float("inf")

    def close(self) -> None:
        """Does nothing."""


class Fetched(NamedTuple):
    """How a fetch went: numbers of runs, and those that could not be read, with the reason."""

    fetched: int
    unchanged: int
    failed: dict[str, str]


def choose_runs(folder: RawFolder, listed: Sequence[Listed]) -> list[Listed]:
    """Returns the runs that are not in the folder as the source has them now."""
    return [run for run in listed if run.is_live or folder.version_of(run.id) != run.version]


def fetch_runs(source: Source, folder: RawFolder, listed: Sequence[Listed]) -> Fetched:
    """Fetches what the folder lacks, each run saved as soon as it is whole.

    Raises:
      SourceError: the source gave up in the middle; what is here stays.
    """
    wanted = choose_runs(folder, listed)
    failed: dict[str, str] = {}
    gave_up: SourceError | None = None
    progress = _Progress(len(wanted))

    def fetch(run: Listed) -> None:
        try:
            raw, history = source.fetch(run)
        except RunError as error:
            failed[run.id] = str(error)
        else:
            folder.save(raw, history)

    pool = ThreadPoolExecutor(max_workers=source.workers)
    futures: list[Future[None]] = []
    try:
        futures = [pool.submit(fetch, run) for run in wanted]
        pending, moved = set(futures), time.monotonic()
        while pending:
            done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            progress.show(len(wanted) - len(pending))
            for future in done:
                future.result()
            if done:
                moved = time.monotonic()
            elif time.monotonic() - moved > source.patience:
                raise SourceError(f"no run came for {source.patience:g} s; --patience SECONDS waits longer")
    except SourceError as error:
        gave_up = error
    finally:
        progress.close()
        source.close()
        pool.shutdown(wait=True, cancel_futures=True)
    if gave_up is not None:  # runs that were on their way have arrived by now
        here = len(listed) - len(choose_runs(folder, [run._replace(is_live=False) for run in listed]))
        raise SourceError(f"{gave_up}; {here} of {len(listed)} runs are kept, and the same command goes on")
    return Fetched(len(wanted) - len(failed), len(listed) - len(wanted), failed)


class _Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._bar, self._last = total, None, time.monotonic()
        if sys.stderr.isatty() and total:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="run", leave=False)

    def show(self, done: int) -> None:
        if self._bar is not None:
            self._bar.n = done
            self._bar.refresh()
        elif time.monotonic() - self._last >= PLAIN_INTERVAL_SECONDS:
            self._last = time.monotonic()
            print(f"[{done}/{self._total}] runs fetched", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
