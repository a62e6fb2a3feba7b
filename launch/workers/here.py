"""This machine's places for workers, and what trains on them."""

from collections.abc import Iterable, Sequence

from launch.options import Options
from launch.progress import Ended
from launch.workers import slots as places
from launch.workers.agent import run_cells
from launch.workers.forks import ForkServer, can_fork
from launch.workers.slots import Slot
from scaling.specs.cell import Cell
from scaling.store.store import Store


def find_slots(options: Options) -> list[Slot]:
    """Returns the places for workers on this machine.

    Raises:
      InputError: there cannot be so many.
    """
    devices_each = 1 if options.execution is None else options.execution.mesh.num_devices
    return places.divide(places.find_machine(), options.workers, devices_each)


def start_server(slots: Sequence[Slot], options: Options, cells: Iterable[Cell]) -> ForkServer | None:
    """Returns a server that forks the workers of these slots, which is loading; None where each has an interpreter."""
    return None if options.spawn_workers or not can_fork(slots) else ForkServer(cells)


def train_here(
    cells: dict[str, Cell],
    store: Store,
    slots: Sequence[Slot],
    options: Options,
    launch: str,
    *,
    waits: bool,
    server: ForkServer | None = None,
) -> Ended:
    """Trains cells on this machine, and returns how that ended.

    Args:
      cells: to train, by fingerprint.
      store: where their records go.
      slots: the workers' places.
      options: how jobs are run.
      launch: its name.
      waits: whether to wait for cells that others have.
      server: that forks the workers; None starts an interpreter for each.
    """
    return run_cells(cells, store, slots, options, launch, waits=waits, server=server)
