"""A study's largest cells compiled for devices that are not here: memory, communication, and whether they fit."""

import math
from collections.abc import Sequence
from typing import Any

from scaling.data.loading import load_source
from scaling.data.source import task_shape
from scaling.devices.hardware import GIB
from scaling.devices.topology import Topology, parse_topology
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.specs.models import NetworkSpec
from scaling.specs.study import Study
from scaling.training.described import compile_training
from scaling.training.plan import describe_cell

# What `auto` stands for on the devices described; the process that compiles has CPUs alone, and would choose for them.
ACCELERATOR = {"attention": "plain", "convolution": "native", "cross_entropy": "plain"}


def largest_cells(study: Study) -> list[tuple[str, Cell]]:
    """Returns the network with the most parameters of each family, with its series' label."""
    found: dict[str, tuple[int, str, Cell]] = {}
    for series in study.series:
        for cell in series.cells:
            if isinstance(cell.model, NetworkSpec):
                num_params = describe_cell(cell)["num_params"]
                if num_params > found.get(cell.model.kind, (0,))[0]:
                    found[cell.model.kind] = (num_params, series.label, cell)
    return [(label, cell) for _, label, cell in found.values()]


def describe_on(study: Study, topology_name: str, execution: Execution) -> list[dict[str, Any]]:
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


def _describe(label: str, cell: Cell, topology: Topology, execution: Execution) -> dict[str, Any]:
    assert isinstance(cell.model, NetworkSpec) and cell.training is not None  # noqa: S101  (largest_cells)
    changes: dict[str, Any] = {name: form for name, form in ACCELERATOR.items() if getattr(execution, name) == "auto"}
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


def render_described(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
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
