"""The `scaling` command: parses the call, prints what it finds, and turns errors into one line and an exit status."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

# Heavy libraries are imported inside the commands that need them: `scaling --help` and `status` must start at once.
from analysis.errors import AnalysisError
from launch.commands import analyst, decisions, following, running, sync
from launch.commands.tables import print_warnings
from launch.engines import EngineError
from launch.imports import command as imports
from launch.options import add_options
from launch.text import print_json
from scaling.specs.base import InputError
from scaling.store.store import CorruptStoreError, Store

if TYPE_CHECKING:
    from scaling.specs.study import Study

DONE, WORK_FAILED, WRONG_CALL, PREEMPTED = 0, 1, 2, 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 done, 1 the work failed, 2 the call was wrong, 75 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["cell"] and not {"-h", "--help"} & set(words):
        from launch.workers import worker

        worker.run(["scaling cell", *words[1:]])  # absl parses its flags, and exits
    if words[:1] == ["work"] and "--distributed" in words:
        from launch.workers import worker

        worker.run(["scaling work", "--gang", *words[1:]])
    options = _parser().parse_args(words)
    try:
        return options.command(options)
    except (InputError, AnalysisError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return WRONG_CALL
    except (CorruptStoreError, EngineError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return WORK_FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return PREEMPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return DONE


def plan(options: argparse.Namespace) -> int:
    """Prints the cells of a study with N, D and C, and what is already done."""
    from launch.commands.plan import plan_cells, summarise_plan
    from launch.progress import format_seconds
    from launch.text import render_table
    from scaling.specs.study import resolve_study

    study = resolve_study(options.study, options.assignments)
    if options.topology:
        return _plan_on_topology(options, study)
    if options.execution:
        raise InputError("--execution is how to run on a --topology; add that, or leave --execution out")
    store = Store(options.store or f"runs/{study.name}")
    rows = plan_cells(study, store if store.path.exists() else None)
    if options.json:
        print_json({"study": study.name, "question": study.question, "store": str(store.path), "cells": rows})
        return DONE
    print(f"{study.name}: {study.question}\n")
    print(render_table(summarise_plan(rows)))
    left = [row for row in rows if not row["done"]]
    flops = sum(row["train_flops_spent"] or 0.0 for row in rows)
    print(
        f"\n{len(study.cells)} cells, {len(study.cells) - len({row['cell'] for row in left})} done in {store.path}; "
        f"{flops:.3g} training FLOPs where counted; about "
        f"{format_seconds(sum(row['core_seconds'] for row in left))} of one CPU core left"
    )
    return DONE


def _plan_on_topology(options: argparse.Namespace, study: "Study") -> int:
    """Prints what each family's largest training step takes on devices that are not here; 1 where one does not fit."""
    from launch.commands.described import describe_on, render_described
    from launch.jobs import parse_execution
    from launch.text import render_table
    from scaling.specs.execution import Execution

    rows = describe_on(study, options.topology, parse_execution(options.execution) or Execution())
    if options.json:
        print_json({"study": study.name, "topology": options.topology, "largest": rows})
    else:
        print(render_table(render_described(rows)))
    return WORK_FAILED if any(row["fits"] is False for row in rows) else DONE


def report(options: argparse.Namespace) -> int:
    """Prints fits, crossing points and order, and writes them with the figure as one HTML file."""
    from analysis.figures.style import save_figure
    from analysis.fit_table import fit_rows
    from analysis.report.findings import crossing_rows, find_all, order_rows
    from analysis.report.page import draw_figure, write_page
    from launch.text import render_table

    store = Store.open(options.store)
    findings = find_all(store)
    path = options.out or str(store.path / "report.html")
    write_page(findings, str(store.path), path)
    if options.figure:
        save_figure(draw_figure(findings), options.figure)
    labels = list(dict.fromkeys(findings.points["label"]))
    fits = fit_rows(findings.bootstrap, labels)
    crossings = crossing_rows(findings.crossings)
    if options.json:
        says = {"says": findings.sentences + findings.slopes, "notices": findings.notices}
        order = order_rows(findings.order)
        print_json({"report": path, "fits": fits, "crossings": crossings, "order": order, **says})
        return DONE
    print(f"Fitted laws, {findings.metric} = {findings.bootstrap.law.formula.partition('=')[2].strip()}\n")
    print(render_table(fits))
    print_warnings(findings.notices, list(findings.bootstrap.fits.values()))
    print("\nCrossing points of the fitted laws\n")
    print(render_table(crossings))
    print("\n" + "\n".join(findings.sentences))
    print(f"\nreport: {path}")
    return DONE


def models(options: argparse.Namespace) -> int:
    """Shows a model family at a size, or a published network: shape, parameters and FLOPs."""
    from launch.commands.models import describe_family, describe_preset, list_networks, parse_count, render_description
    from launch.text import render_table
    from scaling.models.registry import FAMILIES

    if options.coordinate_check:
        return _check_coordinates(options)
    if options.out:
        raise InputError(f"--out {options.out}: is for the figure of --coordinate-check; add that, or leave --out out")
    if options.preset and (options.family or options.params):
        raise InputError("--preset names a network of its own; leave --family and --params out")
    if options.preset:
        found = describe_preset(options.preset, options.assignments)
    elif options.family and (options.params or options.assignments or options.family not in (*FAMILIES, "classical")):
        size = parse_count(options.params) if options.params else None
        found = describe_family(options.family, size, options.assignments)
    else:
        if options.params:
            raise InputError(f"--params {options.params}: of which family? add --family, for example --family mlp")
        rows = list_networks(options.family)
        if options.json:
            print_json(rows)
        else:
            print(render_table(rows) + "\n\nAny size of a family: scaling models --family transformer --params 10M")
        return DONE
    if options.json:
        print_json(found)
    else:
        print(render_description(found))
    return DONE


def _check_coordinates(options: argparse.Namespace) -> int:
    """Prints whether activations and their changes keep their size as a family grows; 1 where muP or CompleteP fail."""
    if not options.family or options.preset or options.params:
        raise InputError("--coordinate-check is of a family at small sizes of its own; give --family NAME alone")
    from launch.commands.coordinates import check_family, draw_check, render_check, transfers

    rows, verdicts = check_family(options.family, options.assignments)
    path = options.out or f"coordinate-check-{options.family}.svg"
    draw_check(options.family, rows, verdicts, path)
    if options.json:
        print_json({"family": options.family, "figure": path, "verdicts": verdicts})
    else:
        print(render_check(verdicts) + f"\n\nfigure: {path}")
    return DONE if transfers(verdicts) else WORK_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaling", description="Scaling-law research: sweeps, and the laws they follow."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, **kwargs: Any) -> argparse.ArgumentParser:
        text = command.__doc__ or ""
        line = text.splitlines()[0].replace("%", "%%")  # argparse formats help and leaves descriptions as they are
        sub = commands.add_parser(name, help=line, description=text, **kwargs)
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
    sub.add_argument(
        "--topology", metavar="NAME",
        help="compile each family's largest training step for v5e-256, v5p:4x4x8, h100-8, cpu-8, …",
    )  # fmt: skip
    sub.add_argument(
        "--execution", action="append", default=[], metavar="PATH=VALUE",
        help="how to run there: mesh.fsdp=64, remat=dots, …; repeatable",
    )  # fmt: skip
    add_json(sub)
    running.add_commands(add, add_study, add_json)
    sub = add("cell", _train_cell, epilog="Flags of JAX work here too, for example --jax_debug_nans.")
    sub.add_argument("cell", metavar="CELL.json")
    sub.add_argument("--store", metavar="DIR", required=True)
    sub.add_argument("--reader-workers", metavar="K", help="processes that read data too large for the device")
    add_options(sub)
    for flag, metavar in {"coordinator": "HOST:PORT", "num-processes": "K", "process-id": "I"}.items():
        sub.add_argument(f"--{flag}", metavar=metavar, help="of several processes that train the cell together")
    sub.add_argument("--distributed", action="store_true", help="let JAX find the processes")
    following.add_commands(add, add_json)
    analyst.add_commands(add, add_json)
    decisions.add_commands(add, add_json)
    imports.add_commands(add, add_json)
    sync.add_commands(add, add_json)
    sub = add("report", report)
    sub.add_argument("store", metavar="STORE")
    sub.add_argument("--out", metavar="FILE.html", help="default STORE/report.html")
    sub.add_argument("--figure", metavar="FILE", help="write the figure by itself too, as .svg, .pdf or .png")
    add_json(sub)
    sub = add("models", models)
    sub.add_argument("--family", metavar="NAME", help="mlp, convnet, resnet, transformer, vit, lstm, …")
    sub.add_argument("--params", metavar="N", help="size asked for: 10M, 1.5B, 300k")
    sub.add_argument("--preset", metavar="NAME", help="a published network: resnet50, gpt2, vit_b16, …")
    sub.add_argument(
        "--set", action="append", default=[], dest="assignments", metavar="PATH=VALUE",
        help="change model (model.depth=4), task (task.vocab_size=50257) or count (flops.attention=causal); repeatable",
    )  # fmt: skip
    sub.add_argument(
        "--coordinate-check", action="store_true",
        help="train the family for a few steps at growing widths and depths: do activations keep their size?",
    )  # fmt: skip
    sub.add_argument("--out", metavar="FILE", help="the check's figure; default coordinate-check-NAME.svg")
    add_json(sub)
    return parser


def _train_cell(_: argparse.Namespace) -> int:
    """Trains one cell: what an engine calls."""
    raise AssertionError("main() hands `scaling cell` to the worker")


if __name__ == "__main__":
    sys.exit(main())
