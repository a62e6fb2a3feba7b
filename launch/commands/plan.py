"""What a study will train, before it runs: every cell with its size, data and FLOPs, and what is already done."""

from typing import Any

from launch.jobs import estimate_seconds, paid_shares
from scaling.specs.cell import Cell
from scaling.specs.study import Study
from scaling.store.store import Store
from scaling.training.plan import describe_cell


def plan_cells(study: Study, store: Store | None) -> list[dict[str, Any]]:
    """Returns a row for each cell of each series: label, family, counts, a rough time, and whether it is done.

    A leaf of a branch tree has the `train_flops` of its own run, and in `train_flops_spent` what it adds to the tree.

    Raises:
      InputError: a cell cannot be trained: its data is missing or too small, or no model of its size exists.
    """
    rows, shares = [], paid_shares(study.cells.values())
    for series in study.series:
        for cell in series.cells:
            name = cell.fingerprint()
            counts = describe_cell(cell)
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


def check_cells(cells: dict[str, Cell]) -> None:
    """Checks that every cell can be trained, so that a sweep does not fail after an hour.

    Raises:
      InputError: names the first cell's field, value and remedy.
    """
    for cell in cells.values():
        describe_cell(cell)


def summarise_plan(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row for each label, m and D, its seeds put together."""
    groups: dict[tuple[str, int, int | None], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["label"], row["data_unique"], row["data_seen"]), []).append(row)
    return [
        {
            "label": label,
            "family": members[0]["family"],
            "N": members[0]["num_params"],
            "m": size,
            "D": members[0]["data_seen"],
            "C": members[0]["train_flops"],
            "seeds": len(members),
            "done": sum(row["done"] for row in members),
            "core seconds": sum(row["core_seconds"] for row in members),
        }
        for (label, size, _), members in groups.items()
    ]
