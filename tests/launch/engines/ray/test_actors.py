"""Actors on machines: processes of a slice are numbered as the slice numbers its hosts."""

import importlib.util

import pytest

from launch.engines.ray.actors import Place, sort_hosts

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")


def test_processes_are_numbered_as_a_slice_numbers_its_hosts():
    places = [Place(rank, f"host{rank}", "") for rank in (2, 0, 1)]
    sorted_places, hosts = sort_hosts(places, ["c", "a", "b"])
    assert hosts == ["a", "b", "c"]
    assert [place.rank for place in sorted_places] == [0, 1, 2]
