"""The members of a population side by side: their data on the devices, and what they do not share as array values.

Dims: P members.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from scaling.data.feeding.placement import DeviceData, Standard, StreamedData, place_subset, resident_limit
from scaling.data.feeding.standard import standard_of
from scaling.data.order.subsets import Subset
from scaling.devices.sharding import batch_sharding, host_share
from scaling.learning.step import Hyper, make_hyper
from scaling.specs.execution import Execution
from scaling.specs.sharing import Tree
from scaling.training.program import Layout, Stacked, make_layout


class NotTogether(Exception):  # noqa: N818  (no error: they are trained one by one)
    """The cells' data does not fit on the device side by side."""


def place_members(
    tree: Tree, subsets: Sequence[Subset], execution: Execution, num_workers: int
) -> tuple[DeviceData | StreamedData, Stacked | None]:
    """Returns the data of a job's members on the devices, and which of its arrays have a leading axis P.

    Raises:
      NotTogether: several members, whose data is streamed or too large side by side.
    """
    layout, first = make_layout(execution.mesh), tree.cells[0][0]
    batch_size = first.training.batch_size
    placed = []
    for member, subset in zip(tree.cells, subsets, strict=True):
        data = place_subset(
            subset,
            standard_of(member[0].data, subset),
            batch_size=batch_size,
            seed=member[0].seed,
            augmentation=member[0].data.augmentation,
            num_workers=num_workers,
            put=layout.put,
            host_share=_host_share(layout, batch_size),
            chunk_steps=execution.chunk_steps,
        )
        if len(subsets) > 1 and isinstance(data, StreamedData):
            raise NotTogether
        placed.append(data)
    if len(placed) == 1:
        return placed[0], None
    return _stack(layout, placed)


def _stack(layout: Layout, placed: Sequence[Any]) -> tuple[DeviceData, Stacked]:
    """Returns the members' data as one; arrays that are the same for all are kept once."""
    first = placed[0]
    stacked = Stacked(
        *(any(getattr(d, name) is not getattr(first, name) for d in placed) for name in ("inputs", "labels"))
    )
    if stacked.inputs and len(placed) * max(data.inputs.nbytes for data in placed) > resident_limit():
        raise NotTogether

    def stack(arrays: Sequence[jax.Array]) -> jax.Array:
        """Returns arrays as one; shorter ones, of members with fewer examples, end in zeros."""
        room = max(len(array) if array.ndim else 0 for array in arrays)
        return layout.put_members(np.stack([_pad(np.asarray(array), room) for array in arrays]))

    together = DeviceData(
        inputs=stack([data.inputs for data in placed]) if stacked.inputs else first.inputs,
        labels=stack([data.labels for data in placed]) if stacked.labels else first.labels,
        order=stack([data.order for data in placed]),
        standard=Standard(*(stack(arrays) for arrays in zip(*(data.standard for data in placed), strict=True))),
    )
    return together, stacked


def _pad(array: np.ndarray, room: int) -> np.ndarray:
    return np.pad(array, [(0, room - len(array)), *[(0, 0)] * (array.ndim - 1)]) if array.ndim else array


def _host_share(layout: Layout, batch_size: int) -> tuple[int, int]:
    if layout.mesh is None:
        return 0, 1
    share = host_share(batch_sharding(layout.mesh), batch_size)
    return share.host, share.num_hosts


def make_hypers(tree: Tree, layout: Layout) -> list[Hyper]:
    """Returns what the members do not share, for each length; with a leading axis P where there are several."""
    hypers = []
    for leaves in zip(*tree.cells, strict=True):
        values = [make_hyper(cell.training, cell.data.size, cell.seed) for cell in leaves]
        stacked = jax.tree.map(lambda *each: layout.put_members(np.stack(each)), *values)
        hypers.append(stacked if len(values) > 1 else jax.tree.map(layout.put, values[0]))
    return hypers
