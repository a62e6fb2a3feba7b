"""Parameters of a network: by named group, by role, and under the conventions that scaling laws count N by."""

from typing import assert_never

from scaling.models.layers.core import Weight, walk
from scaling.models.layers.sequence import TiedReadout
from scaling.models.shape import Shape, make_layers
from scaling.specs.models import ParamConvention
from scaling.store.columns import LOOKUP_TABLES


def count_params(shape: Shape) -> dict[str, int]:
    """Returns parameters by group; their sum is the total."""
    counts: dict[str, int] = {}
    for visit in walk(make_layers(shape), shape.task.dims):
        for weight in visit.layer.weights(visit.dims).values():
            counts[weight.group] = counts.get(weight.group, 0) + weight.size * visit.copies
    return counts


def count_by_convention(shape: Shape, convention: ParamConvention) -> int:
    """Returns N as a convention counts it.

    `total` is every trainable number; `non_embedding` leaves out the tables of tokens and positions (Kaplan et al.
    2020); `matmul` is every entry of a matrix that activations are multiplied by, once for each use of a tied table.
    """
    total = 0
    for visit in walk(make_layers(shape), shape.task.dims):
        for weight in visit.layer.weights(visit.dims).values():
            total += weight.size * visit.copies if _counts(weight, convention) else 0
        if convention == "matmul" and isinstance(visit.layer, TiedReadout):
            total += visit.dims[-1] * visit.layer.vocab_size
    return total


def _counts(weight: Weight, convention: ParamConvention) -> bool:
    """Returns whether a convention counts an array."""
    match convention:
        case "total":
            return True
        case "non_embedding":
            return weight.group not in LOOKUP_TABLES
        case "matmul":
            return weight.is_matmul
        case _:
            assert_never(convention)


def count_active(shape: Shape) -> int:
    """Returns the parameters that one example uses: all but the experts that it is not routed to."""
    return sum(
        round(weight.size * weight.active) * visit.copies
        for visit in walk(make_layers(shape), shape.task.dims)
        for weight in visit.layer.weights(visit.dims).values()
    )
