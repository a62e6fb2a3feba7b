"""Claims of the table of chips: what is not known is None, and peaks are of one of JAX's devices."""

import os
from types import SimpleNamespace

import jax
import pytest

from scaling.devices.hardware import ALIASES, CHIPS, GIB, chip_of, device_memory, find_chip, mfu, peak_flops
from scaling.specs.base import InputError


def test_an_unknown_device_or_dtype_has_no_peak_and_no_mfu() -> None:
    assert chip_of("cpu") is None
    assert peak_flops("cpu", "float32") is None
    assert peak_flops("Tesla V100-SXM2-16GB", "bfloat16") is None
    assert mfu(1.0, 1.0, 1, "NVIDIA Imaginary", "bfloat16") is None


def test_a_device_has_its_share_of_its_chip() -> None:
    assert peak_flops("TPU v5 lite", "bfloat16") == 197e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "float32") == 494.7e12
    assert peak_flops("TPU v2", "bfloat16") == 23e12
    assert find_chip("v3").device_bytes == int(15.48 * GIB)
    assert find_chip("tpu7x").device_bytes < find_chip("tpu7x").memory_bytes / 2


def test_mfu_is_that_of_palm() -> None:
    assert mfu(238.3e3, 3.277734806784e12, 6144, "TPU v4", "bfloat16") == pytest.approx(0.4623, abs=5e-5)


def test_names_and_kinds_of_devices_are_unique_and_aliases_lead_somewhere() -> None:
    names = [chip.name for chip in CHIPS]
    kinds = [kind for chip in CHIPS for kind in chip.device_kinds]
    assert len(set(names)) == len(names)
    assert len(set(kinds)) == len(kinds)
    assert set(ALIASES.values()) <= set(names)
    assert not set(ALIASES) & set(names)


def test_every_chip_multiplies_halves_faster_than_floats_and_is_no_typing_error() -> None:
    for chip in CHIPS:
        half = chip.peak_flops.get("bfloat16", chip.peak_flops.get("float16", 0.0))
        assert 1 <= half / chip.peak_flops["float32"] < 10
        assert 4e13 < half < 3e15
        assert 15 * GIB < chip.memory_bytes < 200 * GIB
        assert chip.device_bytes * chip.devices_per_chip <= chip.memory_bytes


def test_a_chip_is_found_by_any_of_its_names_at_ones_own_price() -> None:
    assert find_chip("A100") == find_chip("a100-40gb") == chip_of("NVIDIA A100-SXM4-40GB")
    assert find_chip("h100", price_per_hour=2.0).price_per_hour == 2.0
    assert find_chip("h100").price_per_hour != 2.0


def test_an_unknown_chip_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="--chip h10: there is no such chip in the table; did you mean 'h100'"):
        find_chip("h10")


def test_slices_are_named_by_cores_or_chips_and_two_cores_may_be_one_device() -> None:
    tpus = {chip.name: chip for chip in CHIPS if chip.slices is not None}
    assert {name for name, chip in tpus.items() if chip.slices and chip.slices.named_by_cores} == {
        "v2", "v3", "v4", "v5p",
    }  # fmt: skip
    assert {name for name, chip in tpus.items() if chip.is_megacore} == {"v4", "v5p"}
    assert not find_chip("h100").is_megacore


def test_there_are_slices_of_the_sizes_of_the_table_and_of_whole_cubes() -> None:
    slices = find_chip("v4").slices
    assert slices is not None
    assert [size for size in (0, 1, 4, 8, 12, 32, 64, 96, 128, 4096, 4160) if slices.has(size)] == [
        4, 8, 32, 64, 128, 4096,
    ]  # fmt: skip


def test_the_devices_of_a_cpu_share_the_memory_of_the_machine() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert device_memory() == whole // len(jax.devices())


def test_a_devices_own_limit_comes_before_the_table() -> None:
    def device(stats: dict[str, int] | None, kind: str) -> SimpleNamespace:
        return SimpleNamespace(platform="gpu", device_kind=kind, memory_stats=lambda: stats)

    assert device_memory(device({"bytes_limit": 7}, "NVIDIA H200")) == 7
    assert device_memory(device(None, "NVIDIA H200")) == 141_000_000_000
    assert device_memory(device(None, "NVIDIA Imaginary")) is None
