"""What a person sees of a sweep that is at work, and how it is ended: status, logs and cancel."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.coordination.launches import begin_launch, is_cancelled, note_allocations, read_launches
from launch.coordination.presence import Presence, beat_path, identify
from scaling.store import attempts
from scaling.store.store import Store


@pytest.fixture
def store(trained, tmp_path) -> Store:
    """A store of the toy study, all of it to be done."""
    store = Store(tmp_path / "store")
    study = (Path(trained) / "study.json").read_text()
    store.create(study.strip())
    for path in Path(trained).glob("cells/*/cell.json"):
        store.write_cell(path.read_text())
    return store


def names(store: Store) -> list[str]:
    return sorted(path.parent.name for path in store.path.glob("cells/*/cell.json"))


def test_a_worker_is_shown_with_its_place_progress_throughput_cost_and_last_error(here, store, monkeypatch):
    monkeypatch.setenv("SCALING_PLACE", "slurm 12_3")
    cell = names(store)[0]
    folder = store.cell_path(cell)
    attempts.end_attempt(folder, attempts.start_attempt(folder), "interrupted", "Traceback\nlost: the node")
    attempts.start_attempt(folder)
    with Presence(store, "a-launch") as presence:
        presence.begin(cells=(cell,), steps={cell: (0, 0)}, device_kind="TPU v4", num_devices=4)
        presence.tell({cell: (250, 1000)}, 12.5)
        presence.beat()
        found = here.json("status", "store")
        text = here("status", "store").stdout
    (job,) = found["jobs"]
    assert found["is_running"]
    assert (job["state"], job["place"], job["launch"]) == ("training", "slurm 12_3", "a-launch")
    assert (job["pid"], job["cells"], job["attempt"]) == (os.getpid(), [cell], 2)
    assert (job["progress"], job["steps_per_second"], job["last_error"]) == (0.25, 12.5, "lost: the node")
    assert job["dollars"] == pytest.approx(4 * 3.22 * job["seconds"] / 3600)
    assert found["dollars_spent"] == pytest.approx(job["dollars"])
    assert sum(one["running"] for one in found["series"]) == 1
    for words in ("slurm 12_3", "25%", "12.5", "lost: the node"):
        assert words in text


def test_a_worker_whose_process_has_ended_without_a_word_is_lost(here, store):
    with Presence(store) as presence:
        presence.begin(cells=(names(store)[0],))
        text = beat_path(store, presence.worker).read_text()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    gone = identify(ended.pid).canonical_json()
    ended.wait()
    spec = json.loads(text) | {"worker": "gone", "identity": json.loads(gone)}
    beat_path(store, "gone").write_text(json.dumps(spec))
    found = here.json("status", "store")
    assert [job["state"] for job in found["jobs"]] == ["lost"]
    assert not found["is_running"]
    assert sum(one["running"] for one in found["series"]) == 0


def test_logs_show_what_a_worker_wrote_while_it_was_at_a_cell_and_nothing_else(here, trained):
    (here.folder / "store").symlink_to(trained)
    store = Store.open(trained)
    one, other = sorted(store.records())[:2]
    lines = here.json("logs", "store", one)["parts"][0]["lines"]
    assert lines[0].startswith("=== scaling job begins")
    assert one in lines[0].split()
    assert any(line == f"=== scaling job ends {one} ok" for line in lines)
    shown = here("logs", "store", one[:6]).stdout
    assert "attempt 1 on" in shown
    assert "no cell has failed" in here("logs", "store").stdout
    for wrong in ("zzz", ""):
        done = here("logs", "store", wrong)
        assert done.returncode == 2
        assert "begin so" in done.stderr
    assert other != one


def test_why_cells_failed_is_one_line_each(here, store):
    folder = store.cell_path(names(store)[0])
    attempts.end_attempt(folder, attempts.start_attempt(folder), "failed", "Traceback\n  …\nValueError: no luck")
    (row,) = here.json("logs", "store")["failures"]
    assert (row["cell"], row["error"]) == (names(store)[0], "ValueError: no luck")


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


def test_a_launch_that_is_not_there_cannot_be_cancelled(here, store):
    done = here("cancel", "store", "--launch", "nothing")
    assert done.returncode == 2
    assert "no such launch" in done.stderr
