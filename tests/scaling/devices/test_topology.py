"""Claims of described topologies: names mean what Google and NVIDIA mean, and steps compile for them as planned."""

import pytest

from scaling.devices.topology import parse_topology, run_described
from scaling.specs.base import InputError


@pytest.mark.parametrize(
    ("name", "num_devices", "layout"),
    [
        ("v2-8", 8, "2x2"),
        ("v3-32", 32, "4x4"),
        ("v4-8", 4, "2x2x1"),
        ("v4-64", 32, "2x4x4"),
        ("v5p-128", 64, "4x4x4"),
        ("v5e-1", 1, "1x1"),
        ("v5e-8", 8, "2x4"),
        ("v6e-256", 256, "16x16"),
        ("v5p:4x4x12", 192, "4x4x12"),
        ("tpu7x:2x2x1", 8, "2x2x1"),
        ("h100-8", 8, None),
        ("a100-80gb-16", 16, None),
        ("cpu-3", 3, None),
    ],
)
def test_names_mean_cores_or_chips_as_their_makers_do(name: str, num_devices: int, layout: str | None) -> None:
    found = parse_topology(name)
    assert (found.num_devices, found.layout) == (num_devices, layout)
    assert (found.chip is None) == name.startswith("cpu")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5e", "write v5e-256"),
        ("v5e-0", "is no topology"),
        ("v5e-12", "write it out, as in v5e:4x8"),
        ("v4-1", "which layout 0 chips have"),
        ("h100:2x4", "only TPUs have a layout"),
        ("v9-8", "--chip v9: there is no such chip"),
    ],
)
def test_what_is_no_topology_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_topology(name)


def test_only_tpus_are_compiled_for_by_their_own_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.devices.topology.has_libtpu", lambda: True)
    assert [parse_topology(name).compiler for name in ("v5e-8", "h100-8", "cpu-8")] == ["tpu", "cpu", "cpu"]
    monkeypatch.setattr("scaling.devices.topology.has_libtpu", lambda: False)
    assert parse_topology("v5e-8").compiler == "cpu"


def test_a_process_that_fails_says_how() -> None:
    with pytest.raises(
        RuntimeError, match=r"compiling for cpu-1 failed with status 1:\n(.*\n)*.*no attribute 'nothing'"
    ):
        run_described(parse_topology("cpu-1"), type("nothing", (), {"__module__": "scaling.devices.topology"}), None)
