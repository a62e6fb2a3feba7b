"""This machine's places for workers, and what trains on them."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launch.options import Options, Outcome
from scaling.specs.base import InputError
from scaling.store.store import Store

if TYPE_CHECKING:
    from launch.workers.slots import Slot
    from scaling.specs.cell import Cell


def find_slots(options: argparse.Namespace, wanted: Options) -> "list[Slot]":
    """Returns the places for workers that a call asks for, on this machine.

    Raises:
      InputError: there cannot be so many.
    """
    from launch.workers.slots import divide, find_machine

    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: must be at least 1")
    devices_each = 1 if wanted.execution is None else wanted.execution.mesh.num_devices
    return divide(find_machine(), options.workers, devices_each)


def train_here(
    cells: "dict[str, Cell]", store: Store, slots: "Sequence[Slot]", wanted: Options, launch: str, *, waits: bool
) -> Outcome:
    """Trains cells on this machine, and returns how that ended.

    Args:
      cells: to train, by fingerprint.
      store: where their records go.
      slots: the workers' places.
      wanted: how jobs are run.
      launch: its name.
      waits: whether to wait for cells that others have.
    """
    from launch.workers.agent import run_cells

    return run_cells(cells, store, slots, wanted, launch, waits=waits)
