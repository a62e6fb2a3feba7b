"""One cell by hand: saved when told to stop, trained by several processes, and one line for a wrong call."""

import signal
import socket
import subprocess

import numpy as np
import pytest

from scaling.specs.base import override
from scaling.store.attempts import read_attempts
from scaling.store.store import Store
from tests.launch.waiting import wait_until
from tests.launch.workers.cells import CELL, outcomes

# Long enough to be stopped while it trains.
LONG = override([CELL], ["training.num_steps=60000"])[0]


def start(scaling_command, *words) -> subprocess.Popen:
    path = scaling_command.folder / "cell.json"
    path.write_text(LONG.canonical_json())
    return scaling_command.start("cell", path, *words)


def is_training(store: Store) -> bool:
    curve = store.cell_path(LONG.fingerprint()) / "curve.jsonl"
    return curve.exists() and curve.read_text().count("\n") > 3


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGUSR1, signal.SIGINT))]
)
def test_a_cell_that_hears_a_notice_is_saved_and_exits_with_75(scaling, number):
    store = Store(scaling.folder / "store")
    process = start(scaling, "--store", "store", "--checkpoint-steps=100000")
    wait_until(lambda: is_training(store))
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in errors) == (75, False), errors
    assert outcomes(store, LONG.fingerprint()) == ["interrupted"]
    assert len(list(store.path.glob("cells/*/checkpoints/*/*/manifest.json"))) == 1


@pytest.mark.slow
def test_a_cell_without_checkpoints_ends_at_once_and_is_interrupted(scaling):
    store = Store(scaling.folder / "store")
    process = start(scaling, "--store", "store", "--checkpoint_seconds", "0")
    wait_until(lambda: is_training(store))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, "Traceback" in errors) == (75, False), errors
    assert outcomes(store, LONG.fingerprint()) == ["interrupted"]
    assert not list(store.path.glob("cells/*/checkpoints"))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_several_processes_train_one_cell_and_the_first_one_writes(scaling):
    (scaling.folder / "cell.json").write_text(CELL.canonical_json())
    words = ("--coordinator", f"localhost:{free_port()}", "--num-processes", 2, "--execution", "mesh.data=4")
    both = [scaling.start("cell", "cell.json", "--store", "store", *words, "--process-id", i) for i in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert ["record.json" in output for output, _ in said] == [True, False]
    store = Store(scaling.folder / "store")
    record = store.read_record(CELL.fingerprint())
    assert record.num_devices == 4
    assert [attempt.event for attempt in read_attempts(store.cell_path(CELL.fingerprint()))] == ["start", "end"]
    assert scaling("cell", "cell.json", "--store", "alone").returncode == 0
    alone = Store(scaling.folder / "alone").read_record(CELL.fingerprint())
    losses = [[found.loss for found in one.evaluations] for one in (record, alone)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--execution", "population=4"), "--execution population=4: one cell is trained here"),
        (("--execution", "mesh.data=64"), "64"),
        (("--execution", "loop=fast"), "--execution"),
        (("--process-id", "0"), "--coordinator is missing"),
    ],
)
def test_a_wrong_call_is_one_line(scaling, words, message):
    (scaling.folder / "cell.json").write_text(CELL.canonical_json())
    done = scaling("cell", "cell.json", "--store", "store", *words)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
