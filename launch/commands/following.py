"""The commands that look after a store while it is at work: `status`, `logs` and `cancel`."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from launch.coordination.launches import Launch, cancel_launch, is_cancelled, read_allocations, read_launches
from launch.coordination.presence import is_gone, read_beats
from launch.engines import ENGINES, LIVE, EngineError, find_anywhere, reconnect
from launch.text import print_json, render_table
from scaling.specs.base import InputError
from scaling.store.attempts import read_attempts
from scaling.store.store import Store, cell_labels

DONE, WORK_FAILED = 0, 1

WATCH_SECONDS = 2.0

# How long workers may take to save before their machines are taken away; they hear of it with their next heartbeat.
SAVE_SECONDS = 60.0


def status(options: argparse.Namespace) -> int:
    """Prints where every series of a store stands, and what every worker is doing."""
    from launch.commands.status import describe_store, render_status

    if options.store is None:
        return _find_anywhere(options)
    while True:
        store = Store.open(options.store)
        found = describe_store(store)
        if options.engine:
            found["allocations"] = _describe_allocations(store, options.engine)
        if options.json:
            print_json(found)
        else:
            clear = "\033[H\033[J" if options.watch and sys.stdout.isatty() else ""
            allocations = f"\n\n{render_table(found['allocations'])}" if found.get("allocations") else ""
            print(clear + render_status(found) + allocations, flush=True)
        if not options.watch or not (found["is_running"] or any(_is_live(one) for one in found.get("allocations", ()))):
            return DONE
        try:
            time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:  # how a person stops watching
            return DONE


def logs(options: argparse.Namespace) -> int:
    """Prints what workers wrote while they were at a cell; without a cell, why cells have failed."""
    from launch.coordination.logs import cell_lines, find_cell, log_files

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
    attempts = [one.model_dump(mode="json") for one in read_attempts(store.cell_path(cell))]
    parts = [{"log": name, "lines": lines} for name, lines in cell_lines(store, cell)]
    if options.json:
        print_json({"cell": cell, "attempts": attempts, "parts": parts})
        return DONE
    for part in parts:
        print(f"--- {part['log']}", *part["lines"], sep="\n")
    for number, one in enumerate((one for one in attempts if one["event"] == "end"), 1):
        print(f"--- attempt {number} on {one['host']}: {one['outcome']}", *filter(None, [one["error"]]), sep="\n")
    if not attempts:
        print(f"nobody has tried cell {cell} yet")
    return DONE


def cancel(options: argparse.Namespace) -> int:
    """Ends what is at work on a store, here and elsewhere: workers save what they can, and machines are let go."""
    store = Store.open(options.store)
    launches = [launch for launch in read_launches(store) if options.launch in (None, launch.name)]
    if options.launch and not launches:
        raise InputError(
            f"--launch {options.launch}: {str(store.path)!r} has no such launch; see {store.path}/launches"
        )
    names = [launch.name for launch in launches if not is_cancelled(store, launch.name)]
    for name in names:
        cancel_launch(store, name)
    deadline = time.monotonic() + (0.0 if options.now else SAVE_SECONDS)
    all_names = {launch.name for launch in launches}
    while (busy := _workers_of(store, all_names)) and time.monotonic() < deadline:
        time.sleep(0.2)
    problems = []
    ended = 0
    for launch in launches:
        try:
            ended += _let_go(store, launch)
        except (EngineError, InputError) as error:
            problems.append(f"{launch.name}: {error}")
    document: dict[str, Any] = {
        "cancelled": names,
        "allocations_ended": ended,
        "workers_left": busy,
        "problems": problems,
    }
    if options.json:
        print_json(document)
    else:
        print(f"{len(names)} launches cancelled, {ended} allocations ended; the same `scaling run` goes on from here")
        for words in problems:
            print(f"scaling: {words}", file=sys.stderr)
        if busy:
            print(f"scaling: {len(busy)} workers have not ended yet: {', '.join(busy)}", file=sys.stderr)
    return WORK_FAILED if problems or busy else DONE


def add_commands(add: Callable[..., Any], add_json: Callable[..., Any]) -> None:
    """Adds the commands to the command line.

    Args:
      add: makes a command of a name and a function.
      add_json: gives a command --json.
    """
    sub = add("status", status)
    sub.add_argument("store", metavar="STORE", nargs="?")
    sub.add_argument("--watch", action="store_true", help="print again every two seconds until the run has ended")
    sub.add_argument(
        "--engine",
        choices=ENGINES,
        help="ask this engine, too, what it has given; without STORE, to any store's launches",
    )
    sub.add_argument(
        "--option", action="append", default=[], dest="settings", metavar="PATH=VALUE",
        help="without STORE: a setting of the engine, for example project=mine; repeatable",
    )  # fmt: skip
    add_json(sub)
    sub = add("logs", logs)
    sub.add_argument("store", metavar="STORE")
    sub.add_argument("cell", metavar="CELL", nargs="?", help="fingerprint, or the beginning of one")
    add_json(sub)
    sub = add("cancel", cancel)
    sub.add_argument("store", metavar="STORE")
    sub.add_argument("--launch", metavar="NAME", help="this one alone; default all")
    sub.add_argument("--now", action="store_true", help="do not wait for workers to save")
    add_json(sub)


def _find_anywhere(options: argparse.Namespace) -> int:
    """Prints what an engine has given to launches on any store: for who has lost track."""
    if options.engine is None:
        raise InputError("status needs a STORE, or --engine NAME to look for what launches on any store have got")
    rows = find_anywhere(options.engine, options.settings)
    if options.json:
        print_json(rows)
    else:
        print(render_table(rows) if rows else f"{options.engine} has given nothing that is still there")
    return DONE


def _describe_allocations(store: Store, name: str) -> list[dict[str, Any]]:
    rows = []
    for launch in read_launches(store):
        handles = read_allocations(store, launch.name)
        if launch.engine == name and handles:
            seen = reconnect(name, launch.settings, store).observe(handles)
            rows += [
                {"allocation": handle, "launch": launch.name, "state": one.state, "place": one.place, "why": one.why}
                for handle, one in seen.items()
            ]
    return rows


def _is_live(row: dict[str, Any]) -> bool:
    return row["state"] in LIVE


def _failures(store: Store, known: list[str]) -> list[dict[str, Any]]:
    rows = []
    for cell in known:
        if store.cell_status(cell) == "failed":
            last = read_attempts(store.cell_path(cell))[-1]
            lines = (last.error or "").strip().splitlines()
            rows.append({"cell": cell, "host": last.host, "error": lines[-1] if lines else ""})
    return rows


def _workers_of(store: Store, launches: set[str]) -> list[str]:
    return [beat.worker for beat in read_beats(store) if beat.launch in launches and not is_gone(beat.identity)]


def _let_go(store: Store, launch: Launch) -> int:
    """Ends a launch's allocations that are live, and returns how many there were."""
    handles = read_allocations(store, launch.name)
    if not handles:
        return 0
    engine = reconnect(launch.engine, launch.settings, store)
    live = [handle for handle, seen in engine.observe(handles).items() if seen.state in LIVE]
    engine.cancel(live)
    return len(live)
