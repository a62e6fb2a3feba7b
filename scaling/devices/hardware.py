"""Chips: peak FLOP/s by dtype, memory, bandwidth and price, and what share of the peak a run reached.

A run counts JAX's devices, which are not always chips: TPU v2, v3 and 7x show two devices a chip. Peaks and memory
that functions return are of one device.
"""

import dataclasses
import os
from typing import Any

from scaling.specs.base import InputError, suggest

GIB = 2**30

# The prices in the table are lists' on-demand prices in the United States as remembered, checked against no page, and
# two lists differ by up to three times. Whoever decides by them should give their own.
PRICES_DATED = "2025"


CUBE = 64  # chips of a rack of v4 and later, of which larger slices are made


@dataclasses.dataclass(frozen=True)
class Slices:
    """Which slices there are of a kind of TPU: chips that are joined by their own links.

    Attributes:
      dimensions: the dimensions of the grid that the chips are arranged in.
      named_by_cores: whether the number in a slice's name counts cores, two a chip; else it counts chips.
      sizes: numbers of chips that there are, besides multiples of `CUBE`.
      most_in_cubes: chips of the largest slice that is made of cubes; 0 where none is.
      chips_per_host: the chips per host of slices of several hosts.
      most_on_one_host: chips of the largest slice on one host.
    """

    dimensions: int
    named_by_cores: bool
    sizes: tuple[int, ...]
    most_in_cubes: int = 0
    chips_per_host: int = 4
    most_on_one_host: int = 4

    @property
    def named_units_per_chip(self) -> int:
        """What one chip adds to the number in a slice's name."""
        return 2 if self.named_by_cores else 1

    def has(self, num_chips: float) -> bool:
        """Returns whether there is a slice of so many chips."""
        is_cubes = 0 < num_chips <= self.most_in_cubes and num_chips % CUBE == 0
        return is_cubes or num_chips in self.sizes

    def layout(self, num_chips: int) -> str | None:
        """Returns how 2^k chips are arranged unless one asks for another way; None for other numbers.

        Sides are as equal as can be, ascending; four chips are flat.

        >>> flat, cube = Slices(2, False, ()), Slices(3, True, ())
        >>> flat.layout(8), flat.layout(256), cube.layout(4), cube.layout(32), cube.layout(192)
        ('2x4', '16x16', '2x2x1', '2x4x4', None)
        """
        if num_chips < 1 or num_chips & (num_chips - 1):
            return None
        power = num_chips.bit_length() - 1
        sides = sorted(2 ** ((power + side) // self.dimensions) for side in range(self.dimensions))
        return "x".join(map(str, sorted(sides, reverse=True) if 1 in sides else sides))


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip.

    Attributes:
      name: as users write it.
      device_kinds: what JAX calls its devices.
      peak_flops: FLOP/s by dtype, without sparsity. `float32` is what JAX multiplies float32 with unless told
        otherwise: one pass of bfloat16 on a TPU, TensorFloat-32 on NVIDIA's since the A100. A dtype that the chip has
        no units for is absent.
      memory_bytes: as sold.
      devices_per_chip: JAX's devices.
      usable_bytes: what XLA may fill, from libtpu 0.0.42's messages on programs that do not fit; None where not known.
      price_per_hour: US dollars, as of `PRICES_DATED`; None where not known.
      slices: the slices of TPUs; None for other chips.
    """

    name: str
    device_kinds: tuple[str, ...]
    peak_flops: dict[str, float]
    memory_bytes: int
    devices_per_chip: int = 1
    usable_bytes: int | None = None
    price_per_hour: float | None = None
    slices: Slices | None = None

    @property
    def is_megacore(self) -> bool:
        """Whether the cores that a TPU is named by act as one of JAX's devices."""
        return self.slices is not None and self.slices.named_by_cores and self.devices_per_chip == 1

    @property
    def device_bytes(self) -> int:
        """What one device may fill."""
        return (self.usable_bytes or self.memory_bytes) // self.devices_per_chip


def _tpu(peak: float) -> dict[str, float]:
    return {"bfloat16": peak, "float32": peak}


def _tensor_cores(half: float, tf32: float) -> dict[str, float]:
    return {"bfloat16": half, "float16": half, "float32": tf32}


def _gib(size: float) -> int:
    return int(size * GIB)


# Sizes of slices: cloud.google.com/tpu/docs, "TPU configurations" and the pages on each version.
_V2 = Slices(2, True, (4, 16, 64, 128, 256))
_V3 = Slices(2, True, (4, 16, 32, 64, 128, 256, 512, 1024))
_FLAT = Slices(2, False, (1, 4, 8, 16, 32, 64, 128, 256), most_on_one_host=8)
_SMALL = (4, 8, 16, 32)  # that are less than a cube

# Peaks and memory of TPUs: cloud.google.com/tpu/docs, a page for each version; device kinds: libtpu's own topologies.
# Of NVIDIA's: their data sheets, halved where they quote sparsity; the RTX 4090's with float32 accumulation, from the
# Ada white paper.
CHIPS: tuple[Chip, ...] = (
    Chip("v2", ("TPU v2",), _tpu(46e12), _gib(16), 2, 2 * _gib(7.48), 1.125, _V2),
    Chip("v3", ("TPU v3",), _tpu(123e12), _gib(32), 2, 2 * _gib(15.48), 2.00, _V3),
    Chip("v4", ("TPU v4",), _tpu(275e12), _gib(32), 1, _gib(30.75), 3.22, Slices(3, True, _SMALL, 4096)),
    Chip("v5e", ("TPU v5 lite", "TPU v5e"), _tpu(197e12), _gib(16), 1, _gib(15.75), 1.20, _FLAT),
    Chip(
        "v5p",
        ("TPU v5", "TPU v5p"),
        _tpu(459e12),
        _gib(95.74),
        1,
        _gib(95.74),
        4.20,
        Slices(3, True, _SMALL, 6144),
    ),
    Chip("v6e", ("TPU v6 lite", "TPU v6e"), _tpu(918e12), _gib(32), 1, _gib(31.25), 2.70, _FLAT),
    Chip(
        "tpu7x",
        ("TPU7x",),
        _tpu(2307e12),
        _gib(192),
        2,
        2 * _gib(94.75),
        None,
        Slices(3, False, _SMALL, 9216),
    ),
    Chip(
        "v100-16gb",
        ("Tesla V100-SXM2-16GB", "Tesla V100-PCIE-16GB"),
        {"float16": 125e12, "float32": 15.7e12},
        _gib(16),
        price_per_hour=2.48,
    ),
    Chip(
        "v100-32gb",
        ("Tesla V100-SXM2-32GB", "Tesla V100-SXM3-32GB", "Tesla V100-PCIE-32GB"),
        {"float16": 125e12, "float32": 15.7e12},
        _gib(32),
    ),
    Chip(
        "a100-40gb",
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB", "A100-SXM4-40GB", "A100-PCIE-40GB"),
        _tensor_cores(312e12, 156e12),
        _gib(40),
        price_per_hour=3.67,
    ),
    Chip(
        "a100-80gb",
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
        _tensor_cores(312e12, 156e12),
        _gib(80),
        price_per_hour=5.07,
    ),
    Chip(
        "h100",
        ("NVIDIA H100 80GB HBM3",),
        _tensor_cores(989.4e12, 494.7e12),
        _gib(80),
        price_per_hour=11.06,
    ),
    Chip("h100-pcie", ("NVIDIA H100 PCIe",), _tensor_cores(756e12, 378e12), _gib(80)),
    Chip("h200", ("NVIDIA H200",), _tensor_cores(989.4e12, 494.7e12), 141_000_000_000),
    Chip("b200", ("NVIDIA B200",), _tensor_cores(2250e12, 1125e12), 180_000_000_000),
    Chip("l4", ("NVIDIA L4",), _tensor_cores(121e12, 60.5e12), _gib(24), price_per_hour=0.71),
    Chip("rtx4090", ("NVIDIA GeForce RTX 4090",), _tensor_cores(165.2e12, 82.6e12), _gib(24)),
)

# Names that leave the memory open mean the larger chip's smaller sister, which was there first.
ALIASES = {"v100": "v100-16gb", "a100": "a100-40gb", "h100-sxm": "h100", "v7": "tpu7x", "ironwood": "tpu7x"}


def find_chip(name: str, price_per_hour: float | None = None) -> Chip:
    """Returns a chip by its name, at one's own price if given, in dollars an hour.

    >>> find_chip("v5e").peak_flops["bfloat16"] / 1e12
    197.0

    Raises:
      InputError: there is no such chip in the table.
    """
    known = {chip.name: chip for chip in CHIPS}
    lowered = name.lower()
    chip = known.get(ALIASES.get(lowered, lowered))
    if chip is None:
        raise InputError(f"--chip {name}: there is no such chip in the table; {suggest(lowered, [*known, *ALIASES])}")
    return chip if price_per_hour is None else dataclasses.replace(chip, price_per_hour=price_per_hour)


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip that a kind of device belongs to; None for one that the table does not know."""
    return next((chip for chip in CHIPS if device_kind in chip.device_kinds), None)


def price_per_hour(device_kind: str, num_devices: int) -> float | None:
    """Returns the list price of devices in dollars an hour; None where that of their chip is not known.

    >>> price_per_hour("TPU v5 lite", 8), price_per_hour("cpu", 8)
    (9.6, None)
    """
    chip = chip_of(device_kind)
    if chip is None or chip.price_per_hour is None:
        return None
    return chip.price_per_hour * num_devices / chip.devices_per_chip


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Returns the FLOP/s of one device; None where the kind, or this dtype on it, is not known.

    >>> peak_flops("TPU v3", "bfloat16") / 1e12, peak_flops("a toaster", "bfloat16")
    (61.5, None)
    """
    chip = chip_of(device_kind)
    peak = chip.peak_flops.get(dtype) if chip else None
    return None if chip is None or peak is None else peak / chip.devices_per_chip


def mfu(units_per_second: float, flops_per_unit: float, num_devices: int, device_kind: str, dtype: str) -> float | None:
    """Returns the share of the peak that a model's own FLOPs make up; None where the peak is not known.

    Args:
      units_per_second: examples or tokens, on all devices together.
      flops_per_unit: the training FLOPs of a unit, as counted from the layers; nothing recomputed.
      num_devices: JAX's.
      device_kind: the device kind of each.
      dtype: that matrices are multiplied in.

    >>> round(mfu(238.3e3, 3.277734806784e12, 6144, "TPU v4", "bfloat16"), 4)
    0.4623
    """
    peak = peak_flops(device_kind, dtype)
    return None if peak is None else model_flops_utilization(units_per_second, flops_per_unit, num_devices, peak)


def device_memory(device: Any = None) -> int | None:
    """Returns the bytes that one device may fill; None where nobody knows.

    The device's own limit comes first, then the table's. Devices of a CPU share the machine's memory equally.

    Args:
      device: one of JAX's; None for the first of this process.
    """
    import jax  # the table is read where JAX is not needed

    device = jax.local_devices()[0] if device is None else device
    stats = device.memory_stats() or {}
    if stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count("cpu")
    chip = chip_of(device.device_kind)
    return None if chip is None else chip.device_bytes


def model_flops_utilization(
    tokens_per_second: float, flops_per_token: float, num_chips: int, peak_flops: float
) -> float:
    """Returns MFU: the share of the chips' peak that the FLOPs a model needs make up (Chowdhery et al. 2022).

    `peak_flops` is of one chip, in FLOP/s. PaLM 540B on 6,144 TPU v4 at 238.3 thousand tokens a second:

    >>> round(model_flops_utilization(238.3e3, 3.277734806784e12, 6144, 275e12), 4)
    0.4623
    """
    return tokens_per_second * flops_per_token / (num_chips * peak_flops)
