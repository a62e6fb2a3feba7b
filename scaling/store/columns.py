"""The table's columns: their order, which of them count parts of N and C, and how N, D and C follow from each other."""

from collections.abc import Iterable
from typing import Literal

TABLE_HEAD = ("study", "cell", "family", "label", "seed", "step", "is_final", "status", "trunk", "num_params")
TABLE_MIDDLE = ("data_unit", "data_seen", "data_unique", "epochs", "train_flops", "train_flops_spent")
TABLE_TAIL = ("peak_lr", "batch_size", "wall_seconds", "device_kind", "num_devices", "mfu")
# Of the final row alone: what the run took, and how it went.
TABLE_COURSE = ("steps_to_target", "train_seconds", "data_per_second", "dollars", "loss_spikes", "num_resumes")
# What differs between two runs of one cell: how long they took, and how often they began again.
TIMES = ("wall_seconds", "train_seconds", "data_per_second", "dollars", "mfu", "num_resumes")
CONTRACT = (*TABLE_HEAD, *TABLE_MIDDLE, "loss", *TABLE_TAIL, *TABLE_COURSE)

# Where the Parquet table of an import keeps the conventions that it was made by.
IMPORTED = b"scaling.conventions"

# Before the name of a group of parameters, and before that of a term of the training FLOPs.
GROUP, TERM = "params_", "flops_"
# How num_params is counted, and the total beside it; only in tables where some row is counted in another way.
CONVENTION, TOTAL = "num_params_convention", "num_params_total"
# Before the name of a corpus: its share of the tokens of a mixture.
MIXTURE = "mixture_"
# Groups that are looked up and not multiplied by, which N without embeddings leaves out (Kaplan et al. 2020).
LOOKUP_TABLES = ("embedding", "positions")

# FLOPs for a parameter and a token or example: 2 forward, 4 backward (Kaplan et al. 2020, section 2.1). C = 6 N D.
INFERENCE_FLOPS, TRAINING_FLOPS = 2.0, 6.0
# Columns of which each follows from the two others by C = 6 N D.
Derived = Literal["data_seen", "num_params", "train_flops"]


def is_part(name: str) -> bool:
    """Returns whether a column counts a group of the parameters or a term of the FLOPs.

    >>> [is_part(name) for name in ("params_head", "flops_matmul", "num_params", "train_flops")]
    [True, True, False, False]
    """
    return name.startswith((GROUP, TERM))


def order_columns(names: Iterable[str]) -> list[str]:
    """Returns distinct names in the contract's order: counts by group after the total, metrics after the loss.

    >>> order_columns(["loss", "accuracy", "num_params", "peak_lr", "params_head", "cell", "flops_matmul"])
    ['cell', 'num_params', 'params_head', 'flops_matmul', 'loss', 'accuracy', 'peak_lr']
    """
    places = {name: place for place, name in enumerate(CONTRACT)}

    def place(name: str) -> tuple[int, int, str]:
        if name in places:
            return places[name], 0, name
        if name in (CONVENTION, TOTAL):
            return places["num_params"], 1, name
        before = "num_params" if name.startswith(GROUP) else TABLE_MIDDLE[-1] if name.startswith(TERM) else "loss"
        return places[before], 2, name

    return sorted(set(names), key=place)
