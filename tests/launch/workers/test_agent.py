"""The agent: crashes stay in their cell, a killed run continues as if nothing had happened, agents share a store."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from scaling.store.attempts import read_attempts
from scaling.store.columns import TIMES
from scaling.store.store import Store
from tests.launch.waiting import wait_until

# Members of a population equal solo runs but for rounding, and who is together depends on what was left.
ONE_BY_ONE = ("--execution", "population=1")


def rows(store: Store) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in store.rows()]


def num_records(store: Store) -> int:
    return len(list((store.path / "cells").glob("*/record.json")))


def workers_of(launcher: subprocess.Popen) -> list[int]:
    """Returns what the launcher's own process has forked."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parents.get(parent) == launcher.pid]


@pytest.fixture(scope="module")
def reference(command_in, toy_study, tmp_path_factory):
    """The toy study, run without disturbance."""
    scaling = command_in(tmp_path_factory.mktemp("reference"))
    (scaling.folder / "toy.py").write_text(toy_study)
    assert scaling("run", "toy.py", "--store", "reference", "--workers", 2, *ONE_BY_ONE).returncode == 0
    return rows(Store.open(scaling.folder / "reference"))


def kill_and_continue(scaling, words, waits):
    """Kills a run after each wait, lets the last one finish, and returns how many kills found cells still to train."""
    early = 0
    for wait in waits:
        launcher = scaling.start("run", *words, "--workers", 2)
        wait()
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
        # a worker that outlives its launcher by a moment may save, which ends its attempt and not the cell
        ended = [a for a in read_attempts(store.cell_path(cell)) if a.outcome not in (None, "interrupted")]
        assert len(ended) <= 1, "a completed cell was trained again"
        assert record.cell == cell
    assert num_records(store) == len(store.records())


def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(scaling, study_file, reference):
    store = Store(scaling.folder / "killed")
    words = (study_file, "--store", "killed", *ONE_BY_ONE)
    assert kill_and_continue(scaling, words, [lambda: wait_until(lambda: num_records(store) >= 1)]) == 1
    check_equal_to_undisturbed(scaling, "killed", reference)


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_ends_like_an_undisturbed_one(scaling, study_file):
    larger = ("--set", "num_seeds=12", "--set", "num_steps=8000", *ONE_BY_ONE)
    assert scaling("run", study_file, "--store", "reference", "--workers", 2, *larger).returncode == 0
    generator = random.Random(0)
    delays = [partial(time.sleep, generator.uniform(0.2, 3.0)) for _ in range(20)]
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


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
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
    words = ("--workers", 1, "--set", "num_steps=3000", "--set", "num_seeds=1", *ONE_BY_ONE)
    launcher = scaling.start("run", study_file, "--store", "store", *words)
    store = Store(scaling.folder / "store")
    wait_until(lambda: num_records(store) >= 1 and any(is_training(store, [name]) for name in unfinished(store)))
    os.kill(workers_of(launcher)[0], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 1, errors
    assert "5 of 6" not in errors
    found = scaling.json("status", "store")
    assert sum(one["failed"] for one in found["series"]) == 1
    assert sum(one["done"] for one in found["series"]) == 5
    logs = [path.read_text() for path in (scaling.folder / "store").rglob("attempts.jsonl")]
    assert any("ended with signal SIGKILL" in log for log in logs)
    again = scaling("run", study_file, "--store", "store", *words)
    assert again.returncode == 0, again.stderr
    assert num_records(store) == 6


# One linear model, and networks of some seeds that are one job.
def population(members: int, num_steps: int) -> tuple[str, ...]:
    small = ("--set", "data.size=100", "--set", f"num_seeds={members}", "--set", f"num_steps={num_steps}")
    return ("--workers", "1", *small, "--execution", f"population={members}")


def networks(store: Store) -> list[str]:
    return [name for name, cell in json_cells(store).items() if cell["training"]]


def json_cells(store: Store) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in (store.path / "cells").glob("*/cell.json")}


def unfinished(store: Store) -> list[str]:
    return [name for name in networks(store) if not store.is_complete(name)]


def is_training(store: Store, names: list[str]) -> bool:
    """Returns whether all these have done some steps."""
    curves = [store.cell_path(name) / "curve.jsonl" for name in names]
    return bool(names) and all(curve.exists() and curve.read_text().count("\n") > 3 for curve in curves)


def outcomes(store: Store, name: str) -> list[str]:
    return [attempt.outcome for attempt in read_attempts(store.cell_path(name)) if attempt.event == "end"]


@pytest.mark.slow
def test_a_stopped_population_is_saved_and_goes_on_to_the_same_bits(scaling, study_file):
    words = (study_file, *population(2, 12_000), "--checkpoint-steps", 4_000)
    assert scaling("run", *words, "--store", "reference").returncode == 0
    launcher, store = scaling.start("run", *words, "--store", "store"), Store(scaling.folder / "store")
    wait_until(lambda: is_training(store, networks(store)))
    launcher.send_signal(signal.SIGINT)
    _, errors = launcher.communicate(timeout=30)
    assert launcher.returncode == 75, errors
    names = networks(store)
    assert [outcomes(store, name) for name in names] == [["interrupted"]] * 2
    assert len(list(store.path.glob("cells/*/checkpoints/*/*/manifest.json"))) >= 1
    assert scaling.json("status", "store")["series"][1]["left"] == 2
    again = scaling("run", *words, "--store", "store")
    assert again.returncode == 0, again.stderr
    assert [outcomes(store, name) for name in names] == [["interrupted", "ok"]] * 2
    assert [store.read_record(name).num_resumes for name in names] == [1, 1]
    assert rows(Store.open(store.path)) == rows(Store.open(scaling.folder / "reference"))
    assert not list(store.path.glob("cells/*/checkpoints"))


@pytest.mark.slow
def test_a_worker_that_dies_in_a_population_has_its_cells_trained_alone(scaling, study_file):
    launcher = scaling.start("run", study_file, *population(3, 15_000), "--store", "store")
    store = Store(scaling.folder / "store")
    wait_until(lambda: is_training(store, networks(store)))
    os.kill(workers_of(launcher)[0], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, errors
    for name in networks(store):
        assert outcomes(store, name) == ["interrupted", "ok"]
        assert "signal SIGKILL" in read_attempts(store.cell_path(name))[1].error
        assert store.read_record(name).execution.get("population", 1) == 1


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_by_another_stops_the_run(scaling, study_file):
    launcher = scaling.start("run", study_file, *population(1, 3_000_000), "--store", "store")
    store = Store(scaling.folder / "store")
    wait_until(lambda: is_training(store, networks(store)))
    os.kill(workers_of(launcher)[0], signal.SIGTERM)
    _, errors = launcher.communicate(timeout=30)
    assert launcher.returncode == 75, errors
    assert [outcomes(store, name) for name in networks(store)] == [["interrupted"]]


def test_two_runs_on_one_store_share_the_work_and_train_no_cell_twice(scaling, study_file, reference):
    words = ("run", study_file, "--store", "store", "--workers", 1, *ONE_BY_ONE)
    both = [scaling.start(*words) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    check_equal_to_undisturbed(scaling, "store", reference)
    store = Store.open(scaling.folder / "store")
    tried = {name: read_attempts(store.cell_path(name)) for name in store.records()}
    assert all([one.event for one in attempts] == ["start", "end"] for attempts in tried.values())
    assert len({attempts[0].launch for attempts in tried.values()}) == 2, "one of them did everything"


@pytest.mark.slow
def test_a_worker_stopped_past_its_lease_is_taken_over_and_cannot_publish_when_it_continues(scaling, study_file):
    small = (*population(1, 40_000), "--checkpoint-steps", 4_000)
    words = ("run", study_file, "--store", "store", *small, "--lease-seconds", 2)
    first, store = scaling.start(*words), Store(scaling.folder / "store")
    wait_until(lambda: list(store.path.glob("cells/*/checkpoints/*/*/manifest.json")))
    frozen = [*workers_of(first), first.pid]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    second = scaling(*words)
    assert second.returncode == 0, second.stderr
    assert "being trained by others" in second.stderr
    (cell,) = networks(store)
    published = (store.cell_path(cell) / "record.json").read_bytes()
    by = [one.worker for one in read_attempts(store.cell_path(cell))]
    assert outcomes(store, cell) == ["interrupted", "ok"]
    assert store.read_record(cell).num_resumes == 1
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert (store.cell_path(cell) / "record.json").read_bytes() == published
    assert [one.worker for one in read_attempts(store.cell_path(cell))] == by, "the late worker has written"


def test_workers_that_cannot_start_are_reported_once(scaling, study_file):
    broken = scaling.folder / "broken"
    broken.mkdir()
    (broken / "absl.py").write_text("raise ImportError('no absl here')")
    scaling.environment["PYTHONPATH"] = f"{broken}:{scaling.environment['PYTHONPATH']}"
    script = (
        "import sys; from launch.options import Options; from launch.workers.agent import run_cells\n"
        "from launch.workers.slots import Slot; from scaling.store.store import Store\n"
        "from scaling.specs.study import resolve_study\n"
        "study = resolve_study(sys.argv[1]); store = Store('store'); store.create(study.canonical_json())\n"
        "run_cells(study.cells, store, [Slot(frozenset(), {})] * 2, Options(), 'launch', waits=True)"
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
    for path in (scaling.folder / "store" / "cells").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 2, errors
    assert "choose a folder that can be read and written" in errors
    assert "Traceback" not in errors
