"""What runs jobs, by name; an engine is a module with `run_cells(cells, store, workers, options) → Outcome`."""

import argparse
import dataclasses
import importlib
from types import ModuleType

from launch.jobs import parse_execution
from scaling.execution import Execution
from scaling.spec import InputError

ENGINES = ("local",)


class EngineError(RuntimeError):
    """An engine cannot run anything: something is wrong with the machine, not with a cell."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How jobs are run, whatever the engine.

    Attributes:
      execution: of all programs; None chooses one for each.
      worker_flags: for the workers' command line.
    """

    execution: Execution | None = None
    worker_flags: tuple[str, ...] = ()


DEFAULT = Options()


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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds to a command what `read_options` reads."""
    add = parser.add_argument
    add(
        "--execution", action="append", default=[], metavar="PATH=VALUE",
        help="how to run, in place of the choice made for each program: population=8, mesh.data=2, … or JSON; "
        "repeatable",
    )  # fmt: skip
    add("--checkpoint-seconds", type=float, default=600.0, metavar="S", help="between two checkpoints; 0 for none")
    add("--checkpoint-steps", type=int, metavar="K", help="steps between two checkpoints, whatever the time")
    add("--num-checkpoints", type=int, default=2, metavar="K", help="the newest so many are kept; default 2")
    add("--keep-checkpoints", action="store_true", help="keep the last one of each job that is complete")


def read_options(given: argparse.Namespace) -> Options:
    """Returns what a user asks for.

    Raises:
      InputError: a value is out of bounds.
    """
    seconds, steps, number = given.checkpoint_seconds, given.checkpoint_steps, given.num_checkpoints
    if not seconds >= 0:
        raise InputError(f"--checkpoint-seconds {seconds}: must be at least 0, which keeps none")
    for flag, value in {"--checkpoint-steps": steps, "--num-checkpoints": number}.items():
        if value is not None and value < 1:
            raise InputError(f"{flag} {value}: must be at least 1")
    flags = [f"--checkpoint_seconds={seconds}", f"--num_checkpoints={number}"]
    flags += [] if steps is None else [f"--checkpoint_steps={steps}"]
    flags += ["--keep_checkpoints"] if given.keep_checkpoints else []
    return Options(parse_execution(given.execution), tuple(flags))
