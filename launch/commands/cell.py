"""`scaling cell`: trains one cell, by hand, in this process."""

import argparse
from pathlib import Path

from launch.commands.arguments import add_processes, read_processes
from launch.options import add_options, read_options
from scaling.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.epilog = "Flags of JAX work here too, for example --jax_debug_nans."
    parser.add_argument("cell", metavar="CELL.json")
    parser.add_argument("--store", metavar="DIR", required=True, help="where its record goes")
    parser.add_argument("--launch", metavar="NAME", help="that attempts are counted in; default none")
    add_options(parser, leaving_out=("workers",))
    add_processes(parser, "train the cell together")


def command(given: argparse.Namespace) -> int:
    """Trains one cell."""
    options = read_options(given)
    from launch.workers.alone import train_one  # JAX is loaded when the call is right

    return train_one(Store(given.store), Path(given.cell), options, read_processes(given), given.launch)
