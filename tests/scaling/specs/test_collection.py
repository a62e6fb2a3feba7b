"""The collector of cycles rests for a while, and is as it was afterwards."""

import gc

import pytest

from scaling.specs import collection
from scaling.specs.collection import paused_collection


def test_it_rests_and_goes_on_also_after_an_error():
    assert gc.isenabled()
    with pytest.raises(ValueError, match="stop"), paused_collection():
        assert not gc.isenabled()
        raise ValueError("stop")
    assert gc.isenabled()


def test_one_that_was_off_stays_off():
    gc.disable()
    try:
        with paused_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_much_that_was_made_is_not_looked_through_again(monkeypatch):
    monkeypatch.setattr(collection, "MUCH", 1000)
    try:
        with paused_collection():
            kept = [[] for _ in range(2000)]
        assert gc.get_freeze_count() > 2000
        assert len(kept) == 2000
    finally:
        gc.unfreeze()
