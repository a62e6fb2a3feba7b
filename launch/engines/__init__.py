"""What runs jobs, by name; an engine is a module with `run_cells(cells, store, workers) → Outcome`."""

import dataclasses
import importlib
from types import ModuleType

ENGINES = ("local",)


class EngineError(RuntimeError):
    """An engine cannot run anything: something is wrong with the machine, not with a cell."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of cells ended.

    Attributes:
      statuses: `ok`, `diverged` or `failed` by fingerprint, for every cell that ended.
      stopped: whether a signal stopped the run before all cells had ended.
    """

    statuses: dict[str, str]
    stopped: bool

    def count(self, status: str) -> int:
        """Returns how many cells ended so."""
        return sum(found == status for found in self.statuses.values())


def load_engine(name: str) -> ModuleType:
    """Returns an engine's module."""
    return importlib.import_module(f"launch.engines.{name}")
