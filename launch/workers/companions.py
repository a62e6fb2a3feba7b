"""The processes that train together as one worker: how this one finds the others, and what all of them must do."""

import sys
from typing import NamedTuple

import jax

from scaling.devices.processes import is_writer, join
from scaling.specs.base import InputError
from scaling.specs.execution import Execution


class Companions(NamedTuple):
    """What a process knows of those that it trains together with.

    Attributes:
      coordinator: HOST:PORT of the first; None lets JAX find it.
      num_processes: that train together; None with `coordinator` None.
      process_id: the number of this one, from 0; the same.
      is_distributed: whether there are any, though nothing else is known of them.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    is_distributed: bool = False


class Joined(NamedTuple):
    """What a process is among those that train together.

    Attributes:
      writes: whether it is the one that writes to the store.
      num_processes: how many they are.
    """

    writes: bool
    num_processes: int


ALONE = Joined(writes=True, num_processes=1)


def join_companions(companions: Companions) -> Joined:
    """Joins the processes of this one's job, if there are others, and returns what it is among them.

    Raises:
      InputError: only some of what must be known of them is given, or they cannot be reached.
    """
    *known, is_distributed = companions
    if not is_distributed and all(fact is None for fact in known):
        return ALONE
    join(companions.coordinator, companions.num_processes, companions.process_id)
    if companions.coordinator is None and jax.process_count() == 1:
        print("scaling: JAX finds one process alone; it works by itself", file=sys.stderr)
    return Joined(is_writer(), jax.process_count())


def check_mesh(execution: Execution, num_processes: int) -> None:
    """Checks that every process has a part in the work: one without would leave the others waiting for it.

    Args:
      execution: the execution of every program.
      num_processes: that train together.

    Raises:
      InputError: a process has none.
    """
    wanted, there = execution.mesh.num_devices, jax.device_count()
    if num_processes > 1 and wanted != there:
        raise InputError(
            f"--execution mesh takes {wanted} of the {there} devices of {num_processes} processes; give one of all of "
            f"them, for example mesh.data={there}"
        )
