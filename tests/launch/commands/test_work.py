"""`scaling work`: what the machines of an engine run, while there is something left for them."""

import contextlib
import shutil

import pytest

from launch.coordination.launches import begin_launch, cancel_launch
from launch.progress import Ended

FAILED = Ended({"a": "ok", "b": "failed"}, stopped=False)


@pytest.fixture
def trained_here(monkeypatch) -> list[tuple]:
    """The calls to train, in place of training."""
    calls: list[tuple] = []
    monkeypatch.setattr("launch.commands.work.find_slots", lambda options: [])
    monkeypatch.setattr("launch.commands.work.start_server", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        "launch.commands.work.run_cells", lambda *call, waits, server: calls.append((*call, waits)) or FAILED
    )
    return calls


def test_what_is_missing_is_trained_and_others_cells_are_not_waited_for(here, store, trained_here):
    launch = begin_launch(store, "local").name
    done = here("work", "store", f"--launch={launch}", "--retries=2")
    ((cells, _, _, options, name, waits),) = trained_here
    assert (len(cells), options.retries, name, waits) == (12, 2, launch, False)
    assert done.returncode == 1  # a cell has failed


@pytest.mark.parametrize(
    ("ended", "status"), [(Ended({"a": "diverged"}, stopped=False), 0), (Ended({"a": "failed"}, stopped=True), 75)]
)
def test_the_status_says_whether_to_come_again(here, store, monkeypatch, ended, status):
    monkeypatch.setattr("launch.commands.work.find_slots", lambda options: [])
    monkeypatch.setattr("launch.commands.work.start_server", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr("launch.commands.work.run_cells", lambda *_, waits, server: ended)
    assert here("work", "store", "--launch=x").returncode == status


def test_a_cancelled_launch_and_a_complete_store_leave_nothing_to_do(here, store, trained, trained_here):
    launch = begin_launch(store, "local").name
    cancel_launch(store, launch)
    assert here("work", "store", f"--launch={launch}").returncode == 0
    shutil.copytree(trained, here.folder / "complete")
    assert here("work", "complete", "--launch=x").returncode == 0
    assert trained_here == []


def test_a_gang_is_one_worker(here, store):
    done = here("work", "store", "--launch=x", "--workers=2", "--distributed")
    assert (done.returncode, "processes that train together are one worker" in done.stderr) == (2, True)
