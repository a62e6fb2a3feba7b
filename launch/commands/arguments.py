"""Arguments that several commands take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from scaling.specs.base import InputError
from scaling.specs.code import load_file
from scaling.store.columns import Derived

if TYPE_CHECKING:
    from launch.workers.companions import Companions


def add_study(parser: argparse.ArgumentParser) -> None:
    """Adds STUDY, --set and --store."""
    parser.add_argument("study", metavar="STUDY", help="a name in configs/, a .py file with study(), or a study.json")
    parser.add_argument(
        "--set", action="append", default=[], dest="assignments", metavar="PATH=VALUE",
        help="override a field of the cells (data.size=1000) or a parameter of study() (largest=800); repeatable",
    )  # fmt: skip
    parser.add_argument("--store", metavar="DIR", help="where records go; default runs/<study's name>")


def add_code(parser: argparse.ArgumentParser) -> None:
    """Adds --study, which `load_code` reads."""
    parser.add_argument(
        "--study", action="append", default=[], dest="code_files", metavar="FILE.py",
        help="a Python file whose code (networks, laws, metrics …) is meant where names are unknown; it is run",
    )  # fmt: skip


def load_code(given: argparse.Namespace) -> None:
    """Imports the files of --study.

    Raises:
      InputError: there is no such file.
    """
    for name in getattr(given, "code_files", ()):
        path = Path(name)
        if path.suffix != ".py" or not path.is_file():
            raise InputError(f"--study {name}: there is no such Python file; give the path of one")
        load_file(path)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def add_derive(parser: argparse.ArgumentParser) -> None:
    """Adds --derive."""
    parser.add_argument(
        "--derive", action="append", default=[], metavar="NAME", choices=get_args(Derived),
        help="compute that column by C = 6 N D, which is recorded",
    )  # fmt: skip


def add_processes(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds what `read_processes` reads: what several processes that train together know of each other.

    Args:
      parser: the parser of the command.
      what: they do together, for the help.
    """
    words = f"of several processes that {what}"
    parser.add_argument("--coordinator", metavar="HOST:PORT", help=f"the first {words}")
    parser.add_argument("--num-processes", type=int, metavar="K", help=f"number {words}")
    parser.add_argument("--process-id", type=int, metavar="I", help=f"which this one is, from 0, {words}")
    parser.add_argument("--distributed", action="store_true", help="there are several processes, and JAX finds them")


def read_processes(given: argparse.Namespace) -> "Companions":
    """Returns what a process was told of those that it trains together with."""
    from launch.workers.companions import Companions  # knows JAX

    return Companions(given.coordinator, given.num_processes, given.process_id, given.distributed)
