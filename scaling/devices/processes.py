"""Several processes as one job: joining, agreeing, and hearing of preemption at the same step on all of them."""

import os
import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from scaling.specs.base import InputError

# What a preemption notice arrives as: Slurm, Kubernetes and Cloud TPU send TERM; USR1 is what `sbatch --signal` is
# often told to send.
NOTICES = (signal.SIGTERM, signal.SIGUSR1)

# JAX's option, by default on, for a service that hears SIGTERM on one process and tells all.
SERVICE = "jax_enable_preemption_service"


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the processes of a job; must run before anything else asks JAX for its devices.

    Args:
      coordinator: HOST:PORT of the first process; None lets JAX find it (Cloud TPU, Slurm, Open MPI, Kubernetes).
      num_processes: the number of processes of the job; None with `coordinator` None.
      process_id: the number of this one, from 0; the same.

    Raises:
      InputError: only some of the three are given, or the others cannot be reached.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise InputError(f"--{missing[0]} is missing; give --coordinator, --num_processes and --process_id, or none")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the processes of the job do not find each other ({reason}); give --coordinator, --num_processes and "
            "--process_id"
        ) from None


def is_writer() -> bool:
    """Returns whether this is the one process of its job that writes to the store."""
    return jax.process_index() == 0


def agree(value: int) -> int:
    """Returns the first process's value on all of them."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def fetch(array: jax.Array) -> np.ndarray:
    """Returns an array in this host's memory, wherever its parts are; every process must ask for the same ones."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


class Preempted(Exception):  # noqa: N818  (no error: the job goes on elsewhere)
    """A preemption notice came; what was to be saved is saved."""


class Notices:
    """Hears preemption notices while it is open.

    With several processes JAX's service takes SIGTERM, where it is there, and all of them hear of it at the same step.
    """

    def __init__(self) -> None:
        self._heard = False
        self._asked = 0
        self._before: dict[int, Callable[..., Any] | int | None] = {}
        self._has_service = jax.process_count() > 1 and bool(getattr(jax.config, SERVICE, False))

    def __enter__(self) -> "Notices":
        for number in NOTICES:
            if not (number == signal.SIGTERM and self._has_service):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def heard(self) -> bool:
        """Returns whether a notice has come to any process; every process must ask equally often."""
        if jax.process_count() == 1:
            return self._heard
        from jax.experimental import multihost_utils

        self._asked += 1
        told = self._has_service and multihost_utils.reached_preemption_sync_point(self._asked)
        return bool(told) or bool(multihost_utils.process_allgather(np.int32(self._heard)).any())

    def _hear(self, *_: object) -> None:
        self._heard = True


def visible_cores() -> int:
    """Returns the CPU cores that this process may use; their number changes the last bits of results on CPUs."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def platform_facts() -> dict[str, str]:
    """Returns what bit-exact repetition is promised for: the same of these."""
    return {
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": str(jax.device_count()),
        "num_processes": str(jax.process_count()),  # sums between them are taken in another order than within one
        "threads": str(visible_cores()),
        "jax": jax.__version__,
    }
