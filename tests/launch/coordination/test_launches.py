"""Launches: what was started on a store is known to everybody, in order, with what it was given."""

import pytest

from launch.coordination.launches import (
    begin_launch,
    cancel_launch,
    is_cancelled,
    note_allocations,
    read_allocations,
    read_launches,
)
from scaling.store.record import CorruptStoreError
from scaling.store.store import Store
from tests.places import ROOT


def test_a_launch_is_read_as_it_was_begun(bare_store):
    facts = {"settings": {"partition": "gpu"}, "allocations": 3, "flags": ("--retries=1",)}
    begun = begin_launch(bare_store, "slurm", **facts)
    (launch,) = read_launches(bare_store)
    assert launch == begun
    assert (launch.engine, launch.settings, launch.allocations, launch.flags) == ("slurm", *facts.values())


def test_launches_of_an_earlier_version_are_read():
    (launch,) = read_launches(Store(ROOT / "tests" / "golden" / "store"))
    assert (launch.engine, launch.allocations) == ("local", 1)
    assert launch.flags[0] == "--checkpoint-seconds=600.0"


def test_allocations_are_known_in_the_order_in_which_they_were_asked_for(bare_store):
    launch = begin_launch(bare_store, "local").name
    assert read_allocations(bare_store, launch) == []
    note_allocations(bare_store, launch, ["b", "a"])
    note_allocations(bare_store, launch, [])
    note_allocations(bare_store, launch, ["c"])
    assert read_allocations(bare_store, launch) == ["b", "a", "c"]


def test_one_launch_is_cancelled_and_no_other(bare_store):
    ended, other = (begin_launch(bare_store, "local").name for _ in range(2))
    cancel_launch(bare_store, ended)
    assert (is_cancelled(bare_store, ended), is_cancelled(bare_store, other)) == (True, False)


def test_a_damaged_launch_is_named_with_what_to_do(bare_store):
    launch = begin_launch(bare_store, "local").name
    (bare_store.path / "launches" / launch / "launch.json").write_text('{"name":')
    with pytest.raises(CorruptStoreError, match=rf"{launch}.*delete that launch's folder"):
        list(read_launches(bare_store))
