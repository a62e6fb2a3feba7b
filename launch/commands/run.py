"""`scaling run`: trains what a study lacks, on this machine or on those that an engine gives."""

import argparse
import sys
from pathlib import Path
from typing import Any

from launch.commands.arguments import add_json, add_study
from launch.engines import ENGINES
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.options import add_options, read_options
from launch.running import Result, Running
from launch.text import count, print_json
from scaling.specs.study import resolve_study
from scaling.store.store import Store

CALMER = "lower the learning rate (--set training.optimizer.peak_lr=…), or set training.clip_norm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_study(parser)
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what gives machines; default this one")
    parser.add_argument(
        "--option", action="append", default=[], dest="settings", metavar="PATH=VALUE",
        help="a setting of the engine, for example partition=gpu; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--allocations", type=count, default=1, metavar="K",
        help="machines, or gangs of machines, that the engine is asked for at a time; default 1",
    )  # fmt: skip
    parser.add_argument(
        "--detach", action="store_true", help="start, and leave it to itself; see `status` and `cancel`"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be trained and submitted, and stop")
    add_options(parser, leaving_out=("code",))
    add_json(parser)


def command(given: argparse.Namespace) -> int:
    """Trains what is missing; safe to repeat, and to run from several places at once."""
    study = resolve_study(given.study, given.assignments)
    store = Store(given.store or f"runs/{study.name}")
    running = Running(
        study, store, read_options(given), given.engine, given.settings, given.allocations, given.detach,
        Path(given.study),
    )  # fmt: skip
    missing, complete = running.find_missing()
    if given.dry_run:
        running.check(missing)
        counts = {"to_train": sorted(missing), "complete": len(complete)}
        _print_outcome(given, store, counts, running.describe() if missing else "")
        return DONE
    result = running.train(missing, complete)
    return DONE if missing and given.detach else _conclude(given, result)


# --- what is told ---------------------------------------------------------------------------------------------------


def _conclude(given: argparse.Namespace, result: Result) -> int:
    complete, num_cells = result.ok + result.diverged, len(result.study.cells)
    counts = {"cells": num_cells, "complete": complete, "diverged": result.diverged, "failed": list(result.failed)}
    _print_outcome(given, result.store, counts)
    if result.stopped:
        print("stopped; what is complete is kept, and the same command continues", file=sys.stderr)
        return PREEMPTED
    if result.diverged and result.diverged == num_cells:
        print(f"every cell diverged, so that there is nothing to fit; {CALMER}", file=sys.stderr)
        return WORK_FAILED
    return DONE if complete == num_cells else WORK_FAILED


def _print_outcome(given: argparse.Namespace, store: Store, counts: dict[str, Any], described: str = "") -> None:
    if given.json:
        print_json({"store": str(store.path), **counts} | ({"would_submit": described} if described else {}))
    elif "to_train" in counts:
        print(f"{store.path}: would train {len(counts['to_train'])} cells, {counts['complete']} are complete")
        if described:
            print(f"\n{described}")
    else:
        bad = f", {counts['diverged']} of them diverged" if counts["diverged"] else ""
        print(f"{store.path}: {counts['complete']} of {counts['cells']} cells complete{bad}")
        for name in counts["failed"]:
            print(f"failed: {store.cell_path(name) / 'attempts.jsonl'}", file=sys.stderr)
