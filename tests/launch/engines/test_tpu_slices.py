"""Slices of TPUs by Google's names: what a name means, which there are, and what is no slice."""

import pytest

from launch.engines.tpu_slices import GENERATIONS, find_slice, price_of
from scaling.devices.hardware import CHIPS, CUBE
from scaling.specs.base import InputError


def test_every_size_has_whole_hosts_and_its_name_leads_back_to_it():
    for generation in GENERATIONS:
        for chips in (*generation.slices.sizes, *range(CUBE, generation.slices.most_in_cubes + 1, CUBE)):
            name = f"{generation.prefix}-{chips * (2 if generation.prefix in ('v2', 'v3', 'v4', 'v5p') else 1)}"
            found = find_slice(name)
            assert (found.accelerator_type, found.chips) == (name, chips)
            assert found.hosts * found.chips_per_host == chips
            if found.topology:
                assert find_slice(generation.chip_name, found.topology).chips == chips


def test_every_tpu_of_the_table_of_chips_is_offered_and_nothing_else_has_slices():
    assert [generation.chip_name for generation in GENERATIONS] == [chip.name for chip in CHIPS if chip.slices]


@pytest.mark.parametrize(
    ("name", "chips", "topology", "hosts"),
    [
        ("v2-32", 16, "", 4),  # its arrangement is left to Google
        ("v4-16", 8, "2x2x2", 2),
        ("v4-384", 192, "", 48),
        ("v5litepod-8", 8, "2x4", 1),
        ("v5litepod-16", 16, "4x4", 4),
        ("v5p-256", 128, "4x4x8", 32),
        ("tpu7x-8", 8, "2x2x2", 2),
    ],
)
def test_a_name_means_chips_their_arrangement_and_hosts(name, chips, topology, hosts):
    found = find_slice(name)
    assert (found.chips, found.topology, found.hosts) == (chips, topology, hosts)


@pytest.mark.parametrize(
    ("accelerator", "topology", "message"),
    [
        ("v4-12", "", "v4's number counts cores; the nearest is 'v4-"),
        ("v5litepod-512", "", "counts chips; the nearest is 'v5litepod-256'"),
        ("v6e", "", "says no size; give one, as 'v6e-4'"),
        ("v5litpod-8", "", "did you mean 'v5litepod'?"),
        ("v3", "4x4", "v3 comes by accelerator type only: v3-8"),
        ("v5p", "4x4x5", "choose one of 2x2x1, 2x2x2, 2x2x4, 2x4x4, or three multiples of 4"),
        ("v6e", "4x4x4", "does not exist for v6e; choose one of 16x16, 1x1"),
        ("v6e-8", "4x4", "has 16 chips, which is v6e-16"),
    ],
)
def test_what_is_no_slice_is_refused_with_what_there_is(accelerator, topology, message):
    with pytest.raises(InputError) as refusal:
        find_slice(accelerator, topology)
    assert message in str(refusal.value)


def test_a_price_is_ones_own_or_the_lists_or_not_known():
    assert price_of(find_slice("v5e-8"), 2.5) == (2.5, "yours")
    price, source = price_of(find_slice("v5e-8"), None)
    assert price == 1.2
    assert source.startswith("the list's of ")
    assert price_of(find_slice("tpu7x-8"), None) == (None, "not known; give price_per_chip_hour")
