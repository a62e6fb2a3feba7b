"""The rows of the table that records make, in the contract's columns."""

from collections.abc import Iterator

from scaling.specs.base import Json
from scaling.store.columns import CONVENTION, GROUP, MIXTURE, TERM, TOTAL
from scaling.store.record import Record


def record_rows(record: Record) -> Iterator[Json]:
    """Yields a flat row for each evaluation of a record, without the names that its study gives it.

    How N is counted and the total beside it are in every row; a table in which all N are totals leaves them out.
    """
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
            CONVENTION: record.num_params_convention,
            TOTAL: sum(record.params.values()) or record.num_params,
            **{f"{GROUP}{group}": count for group, count in record.params.items()},
            "data_unit": record.data_unit,
            "data_seen": evaluation.data_seen,
            "data_unique": record.data_unique,
            "epochs": evaluation.data_seen / record.data_unique,
            "train_flops": evaluation.train_flops,
            "train_flops_spent": record.train_flops_spent if is_final else evaluation.train_flops,
            **{f"{TERM}{term}": flops * evaluation.data_seen / last.data_seen for term, flops in record.flops.items()},
            "loss": evaluation.loss,
            **evaluation.metrics,
            **{name: share for name, share in record.data.facts.items() if name.startswith(MIXTURE)},
            "peak_lr": record.peak_lr,
            "batch_size": record.batch_size,
            "wall_seconds": record.wall_seconds if is_final else None,
            "device_kind": record.device_kind,
            "num_devices": record.num_devices,
            "mfu": record.mfu,
            **(_describe_course(record) if is_final else {}),
        }


def _describe_course(record: Record) -> Json:
    """Returns what a run took, and how it went: the data a second is of its job's, whose time cells share."""
    seconds, price = record.train_seconds, record.price_per_hour
    return {
        "steps_to_target": record.steps_to_target,
        "train_seconds": seconds,
        "data_per_second": record.evaluations[-1].data_seen / seconds if seconds else None,
        "dollars": None if price is None else price * record.wall_seconds / 3600,
        "loss_spikes": record.loss_spikes,
        "num_resumes": record.num_resumes,
    }
