"""The `scaling` command: parses the call, prints what it finds, and turns errors into one line and an exit status."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

# Heavy libraries are imported inside the commands that need them: `scaling --help` and `status` must start at once.
from analysis.laws import AnalysisError
from launch.engines import ENGINES, load_engine
from scaling.record import CorruptStoreError, Store
from scaling.spec import InputError

if TYPE_CHECKING:
    from scaling.study import Study

DONE, WORK_FAILED, WRONG_CALL, PREEMPTED = 0, 1, 2, 75

WATCH_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 done, 1 the work failed, 2 the call was wrong, 75 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["cell"] and not {"-h", "--help"} & set(words):
        from launch import worker

        worker.run(["scaling cell", *words[1:]])  # absl parses its flags, and exits
    options = _parser().parse_args(words)
    try:
        return options.command(options)
    except (InputError, AnalysisError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return WRONG_CALL
    except CorruptStoreError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return WORK_FAILED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return DONE


def plan(options: argparse.Namespace) -> int:
    """Prints the cells of a study with N, D and C, and what is already done."""
    from launch.plan import plan_cells, summarise_plan
    from launch.progress import format_seconds
    from launch.text import render_table
    from scaling.study import resolve_study

    study = resolve_study(options.study, options.assignments)
    store = _store_of(options, study)
    rows = plan_cells(study, store if store.path.exists() else None)
    if options.json:
        _print_json({"study": study.name, "question": study.question, "store": str(store.path), "cells": rows})
        return DONE
    print(f"{study.name}: {study.question}\n")
    print(render_table(summarise_plan(rows)))
    left = [row for row in rows if not row["done"]]
    flops = sum(row["train_flops"] or 0.0 for row in rows)
    print(
        f"\n{len(study.cells)} cells, {len(study.cells) - len({row['cell'] for row in left})} done in {store.path}; "
        f"{flops:.3g} training FLOPs where counted; about "
        f"{format_seconds(sum(row['core_seconds'] for row in left))} of one CPU core left"
    )
    return DONE


def run(options: argparse.Namespace) -> int:
    """Trains what is missing; safe to repeat."""
    from launch.jobs import missing_cells
    from scaling.study import resolve_study

    study = resolve_study(options.study, options.assignments)
    store = _store_of(options, study)
    engine = load_engine(options.engine)
    workers = engine.default_workers() if options.workers is None else options.workers
    if workers < 1:
        raise InputError(f"--workers {workers}: must be at least 1")
    store.check(study.canonical_json())
    complete = len(store.records()) if (store.path / "study.json").exists() else 0  # a corrupt record shows before work
    missing = missing_cells(study, store)
    if missing:
        from launch.plan import check_cells

        print(f"{study.name}: {len(missing)} of {len(study.cells)} cells to train", file=sys.stderr)
        check_cells(missing)
    if options.dry_run:
        _print_outcome(options, store, {"to_train": sorted(missing), "complete": complete})
        return DONE
    store.create(study.canonical_json())
    outcome = engine.run_cells(missing, store, workers) if missing else None
    failed = [name for name, status in (outcome.statuses if outcome else {}).items() if status == "failed"]
    records = store.records()
    diverged = sum(record.status == "diverged" for record in records.values())
    counts = {"cells": len(study.cells), "complete": len(records), "diverged": diverged, "failed": failed}
    _print_outcome(options, store, counts)
    if outcome is not None and outcome.stopped:
        print("stopped; what is complete is kept, and the same command continues", file=sys.stderr)
        return PREEMPTED
    return WORK_FAILED if failed else DONE


def status(options: argparse.Namespace) -> int:
    """Prints where every series of a store stands."""
    from launch.status import describe_store, render_status

    while True:
        store = Store.open(options.store)
        found = describe_store(store)
        if options.json:
            _print_json(found)
        else:
            clear = "\033[H\033[J" if options.watch and sys.stdout.isatty() else ""
            print(clear + render_status(found), flush=True)
        if not options.watch or not found["is_running"]:
            return DONE
        time.sleep(WATCH_SECONDS)


def table(options: argparse.Namespace) -> int:
    """Prints or writes the records as one tidy table."""
    from analysis.table import load_table, write_table

    frame = load_table(options.source)
    if options.to:
        write_table(frame, options.to)
        print(f"{len(frame)} rows, {len(frame.columns)} columns: {options.to}", file=sys.stderr)
    elif options.json:
        _print_json(json.loads(frame.to_json(orient="records")))
    elif sys.stdout.isatty():
        filled = frame.dropna(axis="columns", how="all")
        print(filled.to_string(max_rows=40, max_cols=None, line_width=160, index=False))
    else:
        frame.to_csv(sys.stdout, index=False)
    return DONE


def _store_of(options: argparse.Namespace, study: "Study") -> Store:
    return Store(options.store or f"runs/{study.name}")


def _print_outcome(options: argparse.Namespace, store: Store, counts: dict[str, Any]) -> None:
    if options.json:
        _print_json({"store": str(store.path), **counts})
    elif "to_train" in counts:
        print(f"{store.path}: would train {len(counts['to_train'])} cells, {counts['complete']} are complete")
    else:
        bad = f", {counts['diverged']} of them diverged" if counts["diverged"] else ""
        print(f"{store.path}: {counts['complete']} of {counts['cells']} cells complete{bad}")
        for name in counts["failed"]:
            print(f"failed: {store.cell_path(name) / 'attempts.jsonl'}", file=sys.stderr)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=1, allow_nan=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaling", description="Scaling-law research: sweeps, and the laws they follow."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, **kwargs: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=(command.__doc__ or "").splitlines()[0], description=command.__doc__, **kwargs
        )
        sub.set_defaults(command=command)
        return sub

    def add_study(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("study", metavar="STUDY", help="a name in configs/, a .py file with study(), or a study.json")
        sub.add_argument(
            "--set", action="append", default=[], dest="assignments", metavar="PATH=VALUE",
            help="override a field of the cells (data.size=1000) or a parameter of study() (largest=800); repeatable",
        )  # fmt: skip
        sub.add_argument("--store", metavar="DIR", help="where records go; default runs/<study's name>")

    def add_json(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print one JSON document instead of text")

    sub = add("plan", plan)
    add_study(sub)
    add_json(sub)
    sub = add("run", run)
    add_study(sub)
    sub.add_argument("--engine", choices=ENGINES, default="local", help="what runs the cells")
    sub.add_argument("--workers", type=int, metavar="K", help="processes at a time; default one per core")
    sub.add_argument("--dry-run", action="store_true", help="say what would be trained, and stop")
    add_json(sub)
    sub = add("cell", _train_cell, epilog="Flags of JAX work here too, for example --jax_debug_nans.")
    sub.add_argument("cell", metavar="CELL.json")
    sub.add_argument("--store", metavar="DIR", required=True)
    sub = add("status", status)
    sub.add_argument("store", metavar="STORE")
    sub.add_argument("--watch", action="store_true", help="print again every two seconds until the run has ended")
    add_json(sub)
    sub = add("table", table)
    sub.add_argument("source", metavar="STORE|FILE")
    sub.add_argument("--to", metavar="FILE", help="write .csv, .parquet or .jsonl")
    add_json(sub)
    return parser


def _train_cell(_: argparse.Namespace) -> int:
    """Trains one cell: what an engine calls."""
    raise AssertionError("main() hands `scaling cell` to the worker")


if __name__ == "__main__":
    sys.exit(main())
