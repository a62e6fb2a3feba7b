"""Described topologies, `v5e-256` or `h100-8`, and training steps compiled for them without the hardware.

TPUs are compiled for by their own compiler where libtpu is installed (`pip install libtpu` of the version that
`jax[tpu]` asks for); no TPU need be there. All else is compiled by XLA for as many virtual CPU devices: how a program
is divided and what it communicates is then an estimate, its memory a rough one.

The number of CPU devices is fixed when JAX starts, so a compilation has a process of its own.
"""

import importlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from scaling.devices.hardware import Chip, find_chip
from scaling.specs.base import InputError

# What libtpu asks the machine about where it runs; the answers do not matter to a described topology.
LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

CHILD_FAILED_INPUT = 2


class Topology(NamedTuple):
    """Devices that may not be there.

    Attributes:
      name: as written.
      chip: None for CPU cores.
      num_devices: JAX's.
      layout: the layout of a TPU's chips, `4x4`; None for the others.
    """

    name: str
    chip: Chip | None
    num_devices: int
    layout: str | None

    @property
    def compiler(self) -> str:
        """Who compiles for it on this machine: `tpu`, or `cpu` for an estimate."""
        return "tpu" if self.layout and has_libtpu() else "cpu"


def has_libtpu() -> bool:
    """Returns whether the TPUs' compiler is installed."""
    return bool(os.environ.get("TPU_LIBRARY_PATH")) or importlib.util.find_spec("libtpu") is not None


def parse_topology(name: str) -> Topology:
    """Returns a topology by its name: CHIP-NUMBER as Google names slices, CHIP:LAYOUT, CHIP-NUMBER of GPUs, cpu-NUMBER.

    >>> parse_topology("v5e-256").layout, parse_topology("v4-8").num_devices, parse_topology("h100-8").num_devices
    ('16x16', 4, 8)

    Raises:
      InputError: no such chip, or no slice of this size.
    """
    wrong = InputError(f"--topology {name}: is no topology; write v5e-256, v5p:4x4x8, h100-8 or cpu-8")
    if match := re.fullmatch(r"(\w+):(\d+(?:x\d+)+)", name):
        chip = find_chip(match.group(1))
        if chip.slices is None:
            raise InputError(f"--topology {name}: only TPUs have a layout; write {chip.name}-8")
        num_chips = math.prod(map(int, match.group(2).split("x")))
        return Topology(name, chip, num_chips * chip.devices_per_chip, match.group(2))
    match = re.fullmatch(r"(\w[\w-]*?)-(\d+)", name)
    if not match or int(match.group(2)) < 1:
        raise wrong
    kind, number = match.group(1), int(match.group(2))
    if kind == "cpu":
        return Topology(name, None, number, None)
    chip = find_chip(kind)
    if chip.slices is None:
        return Topology(name, chip, number, None)
    num_chips, odd = divmod(number, chip.slices.named_units_per_chip)
    layout = chip.slices.layout(num_chips)
    if odd or layout is None:
        raise InputError(
            f"--topology {name}: which layout {num_chips} chips have is not known; write it out, as in {chip.name}:4x8"
        )
    return Topology(name, chip, num_chips * chip.devices_per_chip, layout)


def topology_devices(topology: Topology) -> list[Any]:
    """Returns the devices to make a mesh of, in a process that `run_described` started.

    Raises:
      InputError: the TPUs' compiler knows no such slice.
    """
    import jax
    from jax.experimental import topologies

    if topology.compiler == "cpu":
        return list(jax.devices("cpu"))
    assert topology.chip is not None  # noqa: S101  (what has a layout has a chip)
    kind = topology.chip.name
    # libtpu's default for v4 keeps a chip's cores apart.
    options: dict[str, Any] = {"chip_config_name": "megacore"} if topology.chip.is_megacore else {}
    if set(topology.layout or "") <= {"1", "x"}:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        described = topologies.get_topology_desc(f"{kind}:{topology.layout}", platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).partition(":")[2].strip().splitlines()[0]
        raise InputError(f"--topology {topology.name}: {said}; choose a layout that exists") from None
    return list(described.devices)


def run_described(
    topology: Topology, function: Callable[[Topology, Any], Any], payload: Any, timeout_seconds: float = 3600.0
) -> Any:
    """Returns what a function says, called in a process whose JAX can describe a topology.

    Args:
      topology: to describe.
      function: of a module, (topology, payload) → JSON-like value; it finds the devices with `topology_devices`.
      payload: JSON-like.
      timeout_seconds: after which the process is ended.

    Raises:
      InputError: the function raised one.
      RuntimeError: the process failed otherwise; with the end of what it wrote.
      subprocess.TimeoutExpired: it took too long.
    """
    request = {"topology": topology.name, "where": [function.__module__, function.__qualname__], "payload": payload}
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"from {__name__} import _answer; _answer()"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=_environment(topology),
        timeout=timeout_seconds,
        check=False,
    )
    if done.returncode == CHILD_FAILED_INPUT:
        raise InputError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-20:])
        raise RuntimeError(f"compiling for {topology.name} failed with status {done.returncode}:\n{tail}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _environment(topology: Topology) -> dict[str, str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    if topology.compiler == "tpu":
        return environment | LIBTPU_ENVIRONMENT | {"JAX_NUM_CPU_DEVICES": "1"}
    return environment | {"JAX_NUM_CPU_DEVICES": str(topology.num_devices)}


def _answer() -> None:
    """Reads a request from standard input, and prints the answer as the last line."""
    request = json.load(sys.stdin)
    module, name = request["where"]
    try:
        function = getattr(importlib.import_module(module), name)
        answer = function(parse_topology(request["topology"]), request["payload"])
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(CHILD_FAILED_INPUT)
    print(json.dumps(answer))


# --- a training step ------------------------------------------------------------------------------------------------
