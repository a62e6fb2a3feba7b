"""What slices cost: a budget is never exceeded, whoever watches."""

import datetime as dt
import json

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import EngineError
from launch.engines.cloud_tpu.costs import Ledger
from scaling.store.store import Store
from tests.launch.engines.cloud_tpu.orders import ORDER, at, make, node_of, report
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives


def test_a_budget_is_divided_and_never_exceeded_though_nobody_watches(server, store):
    engine = make(server, store, "max_chip_hours=32")  # two slices of 8 chips for 2 hours each
    handles = engine.submit(ORDER, 2)
    deadlines = [
        json.loads(node_of(server, handle).metadata["scaling-order"])["deadline_seconds"] for handle in handles
    ]
    assert sum(deadlines) / 3600 * 8 < 32
    with pytest.raises(EngineError, match=r"max_chip_hours=32: 32.00 are spent or taken by what runs"):
        make(server, Store("gs://bucket/store"), "max_chip_hours=32").submit(ORDER, 1)
    assert server.created == 2


def test_what_a_lost_machine_did_not_use_is_there_for_the_next(server, store):
    engine = make(server, store, "max_dollars=19.20", "price_per_chip_hour=1.2")  # 16 chip-hours
    (handle,) = engine.submit(ORDER, 1)
    server.provision(handle)
    engine.observe([handle])
    server.preempt(handle)
    assert at(engine, 1800).observe([handle])[handle].state == "preempted"
    (handle,) = engine.submit(ORDER, 1)  # half an hour was used, and one and a half are left
    hours = Ledger(store).read()[handle].hours
    assert hours == pytest.approx(1.5, abs=0.01)


def test_time_that_nobody_saw_is_counted(server, store):
    """A laptop that was closed from the request on: what ran meanwhile is known from Google and from the hosts."""
    engine = make(server, store, "max_chip_hours=80")
    running, ended = engine.submit(ORDER, 2)
    server.provision(running)
    server.provision(ended)
    (node,) = [one for name, one in server.nodes.items() if name.endswith(running)]
    node.create_time = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    report(store, ended, ago=-3600, status=0)
    server.forget(ended)
    at(engine, 2.5 * 3600).observe([running, ended])
    ledger = Ledger(store).read()
    assert ledger[running].used_hours(engine._clock()) == pytest.approx(1.5, abs=0.01)
    assert ledger[ended].used_hours(engine._clock()) == pytest.approx(1.0, abs=0.1)
    assert ledger[ended].ended is not None


def test_all_is_let_go_when_the_budget_is_used_up(server, store):
    engine = make(server, store, "max_dollars=10", "max_hours=100")
    handles = engine.submit(ORDER, 2)
    server.provision(handles[0])
    server.provision(handles[1])
    engine.observe(handles)
    lower = make(server, store, "max_dollars=4")
    at(lower, 900).observe(handles)  # 16 chips for a quarter of an hour are 4.80 dollars
    wait_until(lambda: not server.requests)
    seen = lower.observe(handles)
    assert {one.state for one in seen.values()} == {"failed"}
    assert seen[handles[0]].why == "max_dollars=4: used up"


def test_a_slice_that_outlives_its_hours_is_ended_from_outside_too(server, store):
    engine = make(server, store, "max_hours=0.1")
    (handle,) = engine.submit(ORDER, 1)
    server.provision(handle)
    report(store, handle, ago=-400)
    assert engine.observe([handle])[handle].state == "running"
    at(engine, 365)
    wait_until(lambda: engine.observe([handle])[handle].state == "preempted")
    assert server.state(handle) == ""
