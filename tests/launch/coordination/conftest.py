"""Leases on a bare store, watched by a clock that tests move."""

import pytest

from launch.coordination.leases import Leases
from launch.coordination.presence import Observer
from tests.launch.coordination.watching import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


@pytest.fixture
def leases(bare_store, clock) -> Leases:
    """Leases of an empty store, whose observer has a clock of its own."""
    return Leases(bare_store, Observer(bare_store, clock))
