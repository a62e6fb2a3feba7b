"""Arguments that several commands take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from launch.text import count
from scaling.specs.base import InputError
from scaling.specs.code import load_file
from scaling.specs.fits import DELTA, LAW, RESAMPLES, AnyScheme, IntervalKind, ObjectiveName
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


def add_fitting(
    parser: argparse.ArgumentParser,
    law: str = f"default what the study declares, else {LAW}",
    by: str = "one fit for each value; default label, or none (all rows together) for laws of num_params",
) -> None:
    """Adds what is fitted, and how: to what, which series, the objective, and what intervals are made of.

    Args:
      parser: the parser of the command.
      law: what the law is of, for the help.
      by: what the values of a column are told apart for, for the help.
    """
    parser.add_argument("--law", metavar="NAME", help=f"{law}; scaling fit --law list lists them")
    parser.add_argument(
        "--target", metavar="COLUMN", help="what is fitted; default the study's metric, else the law's own"
    )
    parser.add_argument("--by", metavar="COLUMN", help=by)
    parser.add_argument(
        "--objective", choices=get_args(ObjectiveName), help="default what the study declares, else the law's own"
    )
    parser.add_argument(
        "--delta", type=float, metavar="D", help=f"where Huber's quadratic ends, in log units; default {DELTA:g}"
    )
    parser.add_argument("--hold", action="append", default=[], metavar="NAME=VALUE", help="fix a parameter")
    parser.add_argument(
        "--weights", metavar="COLUMN", help="weights of rows; `noise` measures them from repeated seeds"
    )
    parser.add_argument(
        "--bootstrap", type=count, default=RESAMPLES, metavar="R", help=f"resamples; default {RESAMPLES}, 0 for none"
    )
    parser.add_argument("--scheme", choices=get_args(AnyScheme), default="auto", help="what is resampled")
    parser.add_argument(
        "--cluster", action="append", default=[], metavar="COLUMN",
        help="rows with equal values are not independent; default cell and trunk, where the table has them",
    )  # fmt: skip
    parser.add_argument(
        "--interval", choices=get_args(IntervalKind), default="percentile", help="how intervals are read"
    )


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
