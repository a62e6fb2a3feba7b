"""`scaling logs`: what workers wrote while they were at a cell, and why cells have failed."""

import argparse

from launch.commands.arguments import add_json
from launch.coordination.logs import cell_lines, find_cell, log_files
from launch.exits import DONE
from launch.text import print_json, render_table
from scaling.specs.base import Json
from scaling.store.attempts import read_attempts
from scaling.store.outline import cell_labels
from scaling.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("cell", metavar="CELL", nargs="?", help="fingerprint, or the beginning of one")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints what workers wrote while they were at a cell; without a cell, why cells have failed."""
    store = Store.open(options.store)
    known = list(cell_labels(store.study))
    if options.cell is None:
        rows = _failures(store, known)
        paths = [str(path) for path in log_files(store)]
        if options.json:
            print_json({"failures": rows, "logs": paths})
        else:
            print(render_table(rows) if rows else "no cell has failed")
            print(f"\n{len(paths)} logs in {store.path / 'logs'}")
        return DONE
    cell = find_cell(store, options.cell, known)
    attempts = [event.model_dump(mode="json") for event in read_attempts(store.cell_path(cell))]
    parts = [{"log": name, "lines": lines} for name, lines in cell_lines(store, cell)]
    if options.json:
        print_json({"cell": cell, "attempts": attempts, "parts": parts})
        return DONE
    for part in parts:
        print(f"--- {part['log']}", *part["lines"], sep="\n")
    for number, end in enumerate((event for event in attempts if event["event"] == "end"), 1):
        print(f"--- attempt {number} on {end['host']}: {end['outcome']}", *filter(None, [end["error"]]), sep="\n")
    if not attempts:
        print(f"nobody has tried cell {cell} yet")
    return DONE


def _failures(store: Store, known: list[str]) -> list[Json]:
    rows = []
    for cell in known:
        if store.cell_status(cell) == "failed":
            last = read_attempts(store.cell_path(cell))[-1]
            lines = (last.error or "").strip().splitlines()
            rows.append({"cell": cell, "host": last.host, "error": lines[-1] if lines else ""})
    return rows
