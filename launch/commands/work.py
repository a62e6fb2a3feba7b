"""`scaling work`: what the machines of an engine run."""

import argparse

from launch.commands.arguments import add_processes, read_processes
from launch.coordination.launches import is_cancelled
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.options import add_options, read_options
from launch.queue.cells import missing_cells, read_study
from launch.workers.agent import run_cells
from launch.workers.here import find_slots, start_server
from scaling.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--launch", metavar="NAME", required=True, help="that this machine belongs to")
    add_processes(parser, "work together, where JAX cannot find them")
    add_options(parser)


def command(given: argparse.Namespace) -> int:
    """Trains on this machine what is missing in a store and nobody else has: what an engine's machines run."""
    options = read_options(given)
    store = Store.open(given.store)
    if given.distributed:
        from launch.workers.gang import work_in_gang

        return work_in_gang(store, options, read_processes(given), given.launch)
    missing = missing_cells(read_study(store), store)
    if missing and not is_cancelled(store, given.launch):
        slots = find_slots(options)
        with start_server(slots, options, missing.values()) as server:
            ended = run_cells(missing, store, slots, options, given.launch, waits=False, server=server)
        if ended.stopped:
            return PREEMPTED
        if ended.count("failed"):
            return WORK_FAILED
    return DONE
