"""`scaling plan`: what a study will train, before it runs: every cell with its size, data and FLOPs."""

import argparse
import math
import sys
from collections.abc import Sequence

from launch.commands.arguments import add_json, add_study
from launch.exits import DONE, WORK_FAILED
from launch.options import parse_execution
from launch.progress import format_seconds
from launch.queue.estimates import estimate_seconds, paid_shares
from launch.running import check_law
from launch.text import print_json, render_table
from scaling.devices.hardware import GIB
from scaling.devices.topology import Topology, parse_topology
from scaling.specs.base import InputError, Json
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.specs.models import NetworkSpec
from scaling.specs.study import Study, resolve_study
from scaling.store.columns import CONVENTION, TOTAL
from scaling.store.store import Store

# What `auto` stands for on the devices described; the process that compiles has CPUs alone, and would choose for them.
ACCELERATOR = {"attention": "plain", "convolution": "native", "cross_entropy": "plain"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_study(parser)
    parser.add_argument(
        "--topology", metavar="NAME",
        help="compile each family's largest training step for v5e-256, v5p:4x4x8, h100-8, cpu-8, …",
    )  # fmt: skip
    parser.add_argument(
        "--execution", action="append", default=[], metavar="PATH=VALUE",
        help="how to run there: mesh.fsdp=64, remat=dots, …; repeatable",
    )  # fmt: skip
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints the cells of a study with N, D and C, and what is already done."""
    study = resolve_study(options.study, options.assignments)
    check_law(study)
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


def _plan_on_topology(options: argparse.Namespace, study: Study) -> int:
    """Prints what each family's largest training step takes on devices that are not here; 1 where one does not fit."""
    rows = describe_on(study, options.topology, parse_execution(options.execution) or Execution())
    if options.json:
        print_json({"study": study.name, "topology": options.topology, "largest": rows})
    else:
        print(render_table(render_described(rows)))
        for row in rows:
            for line in row["left_whole"]:
                print(f"{row['label']}: left whole: {line}", file=sys.stderr)
    return WORK_FAILED if any(row["fits"] is False for row in rows) else DONE


# --- cells ----------------------------------------------------------------------------------------------------------


def plan_cells(study: Study, store: Store | None) -> list[Json]:
    """Returns a row for each cell of each series: label, family, counts, a rough time, and whether it is done.

    A leaf of a branch tree has the `train_flops` of its own run, and in `train_flops_spent` what it adds to the tree.

    Raises:
      InputError: a cell cannot be trained: its data is missing or too small, or no model of its size exists.
    """
    from scaling.training.plan import check_metric, describe_cell

    rows, shares = [], paid_shares(study.cells.values())
    for series in study.series:
        for cell in series.cells:
            name = cell.fingerprint()
            counts = describe_cell(cell)
            check_metric(study.metric, cell)
            flops = counts["train_flops"]
            rows.append(
                {
                    "cell": name,
                    "label": series.label,
                    "family": cell.model.kind,
                    "seed": cell.seed,
                    **counts,
                    "train_flops_spent": None if flops is None else shares[name] * flops,
                    "core_seconds": shares[name] * estimate_seconds(cell, flops),
                    "done": store is not None and store.is_complete(name),
                }
            )
    return rows


def summarise_plan(rows: list[Json]) -> list[Json]:
    """Returns a row for each label, m and D, its seeds put together."""
    groups: dict[tuple[str, int, int | None], list[Json]] = {}
    for row in rows:
        groups.setdefault((row["label"], row["data_unique"], row["data_seen"]), []).append(row)
    counts_differ = any(TOTAL in row for row in rows)
    return [
        {
            "label": label,
            "family": members[0]["family"],
            "N": members[0]["num_params"],
            **(_other_count(members[0]) if counts_differ else {}),
            "m": size,
            "D": members[0]["data_seen"],
            "C": members[0]["train_flops"],
            "seeds": len(members),
            "done": sum(row["done"] for row in members),
            "core seconds": sum(row["core_seconds"] for row in members),
        }
        for (label, size, _), members in groups.items()
    ]


def _other_count(row: Json) -> Json:
    """Returns how a row's N is counted, and the total."""
    return {"counted as": row.get(CONVENTION, "total"), "total": row.get(TOTAL, row["num_params"])}


# --- on devices that are not here -----------------------------------------------------------------------------------


def largest_cells(study: Study) -> list[tuple[str, Cell]]:
    """Returns the network with the most parameters of each family, with its series' label."""
    from scaling.training.plan import describe_cell

    found: dict[str, tuple[int, str, Cell]] = {}
    for series in study.series:
        for cell in series.cells:
            if isinstance(cell.model, NetworkSpec):
                counts = describe_cell(cell)
                num_params = counts[TOTAL if TOTAL in counts else "num_params"]
                if num_params > found.get(cell.model.kind, (0,))[0]:
                    found[cell.model.kind] = (num_params, series.label, cell)
    return [(label, cell) for _, label, cell in found.values()]


def describe_on(study: Study, topology_name: str, execution: Execution) -> list[Json]:
    """Returns a row for each family's largest cell: what its training step takes on a topology, as compiled for it.

    Where the execution has a mesh of one device, parameters and batches are divided among as many as the batch allows.

    Raises:
      InputError: there is no such topology, no network in the study, or a network that cannot be divided so.
    """
    topology = parse_topology(topology_name)
    cells = largest_cells(study)
    if not cells:
        raise InputError(f"--topology {topology_name}: study {study.name!r} trains no networks, so compiles nothing")
    return [_describe(label, cell, topology, execution) for label, cell in cells]


def _describe(label: str, cell: Cell, topology: Topology, execution: Execution) -> Json:
    from scaling.data.loading import load_source
    from scaling.data.source import task_shape
    from scaling.training.described import compile_training
    from scaling.training.plan import describe_cell

    assert isinstance(cell.model, NetworkSpec) and cell.training is not None  # noqa: S101  (largest_cells)
    changes: Json = {name: form for name, form in ACCELERATOR.items() if getattr(execution, name) == "auto"}
    if execution.mesh.num_devices == 1:
        fsdp = math.gcd(topology.num_devices, cell.training.batch_size // execution.micro_batches)
        changes["mesh"] = execution.mesh.model_copy(update={"fsdp": fsdp})
    execution = execution.model_copy(update={**changes, "population": 1})
    task = task_shape(load_source(cell.data))
    found = compile_training(topology, cell.model, task, cell.training, execution)
    return {
        "label": label,
        "family": cell.model.kind,
        "num_params": describe_cell(cell)["num_params"],
        "topology": topology.name,
        "mesh": execution.mesh.model_dump(mode="json", exclude_defaults=True),
        **found,
    }


def render_described(rows: Sequence[Json]) -> list[Json]:
    """Returns the rows for people: sizes in GiB, communication in one column."""
    return [
        {
            "label": row["label"],
            "N": row["num_params"],
            "mesh": " ".join(f"{axis}={size}" for axis, size in row["mesh"].items()) or "1 device",
            "state, GiB a device": round(sum(row["state_bytes"].values()) / GIB, 3),
            "peak, GiB a device": round(row["memory"]["peak"] / GIB, 3),
            "of": "unknown" if row["device_bytes"] is None else round(row["device_bytes"] / GIB, 2),
            "fits": {None: "unknown", True: "yes", False: "no"}[row["fits"]],
            "communication a step, MB a device": ", ".join(
                f"{each['kind']} {each['bytes'] / 1e6:,.1f} in {each['runs']}" for each in row["collectives"]
            )
            or "none",
            "compiled by": "libtpu" if row["compiler"] == "tpu" else "XLA for CPUs: an estimate",
        }
        for row in rows
    ]
