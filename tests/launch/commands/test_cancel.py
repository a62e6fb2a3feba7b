"""What is at work on a store is ended from elsewhere: it saves, and its machines are let go."""

import signal
import subprocess
import sys
import time

import pytest

from launch.coordination.launches import begin_launch, is_cancelled, note_allocations, read_launches
from launch.coordination.presence import identify
from scaling.store import attempts
from scaling.store.store import Store


@pytest.mark.slow
def test_a_run_is_cancelled_from_elsewhere_and_saves(here, scaling, study_file):
    small = ("--set", "data.size=100", "--set", "num_seeds=1", "--set", "num_steps=3000000")
    words = ("run", study_file, "--store", "store", "--workers", 1, *small, "--checkpoint-steps", 500_000)
    launcher = scaling.start(*words, "--lease-seconds", 3)
    store = Store(scaling.folder / "store")
    deadline = time.monotonic() + 60
    while not any(path.read_text() for path in store.path.glob("cells/*/curve.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = here.json("cancel", "store")
    (launch,) = read_launches(store)
    assert done["cancelled"] == [launch.name]
    assert done["workers_left"] == []
    _, errors = launcher.communicate(timeout=30)
    assert launcher.returncode == 75, errors
    last = [attempts.read_attempts(path.parent)[-1].outcome for path in store.path.glob("cells/*/attempts.jsonl")]
    assert "interrupted" in last


def test_cancel_ends_the_allocations_of_detached_launches(here, store):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    launch = begin_launch(store, "local")
    note_allocations(store, launch.name, [identify(sleeper.pid).handle])
    done = here.json("cancel", "store", "--now")
    assert done["allocations_ended"] == 1
    assert sleeper.wait(10) == -signal.SIGTERM
    assert is_cancelled(store, launch.name)
    assert here.json("cancel", "store")["cancelled"] == []


def test_a_finished_store_has_nothing_to_cancel(here, finished):
    assert [launch.name for launch in read_launches(finished)]
    before = sorted((here.folder / "store").rglob("*"))
    done = here("cancel", "store")
    assert (done.returncode, done.stdout) == (0, "nothing is running on store, and all of its cells are complete\n")
    document = here.json("cancel", "store")
    assert (document["cancelled"], document["allocations_ended"], document["workers_left"]) == ([], 0, [])
    assert sorted((here.folder / "store").rglob("*")) == before


def test_a_launch_that_may_still_begin_is_told_though_nothing_runs(here, finished):
    next(finished.path.glob("cells/*/record.json")).unlink()
    assert (
        "nothing is running on store; 1 launches that could still begin are cancelled" in here("cancel", "store").stdout
    )
    assert here("cancel", "store").stdout == "nothing is running on store\n"


def test_a_launch_that_is_not_there_cannot_be_cancelled(here, store):
    done = here("cancel", "store", "--launch", "nothing")
    assert done.returncode == 2
    assert "no such launch" in done.stderr
