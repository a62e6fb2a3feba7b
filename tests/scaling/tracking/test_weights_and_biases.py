"""Claims about runs at W&B, by its own client: online against a stand-in for its server, offline, and with neither."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.store.curves import read_curve
from scaling.tracking import CurveFile, Together
from scaling.tracking.rows import AXES, make_rows
from scaling.tracking.weights_and_biases import WeightsAndBiases
from tests.places import ROOT
from tests.told_runs import END, NUM_STEPS, estimators_of, make_points, networks_of, tell
from tests.wandb_server import WandbServer, no_server

pytestmark = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs wandb")
STEPS = list(range(1, NUM_STEPS + 1))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of its own, without an account: a home folder and no word of W&B in the environment."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return monkeypatch


@pytest.fixture
def server(machine):
    """A server at which the processes of the test have an account."""
    with WandbServer() as running:
        for name, value in running.environment.items():
            machine.setenv(name, value)
        yield running
        assert not running.failed


def follow(store, **options) -> tuple[Together, WeightsAndBiases]:
    """Returns a tracker and its mirror."""
    mirror = WeightsAndBiases(store, **{"every_seconds": 0.1, "patience_seconds": 20.0, **options})
    return Together(CurveFile(store.cell_path), {"wandb": mirror}), mirror


def wait_for(condition, seconds=20.0):
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)


def steps_of(rows) -> list[int]:
    return [row["_step"] for row in rows]


def assert_exact(server, store, cell):
    """Checks that a run has every row of the ledger, in order, and that none was sent twice."""
    run = server.run(cell)
    spec = json.loads((store.cell_path(cell) / "cell.json").read_text())
    rows = make_rows(spec, read_curve(store.cell_path(cell)))
    assert steps_of(run.rows) == steps_of(run.sent) == [row.place for row in rows]
    for found, row in zip(run.rows, rows, strict=True):
        ours = {name: value for name, value in found.items() if not name.startswith("_")}
        assert ours == pytest.approx(row.values, rel=1e-12)


def test_a_cell_is_one_run_with_its_rows_config_and_record(server, store):
    tracker, mirror = follow(store, describe=lambda cell: END)
    network, other, estimator = *networks_of(store)[:2], estimators_of(store)[0]
    record = tell(tracker, store, network)
    tell(tracker, store, estimator)
    tell(tracker, store, other, stop=17)
    mirror.close()

    assert_exact(server, store, network)
    run = server.run(network)
    assert (run.project, run.fields["groupName"], run.state, run.display_name) == (
        "told", "told", "finished", "mlp N=3,000 m=50 seed=0",
    )  # fmt: skip
    assert run.fields["tags"] == ["mlp", "told", "ok"]
    config = run.plain_config()
    spec = json.loads((store.cell_path(network) / "cell.json").read_text())
    assert {name: config[name] for name in spec} == spec
    assert (config["num_params"], config["label"], config["log10_train_flops"]) == (3010, "mlp", 6.9)
    fields = json.loads(record.canonical_json()).items()
    whole = {name: value for name, value in fields if name != "evaluations" and value is not None}
    assert {name: run.summary[name] for name in whole} == whole
    assert run.summary["loss"] == run.rows[-1]["eval/loss"] == record.evaluations[-1].loss
    axes = {one["1"] for one in run.config["_wandb"]["value"]["m"] if "1" in one}
    assert axes >= {"step", *AXES}
    assert any("system.proc.memory.rssMB" in line for line in run.lines["wandb-events.jsonl"].values())

    assert [sorted(row) for row in server.run(estimator).rows] == [
        ["_runtime", "_step", "_timestamp", "data_seen", "eval/error", "eval/loss"]
    ]
    interrupted = server.run(other)
    assert (interrupted.state, steps_of(interrupted.rows)) == ("failed", list(range(1, 17)))


@pytest.mark.slow  # the client sends every 15 seconds
def test_rows_are_there_while_the_cell_goes_on(server, store):
    tracker, mirror = follow(store, describe=lambda cell: END)
    cell = networks_of(store)[0]
    tracker.begin(cell, 0)
    tracker.log(cell, make_points(parse(Cell, (store.cell_path(cell) / "cell.json").read_text(), cell), 0, 9))
    wait_for(lambda: ("told", cell) in server.runs and steps_of(server.run(cell).rows) == list(range(1, 9)))
    assert server.run(cell).state == "running"
    mirror.close()


def test_a_cell_that_goes_on_elsewhere_has_every_step_once(server, store):
    cell = networks_of(store)[0]
    for begin, stop in ((0, 17), (10, 25), (0, None)):  # the last one found no checkpoint
        tracker, mirror = follow(store)  # a process of its own each
        tell(tracker, store, cell, begin, stop)
        mirror.close()
    assert_exact(server, store, cell)
    assert server.run(cell).state == "finished"


def test_refusals_and_errors_are_tried_again(server, store):
    server.fail("file_stream", 429, times=3)
    server.fail("file_stream", 500, times=2)
    server.fail("UpsertBucket", 503, times=1)
    tracker, mirror = follow(store)
    for cell in networks_of(store)[:2]:
        tell(tracker, store, cell)
    mirror.close()
    for cell in networks_of(store)[:2]:
        assert_exact(server, store, cell)


@pytest.mark.slow
def test_a_server_that_comes_back_is_sent_everything(server, store):
    server.fail("RunResumeStatus", 503, times=30)  # more than the client tries
    tracker, mirror = follow(store)
    cells = networks_of(store)[:2]
    for cell in cells:
        tell(tracker, store, cell)
    mirror.close()
    assert server.requests.count("GraphQL RunResumeStatus") == 30 + len(cells)
    for cell in cells:
        assert_exact(server, store, cell)


def test_of_many_at_once_some_are_shown_live_and_all_in_the_end(server, store):
    tracker, mirror = follow(store, live_cells=2)
    cells = networks_of(store)
    for cell in cells:
        tracker.begin(cell, 0)
    wait_for(lambda: len(server.runs) == 2)
    for cell in cells:
        tell(CurveFile(store.cell_path), store, cell)
        tracker.end(cell, store.read_record(cell))
    mirror.close()
    assert len(cells) == 6
    for cell in cells:
        assert_exact(server, store, cell)


def test_a_trainer_that_is_killed_is_mirrored_to_its_last_whole_step(server, store):
    cell = networks_of(store)[0]
    with trainer(store, cell) as (process, beside):
        wait_for(lambda: ("told", cell) in server.runs)
        process.kill()
        process.wait()
        wait_for(lambda: server.run(cell).state == "failed")
        wait_for(lambda: is_gone(beside))
        last = read_curve(store.cell_path(cell))[-1]["step"]
    assert 5 <= last < NUM_STEPS
    assert steps_of(server.run(cell).rows) == list(range(1, last))


@pytest.mark.slow
def test_a_machine_that_dies_loses_rows_and_the_next_one_sends_them(server, store):
    cell = networks_of(store)[0]
    with trainer(store, cell) as (process, beside):
        wait_for(lambda: ("told", cell) in server.runs)
        process.kill()
        os.killpg(beside, signal.SIGKILL)
        process.wait()
    assert len(server.run(cell).rows) < len(read_curve(store.cell_path(cell)))
    assert server.run(cell).state == "running"  # as far as the server knows
    tracker, mirror = follow(store)
    tell(tracker, store, cell, begin=5)
    mirror.close()
    assert_exact(server, store, cell)


@contextlib.contextmanager
def trainer(store, cell):
    """Yields a process that trains a cell, a step in a tenth of a second, and the id of the process beside it."""
    script = str(ROOT / "tests" / "told_runs.py")
    command = [sys.executable, script, str(store.path), cell, "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        beside = int(process.stdout.readline())
        try:
            yield process, beside
        finally:
            process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(beside, signal.SIGKILL)


def is_gone(pid) -> bool:
    """Returns whether a process has ended; nobody may have asked how, where its parent was killed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- without W&B ----------------------------------------------------------------------------------------------------


def test_training_neither_waits_for_a_server_that_is_down_nor_fails(machine, store, capfd):
    with no_server() as url:
        for name, value in {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}.items():
            machine.setenv(name, value)
        tracker, mirror = follow(store, patience_seconds=1.5)
        cells = networks_of(store)[:2]
        for cell in cells:
            tell(tracker, store, cell)
        pid = mirror.process.pid
        assert mirror.process.poll() is None  # it still tries, and has been waited for by nobody
        mirror.close()
    assert not Path(f"/proc/{pid}").exists()
    assert all(store.is_complete(cell) for cell in cells)
    assert capfd.readouterr().err.splitlines() == [
        f"scaling: W&B has taken nothing for 1.5 s; `scaling sync {store.path}` sends what it lacks"
    ]


def test_without_an_account_one_line_says_so_and_nobody_is_asked(machine, store, capfd):
    tracker, mirror = follow(store)
    tell(tracker, store, networks_of(store)[0])
    mirror.close()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("scaling: W&B has no account on this machine (set WANDB_API_KEY, or call `wandb login`)")


def test_a_process_that_is_gone_is_no_matter(machine, store, capfd):
    machine.setenv("WANDB_MODE", "offline")
    tracker, mirror = follow(store)
    cells = networks_of(store)
    tell(tracker, store, cells[0], stop=5)
    mirror.process.kill()
    mirror.process.wait()
    tell(tracker, store, cells[1])
    mirror.close()
    assert store.is_complete(cells[1])


def test_disabled_means_nothing_is_started(machine, store):
    machine.setenv("WANDB_MODE", "disabled")
    tracker, mirror = follow(store)
    tell(tracker, store, networks_of(store)[0])
    assert mirror.process is None
    mirror.close()


def test_offline_each_complete_cell_is_one_file_that_wandb_sync_sends_whole(machine, store):
    machine.setenv("WANDB_MODE", "offline")
    network, other = networks_of(store)[:2]
    for begin, stop in ((0, 17), (10, None)):
        tracker, mirror = follow(store)
        tell(tracker, store, network, begin, stop)
        tell(tracker, store, other, stop=5)
        mirror.close()
    (folder,) = Path(store.path).glob("wandb/offline-run-*")
    assert network in folder.name
    machine.delenv("WANDB_MODE")
    with WandbServer() as server:
        command = [sys.executable, "-m", "wandb", "sync", "--project", "told", str(folder)]
        environment = os.environ | {**server.environment, "WANDB_SILENT": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert_exact(server, store, network)
        assert server.run(network).summary["status"] == "ok"
