"""The worker: what it answers, what it saves when told to stop, and that a bad cell harms no other."""

import io
import json
import time

import pytest

import scaling.training.calibration
import scaling.training.runner
from launch.options import Options
from launch.workers import worker
from launch.workers.replies import Planned, read_reply
from scaling.specs.base import override
from scaling.specs.execution import Execution
from scaling.store.attempts import read_attempts
from scaling.store.store import Store
from tests.launch.workers.cells import CELL, cells, names, outcomes


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
    assert read_reply(json.dumps(event)) == Planned(execution=Execution(population=4, loop="step"), how="as told")
    assert asked == {"cell": CELL, "num_members": 5, "seconds": 7.0}


def test_a_calibration_that_fails_leaves_the_defaults_and_says_so(store, monkeypatch):
    def choose(cell, **_):
        raise RuntimeError("no\nclock")

    monkeypatch.setattr(scaling.training.calibration, "choose_execution", choose)
    (event,) = ask(store, {"plan": names(1)[0], "members": 5, "seconds": 7.0})
    assert event["execution"] == Execution().model_dump(mode="json")
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
