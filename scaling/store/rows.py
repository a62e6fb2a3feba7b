"""The rows of the table that records make: the contract's columns, in its order."""

from collections.abc import Iterator
from typing import Any

from scaling.store.record import Record

TABLE_HEAD = ("study", "cell", "family", "label", "seed", "step", "is_final", "status", "trunk", "num_params")
TABLE_MIDDLE = ("data_unit", "data_seen", "data_unique", "epochs", "train_flops", "train_flops_spent")
TABLE_TAIL = ("peak_lr", "batch_size", "wall_seconds", "device_kind", "num_devices", "mfu")


def record_rows(record: Record) -> Iterator[dict[str, Any]]:
    """Yields a flat row for each evaluation of a record, without the names that its study gives it."""
    last = record.evaluations[-1]
    for evaluation in record.evaluations:
        is_final = evaluation is last
        yield {
            "cell": record.cell,
            "family": record.family,
            "seed": record.seed,
            "step": evaluation.step,
            "is_final": is_final,
            "status": record.status,
            "trunk": record.trunk,
            "num_params": record.num_params,
            **{f"params_{group}": count for group, count in record.params.items()},
            "data_unit": record.data_unit,
            "data_seen": evaluation.data_seen,
            "data_unique": record.data_unique,
            "epochs": evaluation.data_seen / record.data_unique,
            "train_flops": evaluation.train_flops,
            "train_flops_spent": record.train_flops_spent if is_final else evaluation.train_flops,
            **{f"flops_{term}": flops * evaluation.data_seen / last.data_seen for term, flops in record.flops.items()},
            "loss": evaluation.loss,
            **evaluation.metrics,
            "peak_lr": record.peak_lr,
            "batch_size": record.batch_size,
            "wall_seconds": record.wall_seconds if is_final else None,
            "device_kind": record.device_kind,
            "num_devices": record.num_devices,
            "mfu": record.mfu,
        }


def order_columns(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the contract's columns in its order: counts by group after the total, metrics after the loss."""
    found = list(dict.fromkeys(name for row in rows for name in row))
    fixed = {*TABLE_HEAD, *TABLE_MIDDLE, *TABLE_TAIL, "loss"}
    groups = sorted(name for name in found if name.startswith("params_"))
    terms = sorted(name for name in found if name.startswith("flops_"))
    metrics = sorted(name for name in found if name not in {*fixed, *groups, *terms})
    return [*TABLE_HEAD, *groups, *TABLE_MIDDLE, *terms, "loss", *metrics, *TABLE_TAIL]
