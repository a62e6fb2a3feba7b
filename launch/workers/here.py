"""This machine's places for workers, and what forks them."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from launch.options import Options
from launch.workers import slots as places
from launch.workers.forks import ForkServer, can_fork
from launch.workers.slots import Slot
from scaling.specs.cell import Cell


def find_slots(options: Options) -> list[Slot]:
    """Returns the places for workers on this machine.

    Raises:
      InputError: there cannot be so many.
    """
    devices_each = 1 if options.execution is None else options.execution.mesh.num_devices
    return places.divide(places.find_machine(), options.workers, devices_each)


@contextlib.contextmanager
def start_server(slots: Sequence[Slot], options: Options, cells: Iterable[Cell]) -> Iterator[ForkServer | None]:
    """Yields a server that forks the workers of these slots, which is loading; None where each has an interpreter."""
    if options.spawn_workers or not can_fork(slots):
        yield None
        return
    with ForkServer(cells) as server:
        yield server
