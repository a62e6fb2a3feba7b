"""The local engine: crashes stay in their cell, and a run killed at any moment continues as if nothing had happened."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scaling.attempts import read_attempts
from scaling.record import Store

# What may differ between two runs of one cell.
TIMES = {"wall_seconds"}


def rows(store: Store) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in store.rows()]


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def num_records(store: Store) -> int:
    return len(list((store.path / "cells").glob("*/record.json")))


def workers_of(launcher: subprocess.Popen) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == launcher.pid:
                found.append(int(folder.name))
    return found


@pytest.fixture
def reference(scaling, study_file):
    """The toy study, run without disturbance."""
    assert scaling("run", study_file, "--store", "reference", "--workers", 2).returncode == 0
    return rows(Store.open(scaling.folder / "reference"))


def kill_and_continue(scaling, words, delays):
    """Kills a run after each delay, lets the last one finish, and returns how many kills found cells still to train."""
    early = 0
    for delay in delays:
        launcher = scaling.start("run", *words, "--workers", 2)
        time.sleep(delay)
        early += launcher.poll() is None
        launcher.kill()
        launcher.communicate()
    last = scaling("run", *words, "--workers", 2)
    assert last.returncode == 0, last.stderr
    return early


def check_equal_to_undisturbed(scaling, name, reference):
    store = Store.open(scaling.folder / name)
    assert rows(store) == reference
    for cell, record in store.records().items():
        ended = [a for a in read_attempts(store.cell_path(cell)) if a.outcome is not None]
        assert len(ended) <= 1, "a completed cell was trained again"
        assert record.cell == cell
    assert num_records(store) == len(store.records())


def test_a_run_killed_a_few_times_ends_like_an_undisturbed_one(scaling, study_file, reference):
    assert kill_and_continue(scaling, (study_file, "--store", "killed"), (1.0, 3.5, 5.0)) >= 2
    check_equal_to_undisturbed(scaling, "killed", reference)


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_ends_like_an_undisturbed_one(scaling, study_file):
    larger = ("--set", "num_seeds=12", "--set", "num_steps=8000")
    assert scaling("run", study_file, "--store", "reference", "--workers", 2, *larger).returncode == 0
    generator = random.Random(0)
    delays = [generator.uniform(0.2, 8.0) for _ in range(20)]
    assert kill_and_continue(scaling, (study_file, "--store", "killed", *larger), delays) >= 18
    check_equal_to_undisturbed(scaling, "killed", rows(Store.open(scaling.folder / "reference")))


def test_workers_do_not_outlive_a_killed_launcher(scaling, study_file):
    launcher = scaling.start("run", study_file, "--store", "store", "--workers", 2, "--set", "num_steps=3000000")
    wait_until(lambda: (scaling.folder / "store" / "cells").exists() and len(workers_of(launcher)) == 2)
    workers = workers_of(launcher)
    store = Store.open(scaling.folder / "store")
    wait_until(lambda: len(list((store.path / "cells").glob("*/attempts.jsonl"))) > 0)
    launcher.kill()
    launcher.communicate()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), seconds=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_once_keeps_what_is_complete_and_says_how_to_go_on(scaling, study_file, number):
    launcher = scaling.start("run", study_file, "--store", "store", "--workers", 1, "--set", "num_steps=30000")
    store = Store(scaling.folder / "store")
    wait_until(lambda: num_records(store) >= 1)
    launcher.send_signal(number)
    _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == 75
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    found = scaling.json("status", "store")
    assert not found["is_running"]
    assert 1 <= sum(one["done"] for one in found["series"]) < 12


def test_a_worker_that_dies_fails_its_cell_and_is_replaced(scaling, study_file):
    launcher = scaling.start("run", study_file, "--store", "store", "--workers", 1, "--set", "num_steps=20000")
    store = Store(scaling.folder / "store")
    wait_until(lambda: num_records(store) >= 1)
    os.kill(workers_of(launcher)[0], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert "11 of 12" not in errors
    found = scaling.json("status", "store")
    assert sum(one["failed"] for one in found["series"]) == 1
    assert sum(one["done"] for one in found["series"]) == 11
    logs = [path.read_text() for path in (scaling.folder / "store").rglob("attempts.jsonl")]
    assert any("ended with signal SIGKILL" in log for log in logs)
    again = scaling("run", study_file, "--store", "store", "--set", "num_steps=20000")
    assert again.returncode == 0, again.stderr
    assert num_records(store) == 12


def test_two_launchers_do_not_share_a_store(scaling, study_file):
    first = scaling.start("run", study_file, "--store", "store", "--workers", 1, "--set", "num_steps=300000")
    wait_until((scaling.folder / "store" / "cells").exists)
    assert scaling.json("status", "store")["is_running"]
    second = scaling("run", study_file, "--store", "store", "--set", "num_steps=300000")
    assert second.returncode == 2
    assert "in use by another `scaling run`" in second.stderr
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=20)


def test_workers_that_cannot_start_are_reported_once(scaling, study_file):
    broken = scaling.folder / "broken"
    broken.mkdir()
    (broken / "absl.py").write_text("raise ImportError('no absl here')")
    scaling.environment["PYTHONPATH"] = f"{broken}:{scaling.environment['PYTHONPATH']}"
    script = (
        "import sys; from launch.engines.local import run_cells; from scaling.record import Store\n"
        "from scaling.study import resolve_study\n"
        "study = resolve_study(sys.argv[1]); store = Store('store'); store.create(study.canonical_json())\n"
        "run_cells(study.cells, store, 2)"
    )
    done = subprocess.run(
        [scaling.prefix[0], "-c", script, str(study_file)],
        capture_output=True, text=True, check=False, cwd=scaling.folder, env=scaling.environment,
    )  # fmt: skip
    assert done.stderr.count("EngineError: a worker did not start") == 1
    assert "no absl here" in done.stderr


def test_a_store_that_turns_unwritable_ends_the_run_with_one_line(scaling, study_file):
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere")
        scaling.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *scaling.prefix]
    launcher = scaling.start("run", study_file, "--store", "store", "--workers", 2, "--set", "num_steps=20000")
    store = Store(scaling.folder / "store")
    wait_until(lambda: num_records(store) >= 1)
    for folder in (scaling.folder / "store" / "cells").iterdir():
        folder.chmod(0o555)
        for file in folder.iterdir():
            file.chmod(0o444)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 2
    assert "choose a folder that can be written" in errors
    assert "Traceback" not in errors
