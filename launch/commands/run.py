"""`scaling run`: trains what a study lacks, on this machine or on those that an engine gives."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.commands.arguments import add_json, add_study, add_workers
from launch.commands.plan import check_cells
from launch.engines import ENGINES, Order
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.options import Options, Outcome, add_sweep_options, read_options
from launch.queue.cells import missing_cells
from launch.text import print_json
from launch.workers.here import find_slots, train_here
from scaling.specs.base import InputError
from scaling.store.store import Store

if TYPE_CHECKING:
    from launch.workers.slots import Slot
    from scaling.specs.cell import Cell
    from scaling.specs.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_study(parser)
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what gives machines; default this one")
    parser.add_argument(
        "--option", action="append", default=[], dest="settings", metavar="PATH=VALUE",
        help="a setting of the engine, for example partition=gpu; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--allocations", type=int, default=1, metavar="K",
        help="machines, or gangs of machines, that the engine is asked for at a time; default 1",
    )  # fmt: skip
    parser.add_argument(
        "--detach", action="store_true", help="start, and leave it to itself; see `status` and `cancel`"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be trained and submitted, and stop")
    add_workers(parser)
    add_sweep_options(parser)
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Trains what is missing; safe to repeat, and to run from several places at once."""
    from scaling.specs.study import resolve_study

    study = resolve_study(options.study, options.assignments)
    store = Store(options.store or f"runs/{study.name}")
    wanted = read_options(options)
    is_here = options.engine == "local" and not options.detach
    slots = find_slots(options, wanted) if is_here else []
    store.check(study.canonical_json())
    complete = len(store.records()) if (store.path / "study.json").exists() else 0  # a corrupt record shows before work
    missing = missing_cells(study, store)
    if missing:
        print(f"{study.name}: {len(missing)} of {len(study.cells)} cells to train", file=sys.stderr)
        check_cells(missing)
    if options.dry_run:
        described = "" if is_here or not missing else _describe(options, wanted, store)
        _print_outcome(options, store, {"to_train": sorted(missing), "complete": complete}, described)
        return DONE
    store.create(study.canonical_json())
    if not missing:
        outcome = None
    elif is_here:
        outcome = _train_here(options, missing, store, slots, wanted)
    else:
        outcome = _train_elsewhere(options, missing, store, wanted)
    if outcome is not None and options.detach:
        return DONE
    return _conclude(options, study, store, outcome)


# --- here -----------------------------------------------------------------------------------------------------------


def _train_here(
    options: argparse.Namespace, cells: "dict[str, Cell]", store: Store, slots: "Sequence[Slot]", wanted: Options
) -> Outcome:
    from launch.coordination.launches import begin_launch

    launch = begin_launch(store, "local", _code(options), flags=wanted.words)
    return train_here(cells, store, slots, wanted, launch.name, waits=True)


# --- elsewhere ------------------------------------------------------------------------------------------------------


def make_order(store: Store, launch: str, words: Sequence[str]) -> Order:
    """Returns what machines of a launch shall do.

    Args:
      store: with the cells.
      launch: its name.
      words: of an agent's command line, besides the store and the launch.
    """
    from scaling.store.files import is_local

    path = str(store.path) if not is_local(store.path) else str(Path(store.path).resolve())
    return Order(launch, path, ("work", path, f"--launch={launch}", *words))


def _words(options: argparse.Namespace, wanted: Options) -> list[str]:
    return [*([] if options.workers is None else [f"--workers={options.workers}"]), *wanted.words]


def _describe(options: argparse.Namespace, wanted: Options, store: Store) -> str:
    from launch.engines import connect

    engine, _ = connect(options.engine, options.settings, store)
    return engine.describe(make_order(store, "NAME", _words(options, wanted)), options.allocations)


def _train_elsewhere(options: argparse.Namespace, cells: "dict[str, Cell]", store: Store, wanted: Options) -> Outcome:
    from launch.coordination.launches import begin_launch
    from launch.coordination.provenance import code_warnings
    from launch.engines import connect
    from launch.fleet import Fleet

    if options.allocations < 1:
        raise InputError(f"--allocations {options.allocations}: must be at least 1")
    engine, settings = connect(options.engine, options.settings, store)
    if options.detach and not engine.outlives_command:
        raise InputError(
            f"--detach: what --engine {options.engine} gives with these settings ends with this command; leave it out, "
            "or give the address of a cluster that is there"
        )
    code = _code(options)
    for line in code_warnings(code):
        print(f"warning: {line}", file=sys.stderr)
    launch = begin_launch(
        store,
        options.engine,
        code,
        settings=settings.model_dump(mode="json"),
        allocations=options.allocations,
        flags=tuple(_words(options, wanted)),
    )
    fleet = Fleet(store, engine, make_order(store, launch.name, launch.flags), options.allocations, wanted.budget)
    return fleet.start(cells) if options.detach else fleet.run(cells)


def _code(options: argparse.Namespace) -> Any:
    from launch.coordination.provenance import describe_code

    study = Path(options.study)
    return describe_code([Path(__file__), *([study.resolve()] if study.is_file() else [])])


# --- what is told ---------------------------------------------------------------------------------------------------


def _conclude(options: argparse.Namespace, study: "Study", store: Store, outcome: Outcome | None) -> int:
    failed = [name for name, status in (outcome.statuses if outcome else {}).items() if status == "failed"]
    records = store.records()
    diverged = sum(record.status == "diverged" for record in records.values())
    counts = {"cells": len(study.cells), "complete": len(records), "diverged": diverged, "failed": failed}
    _print_outcome(options, store, counts)
    if outcome is not None and outcome.stopped:
        print("stopped; what is complete is kept, and the same command continues", file=sys.stderr)
        return PREEMPTED
    return DONE if len(records) == len(study.cells) else WORK_FAILED


def _print_outcome(options: argparse.Namespace, store: Store, counts: dict[str, Any], described: str = "") -> None:
    if options.json:
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
