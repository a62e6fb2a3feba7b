"""`scaling run`: trains what a study lacks, on this machine or on those that an engine gives."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.commands.arguments import add_json, add_study
from launch.commands.plan import check_cells
from launch.coordination.launches import begin_launch
from launch.coordination.provenance import Checkout, code_warnings, describe_code
from launch.engines import ENGINES, Order, connect
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.fleet import Fleet
from launch.options import Options, add_options, read_options
from launch.progress import Ended
from launch.queue.cells import missing_cells
from launch.text import count, print_json
from launch.workers.here import find_slots, train_here
from launch.workers.slots import Slot
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.code import references_in
from scaling.specs.study import Study, resolve_study
from scaling.store.code import keep_code, pack
from scaling.store.files import is_local
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
    options = read_options(given)
    is_here = given.engine == "local" and not given.detach
    slots = find_slots(options) if is_here else []
    store.check(study.canonical_json())
    complete = len(store.records()) if (store.path / "study.json").exists() else 0  # a corrupt record shows before work
    missing = missing_cells(study, store)
    if missing:
        print(f"{study.name}: {len(missing)} of {len(study.cells)} cells to train", file=sys.stderr)
        check_cells(missing)
    if given.dry_run:
        described = "" if is_here or not missing else _describe(given, options, store)
        _print_outcome(given, store, {"to_train": sorted(missing), "complete": complete}, described)
        return DONE
    store.create(study.canonical_json())
    options = ship_code(study, store, options)
    if not missing:
        ended = None
    elif is_here:
        ended = _train_here(given, missing, store, slots, options)
    else:
        ended = _train_elsewhere(given, missing, store, options)
    if ended is not None and given.detach:
        return DONE
    return _conclude(given, study, store, ended)


def ship_code(study: Study, store: Store, options: Options) -> Options:
    """Returns options that name the users' code of a study, which is put into the store; the same where it has none.

    Raises:
      InputError: a file is not known here, or imports what cannot be shipped.
    """
    bundle = pack(references_in(study))
    return options.model_copy(update={"code": keep_code(store.path, bundle)}) if bundle.files else options


# --- here -----------------------------------------------------------------------------------------------------------


def _train_here(
    given: argparse.Namespace, cells: dict[str, Cell], store: Store, slots: Sequence[Slot], options: Options
) -> Ended:

    launch = begin_launch(store, "local", _code(given), flags=options.words())
    return train_here(cells, store, slots, options, launch.name, waits=True)


# --- elsewhere ------------------------------------------------------------------------------------------------------


def make_order(store: Store, launch: str, words: Sequence[str]) -> Order:
    """Returns what machines of a launch shall do.

    Args:
      store: with the cells.
      launch: its name.
      words: the words of an agent's command line, besides the store and the launch.
    """
    path = str(store.path) if not is_local(store.path) else str(Path(store.path).resolve())
    return Order(launch, path, ("work", path, f"--launch={launch}", *words))


def _describe(given: argparse.Namespace, options: Options, store: Store) -> str:

    engine, _ = connect(given.engine, given.settings, store)
    return engine.describe(make_order(store, "NAME", options.words()), given.allocations)


def _train_elsewhere(given: argparse.Namespace, cells: dict[str, Cell], store: Store, options: Options) -> Ended:

    if given.allocations < 1:
        raise InputError(f"--allocations {given.allocations}: must be at least 1")
    engine, settings = connect(given.engine, given.settings, store)
    if given.detach and not engine.outlives_command:
        raise InputError(
            f"--detach: what --engine {given.engine} gives with these settings ends with this command; leave it out, "
            "or give the address of a cluster that is there"
        )
    code = _code(given)
    for line in code_warnings(code):
        print(f"warning: {line}", file=sys.stderr)
    launch = begin_launch(
        store,
        given.engine,
        code,
        settings=settings.model_dump(mode="json"),
        allocations=given.allocations,
        flags=options.words(),
    )
    fleet = Fleet(store, engine, make_order(store, launch.name, launch.flags), given.allocations, options.budget)
    return fleet.start(cells) if given.detach else fleet.run(cells)


def _code(given: argparse.Namespace) -> tuple[Checkout, ...]:

    study = Path(given.study)
    return describe_code([Path(__file__), *([study.resolve()] if study.is_file() else [])])


# --- what is told ---------------------------------------------------------------------------------------------------


def _conclude(given: argparse.Namespace, study: Study, store: Store, ended: Ended | None) -> int:
    failed = [name for name, status in (ended.statuses if ended else {}).items() if status == "failed"]
    records = store.records()
    diverged = sum(record.status == "diverged" for record in records.values())
    counts = {"cells": len(study.cells), "complete": len(records), "diverged": diverged, "failed": failed}
    _print_outcome(given, store, counts)
    if ended is not None and ended.stopped:
        print("stopped; what is complete is kept, and the same command continues", file=sys.stderr)
        return PREEMPTED
    if diverged and diverged == len(study.cells):
        print(f"every cell diverged, so that there is nothing to fit; {CALMER}", file=sys.stderr)
        return WORK_FAILED
    return DONE if len(records) == len(study.cells) else WORK_FAILED


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
