"""How jobs are run, whatever gives them machines: what the command line says of it, here and on another machine."""

import argparse
import dataclasses
from collections.abc import Sequence

from launch.coordination.claims import ONCE, Budget
from launch.coordination.presence import PATIENCE_SECONDS
from scaling.specs.base import InputError, override, parse
from scaling.specs.execution import Execution


@dataclasses.dataclass(frozen=True)
class Options:
    """How jobs are run.

    Attributes:
      execution: of all programs; None chooses one for each.
      flags: for the workers' command line.
      budget: of attempts at a cell.
      words: for an agent's command line, which then has the same options.
    """

    execution: Execution | None = None
    flags: tuple[str, ...] = ()
    budget: Budget = ONCE
    words: tuple[str, ...] = ()


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


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Adds to a command for many cells what `read_options` reads besides."""
    add_options(parser)
    add = parser.add_argument
    add(
        "--tracker", action="append", default=[], metavar="NAME",
        help="who follows besides the store: wandb, tensorboard or jsonl; repeatable",
    )  # fmt: skip
    add("--retries", type=int, default=0, metavar="K", help="times that a cell which failed is tried again; default 0")
    add(
        "--lease-seconds", type=float, default=PATIENCE_SECONDS, metavar="S",
        help="how long a worker may show no sign of life before others take its cells; default 90",
    )  # fmt: skip


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
    if given.retries < 0:
        raise InputError(f"--retries {given.retries}: must be at least 0, which tries every cell once")
    if not given.lease_seconds > 0:
        raise InputError(f"--lease-seconds {given.lease_seconds}: must be above 0")
    same = [f"--checkpoint-seconds={seconds}", f"--num-checkpoints={number}", f"--lease-seconds={given.lease_seconds}"]
    same += [] if steps is None else [f"--checkpoint-steps={steps}"]
    same += ["--keep-checkpoints"] if given.keep_checkpoints else []
    same += [f"--tracker={name}" for name in given.tracker]
    same += [f"--retries={given.retries}"]
    words = [*same, *(f"--execution={wish}" for wish in given.execution)]
    budget = Budget(failures=1 + given.retries)
    return Options(parse_execution(given.execution), tuple(same), budget, tuple(words))


def parse_execution(given: Sequence[str]) -> Execution | None:
    """Returns the execution that a user asks for: JSON, or `PATH=VALUE` over the defaults; None for no wish.

    Raises:
      InputError: there is no such field, or it does not take this value.
    """
    if not given:
        return None
    first, *others = given if given[0].lstrip().startswith("{") else ("{}", *given)
    try:
        (execution,) = override([parse(Execution, first, "--execution")], others)
    except InputError as error:
        raise InputError(str(error).replace("--set", "--execution")) from None
    return execution
