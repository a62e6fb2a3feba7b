"""What a person sees while cells run: a bar on a terminal and in a notebook, else plain lines; and how a run ended."""

import dataclasses
import importlib.util
import sys
import time
from typing import Any, Literal, assert_never

from tqdm import tqdm

from scaling.specs.cell import Cell

# Between two plain lines at least so long, so that a log of a long sweep stays short.
PLAIN_INTERVAL_SECONDS = 10.0


EndStatus = Literal["ok", "diverged", "failed"]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run of cells ended.

    Attributes:
      statuses: by fingerprint, of every cell that ended.
      stopped: whether a signal stopped the run before all cells had ended.
    """

    statuses: dict[str, EndStatus]
    stopped: bool

    def count(self, status: EndStatus) -> int:
        """Returns how many cells ended so."""
        return sum(found == status for found in self.statuses.values())


class Progress:
    """A bar over cells whose time left follows the estimated work, since cells differ a thousandfold."""

    def __init__(self, num_cells: int, work: float) -> None:
        self.done = self.failed = self.diverged = 0
        self._num_cells, self._work, self._work_done = num_cells, work, 0.0
        self._started = time.monotonic()
        self._last_line = -PLAIN_INTERVAL_SECONDS
        self._bar: Any = None
        if sys.stderr.isatty() or is_notebook():
            self._bar = _find_bar()(
                total=num_cells, unit="cell", bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} cells{postfix}", leave=False
            )

    def update(self, cell: Cell, status: EndStatus, work: float) -> None:
        """Notes that a cell ended."""
        what = f"{cell.model.kind} m={cell.data.size} seed={cell.seed} ({cell.fingerprint()})"
        self.done += 1
        match status:
            case "ok":
                pass
            case "diverged":
                self.diverged += 1
            case "failed":
                self.failed += 1
            case _:
                assert_never(status)
        self._work_done += work
        if self._bar is not None:
            self._bar.set_postfix_str(self._summary(), refresh=False)
            self._bar.update()
        elif self._line_is_due():
            print(f"[{self.done}/{self._num_cells}] {what}: {status} · {self._summary()}", file=sys.stderr, flush=True)
        if status == "failed":
            self.say(f"failed: {what}")

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()

    def _line_is_due(self) -> bool:
        now = time.monotonic()
        if self.done < self._num_cells and now - self._last_line < PLAIN_INTERVAL_SECONDS:
            return False
        self._last_line = now
        return True

    def _summary(self) -> str:
        elapsed = time.monotonic() - self._started
        left = elapsed * (self._work / self._work_done - 1.0) if self._work_done else 0.0
        bad = "".join(f" · {n} {name}" for name, n in (("diverged", self.diverged), ("failed", self.failed)) if n)
        return f"{format_seconds(elapsed)} elapsed, about {format_seconds(max(left, 0.0))} left{bad}"


def is_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def _find_bar() -> Any:
    """Returns the kind of bar that can be shown here; a notebook without widgets shows it as text."""
    if is_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.auto import tqdm as bar

        return bar
    return tqdm


def format_seconds(seconds: float) -> str:
    """Returns a duration for people.

    >>> format_seconds(95), format_seconds(3725)
    ('1 min 35 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
