"""How a machine is divided among worker processes: each has cores of its own, and devices where there are some."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaling.specs.base import InputError

# What is left to a process that shares a GPU: XLA takes three quarters of its memory unless it is told otherwise.
SHARED_MEMORY = 0.9

# How chips of a host are arranged when so many are given to one process; the first two numbers of libtpu's bounds.
TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one worker process runs.

    Attributes:
      cores: that it may use; empty for all.
      environment: variables that show it its devices alone.
    """

    cores: frozenset[int]
    environment: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Machine:
    """What there is to divide.

    Attributes:
      cores: numbers of those that this process may use.
      gpus: as CUDA_VISIBLE_DEVICES names them.
      tpus: numbers of the chips of this host.
    """

    cores: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    tpus: tuple[str, ...] = ()

    @property
    def accelerators(self) -> tuple[str, ...]:
        """GPUs, or else TPU chips."""
        return self.gpus or self.tpus


def find_machine(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Machine:
    """Returns what this process may use of its machine.

    Args:
      environment: whose CUDA_VISIBLE_DEVICES, TPU_VISIBLE_CHIPS and JAX_PLATFORMS count.
      root: the root of the file system in which device files are looked for.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    if environment.get("JAX_PLATFORMS") == "cpu":
        return Machine(tuple(cores))
    gpus, tpus = environment.get("CUDA_VISIBLE_DEVICES"), environment.get("TPU_VISIBLE_CHIPS")
    if gpus is None:
        gpus = ",".join(map(str, range(len(list((root / "proc/driver/nvidia/gpus").glob("*"))))))
    if tpus is None:
        dev = root / "dev"
        chips = [*dev.glob("accel*"), *(path for path in dev.glob("vfio/*") if re.fullmatch(r"\d+", path.name))]
        tpus = ",".join(map(str, range(len(chips))))
    return Machine(tuple(cores), _split(gpus), _split(tpus))


def divide(machine: Machine, workers: int | None, devices_each: int = 1) -> list[Slot]:
    """Returns the slots of a machine's worker processes.

    Args:
      machine: to divide.
      workers: how many; None for one for every `devices_each` accelerators, or for every core where there are none.
      devices_each: that a job takes.

    Raises:
      InputError: a worker would have fewer accelerators than a job takes, or a number that chips cannot be given in.
    """
    devices = machine.accelerators
    if not devices:
        workers = workers or len(machine.cores)
        return [Slot(cores, {}) for cores in _divide_cores(machine.cores, workers)]
    if workers is None:
        workers = max(len(devices) // devices_each, 1)
    share = max(len(devices) // workers, 1)
    if share < devices_each:
        raise InputError(
            f"--workers {workers}: each would have {share} of this machine's {len(devices)} devices, and a job takes "
            f"{devices_each}; choose at most {max(len(devices) // devices_each, 1)} workers"
        )
    groups = [tuple(devices[(i * share + j) % len(devices)] for j in range(share)) for i in range(workers)]
    each = -(-workers * share // len(devices))  # processes to a device
    show = _show_gpus if machine.gpus else _show_tpus
    cores = _divide_cores(machine.cores, workers)
    return [Slot(own, show(group, each)) for own, group in zip(cores, groups, strict=True)]


def _divide_cores(cores: Sequence[int], workers: int) -> list[frozenset[int]]:
    """Returns each worker's cores: an equal share, or one core in turn when there are more workers than cores.

    Processes that share cores slow each other down, and the number of visible cores changes the last bits of results.
    """
    share = max(len(cores) // workers, 1)
    return [frozenset(cores[(i * share + j) % len(cores)] for j in range(share)) for i in range(workers)]


def _show_gpus(group: Sequence[str], each: int) -> dict[str, str]:
    shown = {"CUDA_VISIBLE_DEVICES": ",".join(group)}
    return shown if each == 1 else shown | {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{SHARED_MEMORY / each:.3f}"}


def _show_tpus(group: Sequence[str], each: int) -> dict[str, str]:
    if each > 1:
        raise InputError("--workers: a TPU chip serves one process; choose at most one worker for each chip")
    if len(group) not in TPU_BOUNDS:
        raise InputError(f"--workers: {len(group)} chips cannot be given to one process; choose 1, 2, 4 or 8 for each")
    return {
        "TPU_VISIBLE_CHIPS": ",".join(group),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": TPU_BOUNDS[len(group)],
        "TPU_PROCESS_BOUNDS": "1,1,1",
    }


def _split(names: str) -> tuple[str, ...]:
    """Returns the names in a list; CUDA takes what follows an unknown one, such as -1, for not there."""
    found = [name.strip() for name in names.split(",")]
    stop = next((i for i, name in enumerate(found) if name in ("", "-1", "NoDevFiles")), len(found))
    return tuple(found[:stop])
