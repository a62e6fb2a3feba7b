"""`scaling work`: what the machines of an engine run."""

import argparse

from launch.commands.arguments import add_processes, add_workers
from launch.coordination.launches import is_cancelled
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.options import add_sweep_options, read_options
from launch.queue.cells import missing_cells, read_study
from launch.workers.here import find_slots, train_here
from scaling.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--launch", metavar="NAME", required=True, help="that this machine belongs to")
    add_processes(parser, "work together, where JAX cannot find them")
    add_workers(parser)
    add_sweep_options(parser)


def command(options: argparse.Namespace) -> int:
    """Trains on this machine what is missing in a store and nobody else has: what an engine's machines run."""
    store, wanted = Store.open(options.store), read_options(options)
    missing = missing_cells(read_study(store), store)
    if missing and not is_cancelled(store, options.launch):
        outcome = train_here(missing, store, find_slots(options, wanted), wanted, options.launch, waits=False)
        if outcome.stopped:
            return PREEMPTED
        if outcome.count("failed"):
            return WORK_FAILED
    return DONE
