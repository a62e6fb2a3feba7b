"""The commands that train a study: `run` on whatever machines, and `work`, which machines run themselves."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.engines import ENGINES, Order
from launch.options import Options, Outcome, add_sweep_options, read_options
from launch.text import print_json
from scaling.specs.base import InputError
from scaling.store.store import Store

if TYPE_CHECKING:
    from launch.workers.slots import Slot
    from scaling.specs.cell import Cell
    from scaling.specs.study import Study

DONE, WORK_FAILED, PREEMPTED = 0, 1, 75


def run(options: argparse.Namespace) -> int:
    """Trains what is missing; safe to repeat, and to run from several places at once."""
    from launch.jobs import missing_cells
    from scaling.specs.study import resolve_study

    study = resolve_study(options.study, options.assignments)
    store = Store(options.store or f"runs/{study.name}")
    wanted = read_options(options)
    is_here = options.engine == "local" and not options.detach
    slots = _find_slots(options, wanted) if is_here else []
    store.check(study.canonical_json())
    complete = len(store.records()) if (store.path / "study.json").exists() else 0  # a corrupt record shows before work
    missing = missing_cells(study, store)
    if missing:
        from launch.commands.plan import check_cells

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


def work(options: argparse.Namespace) -> int:
    """Trains on this machine what is missing in a store and nobody else has: what an engine's machines run."""
    from launch.coordination.launches import is_cancelled
    from launch.jobs import missing_cells, read_study

    store, wanted = Store.open(options.store), read_options(options)
    missing = missing_cells(read_study(store), store)
    if missing and not is_cancelled(store, options.launch):
        outcome = _work(missing, store, _find_slots(options, wanted), wanted, options.launch, waits=False)
        if outcome.stopped:
            return PREEMPTED
        if outcome.count("failed"):
            return WORK_FAILED
    return DONE


def add_commands(add: Callable[..., Any], add_study: Callable[..., Any], add_json: Callable[..., Any]) -> None:
    """Adds the commands to the command line.

    Args:
      add: makes a command of a name and a function.
      add_study: gives a command STUDY, --set and --store.
      add_json: gives a command --json.
    """
    sub = add("run", run)
    add_study(sub)
    sub.add_argument("--engine", choices=ENGINES, default="local", help="what gives machines; default this one")
    sub.add_argument(
        "--option", action="append", default=[], dest="settings", metavar="PATH=VALUE",
        help="a setting of the engine, for example partition=gpu; repeatable",
    )  # fmt: skip
    sub.add_argument(
        "--allocations", type=int, default=1, metavar="K",
        help="machines, or gangs of machines, that the engine is asked for at a time; default 1",
    )  # fmt: skip
    sub.add_argument("--detach", action="store_true", help="start, and leave it to itself; see `status` and `cancel`")
    sub.add_argument("--dry-run", action="store_true", help="say what would be trained and submitted, and stop")
    _add_workers(sub)
    add_sweep_options(sub)
    add_json(sub)
    sub = add("work", work)
    sub.add_argument("store", metavar="STORE")
    sub.add_argument("--launch", metavar="NAME", required=True, help="that this machine belongs to")
    sub.add_argument("--distributed", action="store_true", help="together with other processes, which JAX finds")
    for flag, metavar in {"coordinator": "HOST:PORT", "num-processes": "K", "process-id": "I"}.items():
        sub.add_argument(f"--{flag}", metavar=metavar, help="of several processes, where JAX cannot find them")
    _add_workers(sub)
    add_sweep_options(sub)


def _add_workers(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--workers", type=int, metavar="K",
        help="processes on each machine; default one for every device, or every core where there is none",
    )  # fmt: skip


# --- here -----------------------------------------------------------------------------------------------------------


def _find_slots(options: argparse.Namespace, wanted: Options) -> "list[Slot]":
    from launch.workers.slots import divide, find_machine

    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: must be at least 1")
    devices_each = 1 if wanted.execution is None else wanted.execution.mesh.num_devices
    return divide(find_machine(), options.workers, devices_each)


def _train_here(
    options: argparse.Namespace, cells: "dict[str, Cell]", store: Store, slots: "Sequence[Slot]", wanted: Options
) -> Outcome:
    from launch.coordination.launches import begin_launch

    launch = begin_launch(store, "local", _code(options), flags=wanted.words)
    return _work(cells, store, slots, wanted, launch.name, waits=True)


def _work(
    cells: "dict[str, Cell]", store: Store, slots: "Sequence[Slot]", wanted: Options, launch: str, *, waits: bool
) -> Outcome:
    from launch.workers.agent import run_cells

    return run_cells(cells, store, slots, wanted, launch, waits=waits)


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
