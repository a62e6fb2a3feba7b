"""What becomes of queued resources: told in the engine's words, let go when they have ended."""

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import reconnect
from scaling.store.store import Store
from tests.launch.engines.cloud_tpu.orders import ORDER, at, make, report
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives


def test_states_are_told_in_the_engines_words(server, store):
    engine = make(server, store)
    waiting, active, gone = engine.submit(ORDER, 3)
    server.provision(active)
    server.forget(gone)
    seen = at(engine, 7200).observe([waiting, active, gone])
    assert seen[waiting].state == "waiting"
    assert "WAITING_FOR_RESOURCES for 2.0 h: no machines are free" in seen[waiting].why
    assert (seen[gone].state, seen[gone].why) == ("ended", "somebody has deleted its request")


def test_a_preempted_request_is_deleted_and_every_process_hears_of_it(server, store):
    engine = make(server, store, "provisioning=spot")
    (handle,) = engine.submit(ORDER, 1)
    server.provision(handle)
    assert engine.observe([handle])[handle].state == "running"
    server.preempt(handle)
    assert engine.observe([handle])[handle].state == "preempted"
    wait_until(lambda: server.state(handle) == "")
    assert engine.observe([handle])[handle].state == "preempted"
    settings = engine._settings.model_dump(mode="json")
    other = reconnect("cloud_tpu", settings, Store("gs://bucket/store"))
    assert other.observe([handle])[handle].state == "preempted"


def test_a_request_that_fails_says_why_and_frees_its_quota(server, store):
    engine = make(server, store)
    (handle,) = engine.submit(ORDER, 1)
    server.fail(handle, "There is no more capacity in the zone")
    seen = engine.observe([handle])[handle]
    assert (seen.state, seen.why) == ("failed", "Google gave no machines: There is no more capacity in the zone")
    wait_until(lambda: server.state(handle) == "")


def test_cancelling_lets_go_of_running_and_waiting_machines_and_may_be_repeated(server, store):
    engine = make(server, store)
    handles = engine.submit(ORDER, 2)
    server.provision(handles[0])
    engine.cancel(handles)
    wait_until(lambda: not server.requests)
    engine.observe(handles)
    engine.cancel([*handles, "scaling-unknown"])
    assert {seen.state for seen in engine.observe(handles).values()} == {"ended"}


@pytest.mark.parametrize("look", [lambda engine: engine.cancel([]), lambda engine: engine.observe([])])
def test_dead_requests_of_this_store_are_taken_away_and_no_others(server, store, look):
    (lost,) = make(server, store).submit(ORDER, 1)
    other = Store("gs://bucket/other")
    (theirs,) = make(server, other).submit(ORDER, 1)
    for handle in (lost, theirs):
        server.fail(handle, "no")
    for path in (store.path / "cloud_tpu").glob("*/allocation.json"):  # nobody remembers it
        path.unlink()
    look(make(server, store))
    wait_until(lambda: server.state(lost) == "")
    assert server.state(theirs) == "FAILED"


def test_a_machine_that_never_comes_up_fails_with_a_remedy(server, store):
    engine = make(server, store, "accelerator=v5litepod-16", "max_silent_minutes=10")
    (handle,) = engine.submit(ORDER, 1)
    server.provision(handle)
    report(store, handle, ago=-610)
    assert engine.observe([handle])[handle].state == "running"
    at(engine, 605).observe([handle])
    wait_until(lambda: server.state(handle) == "")
    seen = engine.observe([handle])[handle]
    assert seen.state == "failed"
    assert "1 of 4 hosts have said anything in 10 minutes" in seen.why


def test_a_machine_that_falls_silent_is_given_up(server, store):
    engine = make(server, store, "max_silent_minutes=10")
    (handle,) = engine.submit(ORDER, 1)
    server.provision(handle)
    report(store, handle)
    assert engine.observe([handle])[handle].place == "host-0"
    seen = at(engine, 605).observe([handle])[handle]
    assert (seen.state, seen.why) == (
        "running", "its machines are given back: host host-0 has said nothing for 10 minutes",
    )  # fmt: skip
    wait_until(lambda: engine.observe([handle])[handle].state == "preempted")
