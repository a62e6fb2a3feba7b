"""`scaling status`: what is done, running, failed, diverged and left in a store, and what every worker is doing."""

import argparse
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, assert_never, get_args

from launch.commands.arguments import add_json
from launch.coordination.launches import read_allocations, read_launches
from launch.coordination.presence import Beat, beat_path, is_gone, read_beats
from launch.engines import ENGINES, LIVE, find_anywhere, reconnect
from launch.exits import DONE
from launch.progress import format_seconds
from launch.queue.estimates import estimate_seconds
from launch.text import print_json, render_table
from scaling.devices.hardware import price_per_hour
from scaling.specs.base import InputError, Json, canonical_json, parse
from scaling.specs.cell import Cell
from scaling.store.attempts import read_attempts
from scaling.store.gathering import Summary
from scaling.store.outline import study_cells
from scaling.store.store import CellStatus, Store

WATCH_SECONDS = 2.0
CellState = Literal["done", "running", "failed", "diverged", "left"]
STATES: tuple[CellState, ...] = get_args(CellState)

# A heartbeat file that has not been written for so many times its promise is shown as lost; by the clock of the store's
# disk, so it is said to people and decides nothing.
LATE = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE", nargs="?")
    parser.add_argument("--watch", action="store_true", help="print again every two seconds until the run has ended")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="ask this engine, too, what it has given; without STORE, to any store's launches",
    )
    parser.add_argument(
        "--option", action="append", default=[], dest="settings", metavar="PATH=VALUE",
        help="without STORE: a setting of the engine, for example project=mine; repeatable",
    )  # fmt: skip
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints where every series of a store stands, and what every worker is doing."""
    if options.store is None:
        return _find_anywhere(options)
    while True:
        store = Store.open(options.store)
        standing = describe_store(store)
        if options.engine:
            standing["allocations"] = _describe_allocations(store, options.engine)
        if options.json:
            print_json(standing)
        else:
            clear = "\033[H\033[J" if options.watch and sys.stdout.isatty() else ""
            allocations = f"\n\n{render_table(standing['allocations'])}" if standing.get("allocations") else ""
            print(clear + render_status(standing) + allocations, flush=True)
        is_live = standing["is_running"] or any(row["state"] in LIVE for row in standing.get("allocations", ()))
        if not (options.watch and is_live):
            return DONE
        try:
            time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:  # how a person stops watching
            return DONE


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


def _describe_allocations(store: Store, name: str) -> list[Json]:
    rows = []
    for launch in read_launches(store):
        handles = read_allocations(store, launch.name)
        if launch.engine == name and handles:
            seen = reconnect(name, launch.settings, store).observe(handles)
            rows += [
                {"allocation": handle, "launch": launch.name, **dataclasses.asdict(sighting)}
                for handle, sighting in seen.items()
            ]
    return rows


def describe_store(store: Store) -> Json:
    """Returns counts by series, what workers do, what was spent, and an estimate of the time left on one core."""
    labels_of = store.outline.labels
    jobs = [_describe_job(store, beat, labels_of) for beat in read_beats(store)]
    at_work = {cell for job in jobs if job["state"] == "training" for cell in job["cells"]}
    series: dict[str, dict[str, int]] = {label: dict.fromkeys(STATES, 0) for label in store.outline.series}
    complete = store.summaries()
    left = store.last_statuses([name for name in labels_of if name not in complete])
    for name, labels in labels_of.items():
        for label in labels:
            series[label][_state_of(name, complete[name].status if name in complete else left[name], at_work)] += 1
    spent = sum(cell.wall_seconds for cell in complete.values())
    dollars: list[float | None] = [job["dollars"] for job in jobs]
    dollars += _add_dollars(complete.values())
    known = [cost for cost in dollars if cost is not None]
    return {
        "store": str(store.path),
        "study": store.outline.name,
        "is_running": any(job["state"] != "lost" for job in jobs),
        "series": [{"label": label, **counts} for label, counts in series.items()],
        "jobs": jobs,
        "worker_seconds_spent": spent,
        "worker_seconds_left": _estimate_left(store, complete, spent) if left else 0.0,
        "dollars_spent": sum(known) if known else None,
    }


def _add_dollars(cells: Iterable[Summary]) -> list[float | None]:
    """Returns what complete cells cost, of each kind and number of devices."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for cell in cells:
        seconds.setdefault((cell.device_kind, cell.num_devices), []).append(cell.wall_seconds)
    return [_dollars(*devices, math.fsum(each)) for devices, each in seconds.items()]


def _estimate_left(store: Store, complete: Collection[str], spent: float) -> float:
    """Returns a guess of the seconds that cells without records take, by what those with records have taken."""
    estimated = to_do = 0.0
    for name, cell in study_cells(store.study).items():
        # Cells that differ in seed take as long, and are many.
        guess = _estimate(canonical_json({**cell, "seed": 0}))
        if name in complete:
            estimated += guess
        else:
            to_do += guess
    return to_do * (spent / estimated if estimated else 1.0)


@functools.lru_cache(maxsize=1 << 14)
def _estimate(cell: str) -> float:
    return estimate_seconds(parse(Cell, cell, "cell"))


def _state_of(name: str, status: CellStatus, at_work: set[str]) -> CellState:
    match status:
        case "ok":
            return "done"
        case "diverged":
            return "diverged"
        case "failed" | "interrupted" | "started" | "missing" if name in at_work:
            return "running"
        case "failed":
            return "failed"
        case "interrupted" | "started" | "missing":
            return "left"
        case _:
            assert_never(status)


def _describe_job(store: Store, beat: Beat, labels_of: Mapping[str, Iterable[str]]) -> Json:
    """Returns what is known of a worker and the cells that it has."""
    age = _age(store, beat)
    is_lost = is_gone(beat.identity) or (age is not None and age > LATE * beat.patience_seconds)
    steps = [beat.steps[cell] for cell in beat.cells if cell in beat.steps]
    done, to_do = sum(taken for taken, _ in steps), sum(wanted for _, wanted in steps)
    attempts = [read_attempts(store.cell_path(cell)) for cell in beat.cells]
    errors = [event.error for events in attempts for event in events if event.error]
    return {
        "state": "lost" if is_lost else "training" if beat.cells else "idle",
        "worker": beat.worker,
        "launch": beat.launch,
        "place": beat.place,
        "host": beat.identity.host,
        "pid": beat.identity.pid,
        "cells": list(beat.cells),
        "labels": sorted({label for cell in beat.cells for label in labels_of.get(cell, ())}),
        "attempt": max((sum(event.event == "start" for event in events) for events in attempts), default=0),
        "progress": done / to_do if to_do else None,
        "steps_per_second": beat.rate,
        "seconds": beat.seconds if beat.cells else 0.0,
        "seconds_since_heartbeat": age,
        "dollars": _dollars(beat.device_kind, beat.num_devices, beat.seconds) if beat.cells else None,
        "last_error": errors[-1].strip().splitlines()[-1] if errors else None,
    }


def _age(store: Store, beat: Beat) -> float | None:
    """Returns how long ago a heartbeat was written, by this machine's clock and the disk's; None if it is not known."""
    try:
        return max(0.0, time.time() - beat_path(store, beat.worker).stat().mtime)
    except (OSError, AttributeError, TypeError):
        return None


def _dollars(device_kind: str, num_devices: int, seconds: float) -> float | None:
    """Returns what devices cost at the list price of their chip; None where that is not known."""
    price = price_per_hour(device_kind, num_devices)
    return None if price is None else price * seconds / 3600


def render_status(standing: Mapping[str, Any]) -> str:
    """Returns a store's standing for people."""
    totals = {state: sum(series[state] for series in standing["series"]) for state in STATES}
    rows = [*standing["series"], {"label": "all", **totals}]
    state = (
        "running" if standing["is_running"] else ("complete" if not totals["left"] + totals["failed"] else "stopped")
    )
    lines = [f"{standing['study']} in {standing['store']}: {state}", "", render_table(rows), ""]
    if standing["jobs"]:
        lines += [render_table([_job_row(job) for job in standing["jobs"]]), ""]
    time_left = (
        f", about {format_seconds(standing['worker_seconds_left'])} left" if standing["worker_seconds_left"] else ""
    )
    cost = "" if standing["dollars_spent"] is None else f", about ${standing['dollars_spent']:,.2f} at list prices"
    lines.append(f"{format_seconds(standing['worker_seconds_spent'])} of worker time spent{cost}{time_left}")
    if totals["failed"]:
        lines.append(f"failed cells say why: scaling logs {standing['store']}; the next run tries them again")
    return "\n".join(lines)


def _job_row(job: Mapping[str, Any]) -> Json:
    """Returns a worker's line of the table for people."""
    cells, labels = job["cells"], ", ".join(job["labels"])
    what = "" if not cells else f"{cells[0]}{f' and {len(cells) - 1} more' if len(cells) > 1 else ''} ({labels})"
    return {
        "worker": job["worker"],
        "where": " ".join(filter(None, (job["place"], job["host"], str(job["pid"])))),
        "state": job["state"],
        "cells": what,
        "attempt": job["attempt"] or None,
        "progress": None if job["progress"] is None else f"{job['progress']:.0%}",
        "steps/s": None if job["steps_per_second"] is None else f"{job['steps_per_second']:.3g}",
        "time": format_seconds(job["seconds"]) if cells else None,
        "dollars": None if job["dollars"] is None else f"{job['dollars']:.2f}",
        "last error": job["last_error"],
    }
