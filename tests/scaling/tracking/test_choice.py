"""Trackers by name: what is unknown, not installed or cannot write there is said before anything runs."""

import pytest
from etils import epath

from scaling.specs.base import InputError
from scaling.tracking import CurveFile, check_mirror, make_tracker


def test_unknown_names_are_refused_with_the_nearest(store):
    with pytest.raises(InputError, match="--tracker wandbb: there is no such tracker; did you mean 'wandb'"):
        make_tracker(["jsonl", "wandbb"], store)
    assert isinstance(make_tracker([], store), CurveFile)


def test_a_missing_package_is_said_before_anything_runs(store, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs tensorboardX, which is not installed; pip install 'scaling\[tens"):
        check_mirror("tensorboard", store)


def test_files_that_are_appended_to_need_a_disk(store):
    store.path = epath.Path("gs://bucket/store")
    with pytest.raises(
        InputError, match=r"jsonl appends to files, which 'gs://bucket/store' does not allow; choose wa"
    ):
        check_mirror("jsonl", store)
    check_mirror("wandb", store)
