"""`scaling plan`: what a study will train, before it runs: every cell with its size, data and FLOPs."""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

from launch.commands.arguments import add_json, add_study
from launch.exits import DONE, WORK_FAILED
from launch.options import parse_execution
from launch.progress import format_seconds
from launch.queue.estimates import estimate_seconds, paid_shares
from launch.running import check_law
from launch.text import format_value, print_json, render_table
from scaling.devices.hardware import GIB
from scaling.devices.topology import Topology, parse_topology
from scaling.specs.base import InputError, Json, all_fields, canonical_json
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.specs.fields import find_varying, flatten, shorten, to_columns
from scaling.specs.models import NetworkSpec
from scaling.specs.study import Study, resolve_study
from scaling.store.columns import CONVENTION, TOTAL
from scaling.store.store import Store

# What `auto` stands for on the devices described; the process that compiles has CPUs alone, and would choose for them.
ACCELERATOR = {"attention": "plain", "convolution": "native", "cross_entropy": "plain"}

# Paths of fields: the N that a model is asked to have, and what draws a cell anew.
ASKED, SEED = "model.num_params", "seed"
# What other columns of a plan say: the family, N, m and D.
SAID = ("model.kind", ASKED, "data.size", "training.num_steps")
SHOWN = 8  # values of a field that are all listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_study(parser)
    parser.add_argument(
        "--topology", metavar="NAME",
        help="compile each family's largest training step for v5e-256, v5p:4x4x8, h100-8, cpu-8, …",
    )  # fmt: skip
    parser.add_argument(
        "--execution", action="append", default=[], metavar="PATH=VALUE",
        help="how to run, there or wherever: mesh.fsdp=64, remat=dots, …; repeatable",
    )  # fmt: skip
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints the cells of a study with N, D and C, and what is already done."""
    study = resolve_study(options.study, options.assignments)
    check_law(study)
    execution = parse_execution(options.execution)
    if options.topology:
        return _plan_on_topology(options, study, execution or Execution())
    from scaling.training.plan import join_warnings

    store = Store(options.store or f"runs/{study.name}")
    rows = plan_cells(study, store if store.path.exists() else None, execution)
    warnings = join_warnings([row["warning"] for row in rows if row["warning"] and not row["done"]])
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    if options.json:
        head = {"study": study.name, "question": study.question, "store": str(store.path), "warnings": warnings}
        print_json({**head, "varies": find_variation(rows), "cells": rows})
        return DONE
    print(f"{study.name}: {study.question}\n")
    print(render_table(summarise_plan(rows)))
    print(f"\n{describe_variation(rows)}")
    left = [row for row in rows if not row["done"]]
    flops = sum(row["train_flops_spent"] or 0.0 for row in rows)
    print(
        f"\n{len(study.cells)} cells, {len(study.cells) - len({row['cell'] for row in left})} done in {store.path}; "
        f"{flops:.3g} training FLOPs where counted; about "
        f"{format_seconds(sum(row['core_seconds'] for row in left))} of one CPU core left"
    )
    return DONE


def _plan_on_topology(options: argparse.Namespace, study: Study, execution: Execution) -> int:
    """Prints what each family's largest training step takes on devices that are not here; 1 where one does not fit."""
    rows = describe_on(study, options.topology, execution)
    if options.json:
        print_json({"study": study.name, "topology": options.topology, "largest": rows})
    else:
        print(render_table(render_described(rows)))
        for row in rows:
            for line in row["left_whole"]:
                print(f"{row['label']}: left whole: {line}", file=sys.stderr)
    return WORK_FAILED if any(row["fits"] is False for row in rows) else DONE


# --- cells ----------------------------------------------------------------------------------------------------------


def plan_cells(study: Study, store: Store | None, execution: Execution | None = None) -> list[Json]:
    """Returns a row for each cell of each series: label, family, counts, a rough time, a warning, whether it is done.

    `fields` are those of its specification that vary among the study's cells, by path. A leaf of a branch tree has the
    `train_flops` of its own run, and in `train_flops_spent` what it adds to the tree.

    Args:
      study: to plan.
      store: that may have some of its cells; None for none.
      execution: that each network is to be trained by; None where it is chosen when it is trained.

    Raises:
      InputError: a cell cannot be trained: its data is missing or too small, no model of its size exists, or it cannot
        be divided as the execution asks.
    """
    from scaling.training.plan import check_classes, check_execution, check_metric, describe_cell

    rows, shares = [], paid_shares(study.cells.values())
    flat = {name: flatten(all_fields(cell)) for name, cell in study.cells.items()}
    varying = find_varying(list(flat.values()))
    fields = dict(zip(flat, to_columns(list(flat.values()), varying), strict=True))
    for series in study.series:
        for cell in series.cells:
            name = cell.fingerprint()
            counts = describe_cell(cell)
            check_metric(study.metric, cell)
            if execution is not None:
                check_execution(cell, execution)
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
                    "warning": check_classes(cell),
                    "done": store is not None and store.is_complete(name),
                    "num_params_asked": flat[name].get(ASKED),
                    "fields": fields[name],
                }
            )
    return rows


def summarise_plan(rows: list[Json]) -> list[Json]:
    """Returns a row for each distinct setting of each series, its seeds put together.

    Fields that vary within a series are columns, under the ends of their paths, unless N, m, D or the family say them.
    """
    groups: dict[str, list[Json]] = {}
    for row in rows:
        setting = {name: value for name, value in row["fields"].items() if name != SEED}
        groups.setdefault(canonical_json([row["label"], setting]), []).append(row)
    counts_differ = any(TOTAL in row for row in rows)
    is_asked = any(row["num_params_asked"] not in (None, row["num_params"]) for row in rows)
    in_tokens = any(row["data_unit"] == "tokens" for row in rows)
    shown = shorten([name for name in _vary_within_labels(rows) if name not in SAID])
    return [
        {
            "label": members[0]["label"],
            "family": members[0]["family"],
            "N": members[0]["num_params"],
            **({"N asked": members[0]["num_params_asked"]} if is_asked else {}),
            **(_other_count(members[0]) if counts_differ else {}),
            **{short: members[0]["fields"][name] for name, short in shown.items()},
            **_data_columns("m", members[0]["data_unique"], members[0], in_tokens=in_tokens),
            **_data_columns("D", members[0]["data_seen"], members[0], in_tokens=in_tokens),
            "C": members[0]["train_flops"],
            "seeds": len(members),
            "done": sum(row["done"] for row in members),
            "core seconds": sum(row["core_seconds"] for row in members),
        }
        for members in groups.values()
    ]


def find_variation(rows: Sequence[Json]) -> dict[str, list[Any]]:
    """Returns the values of each field that varies, by path; numbers in order."""
    fields = list({row["cell"]: row["fields"] for row in rows}.values())
    found: dict[str, list[Any]] = {}
    for name in fields[0] if fields else ():
        values = dict.fromkeys(each[name] for each in fields if each[name] is not None)
        is_numeric = all(isinstance(value, int | float) for value in values)
        found[name] = sorted(values) if is_numeric else list(values)
    return found


def describe_variation(rows: Sequence[Json]) -> str:
    """Returns what varies among the cells, a line for each field, and what m and D count."""
    lines = []
    for name, values in find_variation(rows).items():
        shown = [f"{value:,}" if type(value) is int else format_value(value) for value in values]
        listed = ", ".join(shown) if len(shown) <= SHOWN else f"{', '.join(shown[:3])} … {shown[-1]} ({len(shown)})"
        lines.append(f"  {name}: {listed}")
    units = sorted({row["data_unit"] for row in rows})
    sizes = sorted({row["example_tokens"] for row in rows if row["data_unit"] == "tokens"})
    beside = f"; beside them sequences, of {' or '.join(map(str, sizes))} tokens" if sizes else ""
    varying = "\n".join(["varies:", *lines]) if lines else "nothing varies"
    return f"m and D count {' and '.join(units)}{beside}\n{varying}"


def _vary_within_labels(rows: Sequence[Json]) -> list[str]:
    """Returns the paths of the fields, but the seed, that have several values under some label."""
    labels: dict[str, list[Json]] = {}
    for row in rows:
        labels.setdefault(row["label"], []).append(row["fields"])
    names = rows[0]["fields"] if rows else {}
    return [
        name
        for name in names
        if name != SEED and any(len({each[name] for each in members}) > 1 for members in labels.values())
    ]


def _data_columns(name: str, count: int | None, row: Json, *, in_tokens: bool) -> Json:
    """Returns m or D as the study counts it and, where that is tokens, the sequences beside it."""
    if not in_tokens:
        return {name: count}
    return {name: count, f"{name} seq.": None if count is None else count // row["example_tokens"]}


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
    from scaling.training.plan import check_execution

    topology = parse_topology(topology_name)
    cells = largest_cells(study)
    if not cells:
        raise InputError(f"--topology {topology_name}: study {study.name!r} trains no networks, so compiles nothing")
    for cell in study.cells.values() if execution.mesh.num_devices > 1 else ():
        check_execution(cell, execution.alone())
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
