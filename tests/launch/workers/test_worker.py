"""The worker: what it answers, what it saves when told to stop, and that a bad cell harms no other."""

import io
import json
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

import scaling.training.calibration
import scaling.training.runner
from launch.coordination.presence import Presence
from launch.options import Options
from launch.queue.begun import begun_jobs
from launch.workers import worker
from launch.workers.notices import StopNotices
from launch.workers.trainer import Trainer
from scaling.devices.processes import Preempted
from scaling.specs.base import override
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.execution import Execution
from scaling.specs.models import MLPSpec
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.attempts import read_attempts
from scaling.store.store import Store
from tests.launch.waiting import wait_until

CELL = Cell(
    model=MLPSpec(num_params=3000),
    data=DataSpec(source=DigitsSource(), size=100, evaluation_size=100),
    training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=20, num_evaluations=2),
)


@pytest.fixture
def store(tmp_path) -> Store:
    """A store with three cells of one program."""
    store = Store(tmp_path / "store")
    store.create('{"fit":{},"metric":"error","name":"x","question":"","series":[]}')
    for cell in cells(3):
        store.write_cell(cell.canonical_json())
    return store


def cells(count: int) -> list[Cell]:
    return [override([CELL], [f"seed={seed}"])[0] for seed in range(count)]


def names(count: int) -> list[str]:
    return [cell.fingerprint() for cell in cells(count)]


def ask(store: Store, *requests: dict) -> list[dict]:
    """Returns the events with which a worker answers."""

    class Requests(io.StringIO):
        def __iter__(self):
            yield from (json.dumps(request) + "\n" for request in requests)
            deadline = time.monotonic() + 60  # the engine stays until all is answered
            while answered() < len(requests) and time.monotonic() < deadline:
                time.sleep(0.01)

    replies = io.StringIO()

    def answered() -> int:
        return sum(event["event"] in ("done", "plan") for event in map(json.loads, replies.getvalue().splitlines()))

    assert worker.serve(store, Options(), None, Requests(), replies) == 0
    events = [json.loads(line) for line in replies.getvalue().splitlines()]
    assert events[0]["event"] == "ready"
    return events[1:]


def make_trainer(store: Store, notices: StopNotices, **options) -> Trainer:
    return Trainer(store, notices, Presence(store), Options(**options))


def outcomes(store: Store, name: str) -> list[str]:
    return [attempt.outcome for attempt in read_attempts(store.cell_path(name)) if attempt.event == "end"]


def test_a_job_is_answered_by_a_record_for_each_cell_and_then_done(store):
    events = ask(store, {"train": names(3), "execution": {"population": 3}})
    assert [(event["event"], event.get("status")) for event in events] == [("record", "ok")] * 3 + [("done", None)]
    assert {event.get("cell") for event in events[:3]} == set(names(3))
    for name in names(3):
        assert store.read_record(name).execution == {"population": 3}
        assert outcomes(store, name) == ["ok"]


def test_a_plan_is_what_the_calibration_chooses(store, monkeypatch):
    asked = {}

    def choose(cell, *, num_members, seconds):
        asked.update(cell=cell, num_members=num_members, seconds=seconds)
        return scaling.training.calibration.Choice(Execution(population=4, loop="step"), "as told")

    monkeypatch.setattr(scaling.training.calibration, "choose_execution", choose)
    (event,) = ask(store, {"plan": names(1)[0], "members": 5, "seconds": 7.0})
    assert event == {"event": "plan", "execution": {"population": 4, "loop": "step"}, "how": "as told"}
    assert asked == {"cell": CELL, "num_members": 5, "seconds": 7.0}


def test_a_calibration_that_fails_leaves_the_defaults_and_says_so(store, monkeypatch):
    def choose(cell, **_):
        raise RuntimeError("no\nclock")

    monkeypatch.setattr(scaling.training.calibration, "choose_execution", choose)
    (event,) = ask(store, {"plan": names(1)[0], "members": 5, "seconds": 7.0})
    assert event["execution"] == {}
    assert "RuntimeError: no clock" in event["how"]


def test_a_bad_member_fails_alone(store, monkeypatch):
    train_cells, bad = scaling.training.runner.train_cells, cells(3)[1]

    def train(given, *arguments, **options):
        if bad in given:
            raise RuntimeError("bad luck")
        return train_cells(given, *arguments, **options)

    monkeypatch.setattr(scaling.training.runner, "train_cells", train)
    events = ask(store, {"train": names(3), "execution": {"population": 3}})
    assert {event["cell"]: event["status"] for event in events[:-1]} == dict(
        zip(names(3), ("ok", "failed", "ok"), strict=True)
    )
    assert [outcomes(store, name)[-1] for name in names(3)] == ["ok", "failed", "ok"]
    assert all(outcomes(store, name)[0] == "interrupted" for name in names(3))
    for attempt in (read_attempts(store.cell_path(name))[1] for name in names(3)):
        assert "trained with 2 others" in attempt.error
        assert "bad luck" in attempt.error
    assert store.read_record(names(3)[0]).execution == {}


def test_the_leaves_of_two_trunks_are_one_job_and_have_a_record_each(store):
    wsd = [override([cell], ["training.schedule.kind=wsd"])[0] for cell in cells(2)]
    leaves = [override([cell], [f"training.num_steps={steps}"])[0] for cell in wsd for steps in (10, 20)]
    for cell in leaves:
        store.write_cell(cell.canonical_json())
    told = [cell.fingerprint() for cell in leaves]
    events = ask(store, {"train": told, "execution": {"population": 2}})
    assert {event["cell"]: event["status"] for event in events[:-1]} == dict.fromkeys(told, "ok")
    records = [store.read_record(name) for name in told]
    assert len({record.trunk for record in records}) == 2
    spent = [record.train_flops_spent / record.evaluations[-1].train_flops for record in records]
    assert spent == pytest.approx([1.0, 12 / 20] * 2)  # the shorter one leaves the trunk after 8 steps
    assert [outcomes(store, name) for name in told] == [["ok"]] * 4


def test_the_same_job_is_offered_again_only_while_it_has_checkpoints(store, monkeypatch):
    def train(given, *arguments, checkpoints, **options):
        assert begun_jobs(dict(zip(names(3), cells(3), strict=True)), store) == [
            (tuple(cells(3)), Execution(population=3))
        ]
        raise Preempted

    monkeypatch.setattr(scaling.training.runner, "train_cells", train)
    with StopNotices() as notices, pytest.raises(Preempted):
        make_trainer(store, notices, checkpoint_steps=1).train(cells(3), Execution(population=3), lambda *_: None)
    monkeypatch.undo()
    with StopNotices() as notices:
        make_trainer(store, notices, checkpoint_steps=1).train(cells(3), Execution(population=3), lambda *_: None)
    assert not list(store.path.glob("cells/*/checkpoints"))


def test_short_jobs_keep_no_checkpoints_unless_some_are_there(store, monkeypatch):
    kept = []

    def train(given, *arguments, checkpoints, **options):
        kept.append(checkpoints)

    monkeypatch.setattr(scaling.training.runner, "train_cells", train)
    folder = store.cell_path(names(1)[0]) / "checkpoints"
    with StopNotices() as notices:
        for seconds, is_there in ((600.0, False), (0.01, False), (600.0, True), (0.0, True)):
            if is_there:
                folder.mkdir()
            trainer = make_trainer(store, notices, checkpoint_seconds=seconds)
            trainer.train(cells(1), Execution(), lambda *_: None)
    assert kept == [None, folder, folder, None]


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
