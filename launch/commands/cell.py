"""`scaling cell`: trains one cell; what an engine calls."""

import argparse

from launch.commands.arguments import add_processes
from launch.options import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.epilog = "Flags of JAX work here too, for example --jax_debug_nans."
    parser.add_argument("cell", metavar="CELL.json")
    parser.add_argument("--store", metavar="DIR", required=True)
    parser.add_argument("--reader-workers", metavar="K", help="processes that read data too large for the device")
    add_options(parser)
    add_processes(parser, "train the cell together")


def command(_: argparse.Namespace) -> int:
    """Trains one cell: what an engine calls."""
    raise AssertionError("main() hands `scaling cell` to the worker")
