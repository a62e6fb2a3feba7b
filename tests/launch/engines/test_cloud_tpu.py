"""The Cloud TPU engine: Google's own client against a stand-in API, and hosts that really run what they are told."""

import datetime as dt
import io
import json
import re
import socket
import tarfile
import time

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import EngineError, Order, connect, find_anywhere, reconnect
from launch.engines.cloud_tpu import api as cloud_tpu_api
from launch.engines.cloud_tpu import engine as cloud_tpu
from launch.engines.cloud_tpu.code import pack_checkout
from launch.engines.cloud_tpu.costs import Ledger
from launch.engines.cloud_tpu.engine import QueuedResource, find
from scaling.specs.base import InputError
from scaling.store.store import Store
from tests.launch.engines.tpu_server import TpuServer
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives

ORDER = Order("20250101-120000-abcdef", "gs://bucket/store", ("work", "gs://bucket/store", "--launch=x"))


@pytest.fixture
def server():
    with TpuServer() as made:
        yield made


@pytest.fixture(scope="session")
def archive():
    return pack_checkout()


@pytest.fixture(autouse=True)
def quick(monkeypatch, archive):
    monkeypatch.setattr(cloud_tpu_api, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(cloud_tpu, "pack_checkout", lambda: archive)


def make(server, store, *assignments):
    base = ("project=p", "zone=us-west4-a", f"endpoint={server.endpoint}", "accelerator=v5litepod-8")
    return connect("cloud_tpu", [*base, *assignments], store)[0]


def at(engine, seconds):
    """Moves an engine's clock."""
    later = time.time() + seconds
    engine._clock = engine._watch._clock = lambda: later
    return engine


def node_of(server, handle):
    (spec,) = server.requests[handle].tpu.node_spec
    return spec.node


# --- what can be asked for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("project=", "--option project=… is missing"),
        ("zone=", "--option zone=… is missing"),
        ("accelerator=v5litepod-12", "nearest is 'v5litepod-16'"),
        ("accelerator=v5litpod-8", "did you mean 'v5litepod'?"),
        ("accelerator=h100-8", "is no TPU; choose one of"),
        ("accelerator=v4", "says no size"),
        ("accelerator=tpu7x-4", "offered in GKE only"),
        ("topology=4x4", "has 16 chips, which is v5litepod-16"),
        ("bucket=my-bucket", "must be a gs:// folder"),
        ("reservation=mine", "needs provisioning=reserved"),
        ('env=["KEY=value"]', "is no name of a variable"),
        ("provisioning=cheap", "provisioning"),
        ("acelerator=v4-8", "did you mean 'accelerator'?"),
    ],
)
def test_what_is_missing_or_does_not_exist_is_refused_in_one_line(store, assignment, words):
    given = ["project=p", "zone=us-west4-a", "accelerator=v5litepod-8", assignment]
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        connect("cloud_tpu", given, store)
    assert "\n" not in str(caught.value)


def test_a_store_that_machines_cannot_see_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot see it; give a folder of a bucket, as gs://"):
        connect("cloud_tpu", ["project=p", "zone=us-west4-a"], Store(tmp_path))


# --- what is submitted ----------------------------------------------------------------------------------------------


def test_a_spot_slice_is_asked_for_with_its_labels_and_this_code(server, store, buckets):
    (handle,) = make(server, store, "provisioning=spot").submit(ORDER, 1)
    request, node = server.requests[handle], node_of(server, handle)
    assert "spot" in request and node.scheduling_config.spot
    assert (node.accelerator_type, node.runtime_version) == ("v5litepod-8", "v2-alpha-tpuv5-lite")
    assert node.labels["scaling-launch"] == ORDER.launch
    assert node.labels["scaling-study"] == "my-study"
    assert node.labels["scaling-user"]
    told = json.loads(node.metadata["scaling-order"])
    assert told["words"] == list(ORDER.words)
    data = buckets.objects["bucket"][told["code"].removeprefix("gs://bucket/")].data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = set(archive.getnames())
    assert {"launch/cli.py", "pyproject.toml", "launch/engines/cloud_tpu/host.py"} <= names
    assert not {name for name in names if name.startswith((".git/", ".venv/"))}


def test_the_same_checkout_is_uploaded_once(server, store, buckets):
    engine = make(server, store)
    engine.submit(ORDER, 1)
    engine.submit(ORDER, 2)
    assert len(list(buckets.names("gs://bucket/store/code/"))) == 1
    uploads = [path for method, path in buckets.requests if method == "POST" and "name=store/code" in path]
    assert len(uploads) == 1


def test_slices_topologies_and_reservations_are_asked_for_as_the_api_wants_them(server, store):
    more = ("accelerator=v5e", "topology=4x4", "slices=3", "provisioning=reserved", "reservation=mine")
    (handle,) = make(server, store, *more, "max_waiting_hours=2").submit(ORDER, 1)
    request, node = server.requests[handle], node_of(server, handle)
    assert (node.accelerator_config.type_.name, node.accelerator_config.topology) == ("V5LITE_POD", "4x4")
    assert request.tpu.node_spec[0].multislice_params.node_count == 3
    assert "guaranteed" in request and node.scheduling_config.reserved
    assert request.reservation_name == "projects/p/locations/us-west4-a/reservations/mine"
    assert request.queueing_policy.valid_until_duration.total_seconds() == 7200
    told = json.loads(node.metadata["scaling-order"])
    assert told["hosts"] == 12
    assert told["words"][-1] == "--distributed"


def test_the_description_is_the_request_and_asks_nobody(server, store):
    engine = make(server, store, "provisioning=spot")
    described = engine.describe(ORDER, 2)
    assert not server.calls
    message = json.loads(described[described.index("{") :])
    (handle, _) = engine.submit(ORDER, 2)
    sent = server.requests[handle]
    told = message["tpu"]["node_spec"][0]["node"]
    assert told["accelerator_type"] == "v5litepod-8"
    assert told["labels"] == dict(node_of(server, handle).labels)
    order = json.loads(node_of(server, handle).metadata["scaling-order"])
    drawn = {"name", "reports"}  # end differently each time
    assert {k: v for k, v in told["metadata"]["scaling-order"].items() if k not in drawn} == {
        k: v for k, v in order.items() if k not in drawn
    }
    assert set(told["metadata"]) == set(sent.tpu.node_spec[0].node.metadata)
    assert "$19.20 an hour for all" in described  # 16 chips at 1.20


def test_secrets_are_passed_on_where_asked_for_and_never_shown(server, store, monkeypatch, buckets):
    monkeypatch.setenv("SECRET", "it's a 'secret'")
    monkeypatch.setenv("OTHER", "unasked-for")
    engine = make(server, store, 'env=["SECRET"]')
    assert "secret'" not in engine.describe(ORDER, 1)
    (handle,) = engine.submit(ORDER, 1)
    node = node_of(server, handle)
    assert json.loads(node.metadata["scaling-env"]) == {"SECRET": "it's a 'secret'"}
    assert "unasked-for" not in str(node)
    assert all(b"it's" not in one.data for name, one in buckets.objects["bucket"].items() if "code/" not in name)
    monkeypatch.delenv("SECRET")
    with pytest.raises(InputError, match="env='SECRET' is not set here"):
        engine.submit(ORDER, 1)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "reason", "words"),
    [
        ("UNAUTHENTICATED", "invalid credentials", "", "gcloud auth application-default login"),
        ("PERMISSION_DENIED", "lacks tpu.nodes.create", "", "roles/tpu.admin"),
        (
            "PERMISSION_DENIED",
            "Cloud TPU API has not been used in project 1",
            "SERVICE_DISABLED",
            "services enable tpu",
        ),
        ("PERMISSION_DENIED", "Permission denied on resource project p", "CONSUMER_INVALID", "gcloud projects list"),
        ("RESOURCE_EXHAUSTED", "Quota limit 'TPUV5sPerProject' exceeded", "", "is used up"),
        ("INVALID_ARGUMENT", "unknown runtime", "", "accelerator, runtime and zone"),
        ("NOT_FOUND", "network not found", "", "project p, zone us-west4-a"),
    ],
)
def test_a_refusal_is_one_line_with_a_remedy_and_is_not_repeated(server, store, code, message, reason, words):
    server.refuse("create_queued_resource", code, message, reason)
    engine = make(server, store)
    with pytest.raises(EngineError) as caught:
        engine.submit(ORDER, 1)
    assert words in str(caught.value)
    assert message in str(caught.value) or reason or code == "UNAUTHENTICATED"
    assert "\n" not in str(caught.value)
    assert [method for method, _ in server.calls].count("create_queued_resource") == 1
    (entry,) = Ledger(store).read().values()
    assert (entry.state, entry.used_hours(time.time())) == ("failed", 0.0)


def test_what_may_pass_is_tried_again_later_and_later_and_not_for_ever(server, store):
    pauses = []
    engine = make(server, store)
    engine._api._pause = pauses.append
    server.refuse("create_queued_resource", "UNAVAILABLE", "try later", times=2)
    assert len(engine.submit(ORDER, 1)) == 1
    server.refuse("list_queued_resources", "UNAVAILABLE", "try later")
    server.calls.clear()
    with pytest.raises(EngineError, match="does not answer"):
        engine.observe([])
    assert len(server.calls) == cloud_tpu_api.TRIES
    assert pauses == [0.001 * 2**k for k in (0, 1, 0, 1, 2, 3)]


def test_calls_over_the_rate_are_repeated_and_spent_quota_is_not(server, store):
    engine = make(server, store)
    server.refuse("create_queued_resource", "RESOURCE_EXHAUSTED", "Quota exceeded per minute", "RATE_LIMIT_EXCEEDED", 1)
    assert len(engine.submit(ORDER, 1)) == 1


def test_a_machine_without_network_says_so(store):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        given = ["project=p", "zone=us-west4-a", f"endpoint=127.0.0.1:{nobody.getsockname()[1]}"]
        engine, _ = connect("cloud_tpu", given, store)
        with pytest.raises(EngineError, match=r"does not answer .*this machine's network"):
            engine.submit(ORDER, 1)


def test_without_credentials_the_remedy_is_said(store, monkeypatch, tmp_path):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    engine, _ = connect("cloud_tpu", ["project=p", "zone=us-west4-a"], store)
    with pytest.raises(EngineError, match="gcloud auth application-default login"):
        engine.observe([])


def test_a_request_whose_answer_was_lost_is_not_made_twice(server, store, monkeypatch):
    create = server.create_queued_resource
    lost = iter([True])

    def make_and_lose(request, context):
        made = create(request, context)
        if next(lost, False):
            context.abort(cloud_tpu_api_status("UNAVAILABLE"), "connection reset")
        return made

    monkeypatch.setattr(server, "create_queued_resource", make_and_lose)
    (handle,) = make(server, store).submit(ORDER, 1)
    assert server.created == 1
    assert server.state(handle) == "WAITING_FOR_RESOURCES"


def cloud_tpu_api_status(name):
    import grpc

    return grpc.StatusCode[name]


def test_a_zone_without_the_chip_says_where_it_is(server, store):
    with pytest.raises(EngineError, match=r"no v5litepod-8 .*us-central1-a, us-south1-a"):
        make(server, store, "zone=us-central2-b").submit(ORDER, 1)
    with pytest.raises(EngineError, match="of its kind it has v5litepod-1, v5litepod-4"):
        make(server, store, "accelerator=v5litepod-64").submit(ORDER, 1)
    with pytest.raises(EngineError, match="Location nowhere is not found"):
        make(server, store, "zone=nowhere").submit(ORDER, 1)
    assert not server.created


def test_what_google_gives_is_kept_when_it_refuses_the_rest(server, store):
    engine = make(server, store)
    server.refuse("create_queued_resource", "RESOURCE_EXHAUSTED", "quota")
    refused = server.refusals["create_queued_resource"]
    refused.times = 0
    create = server.create_queued_resource

    def make_one(request, context):
        refused.times = 1
        return create(request, context)

    server.create_queued_resource = make_one
    assert len(engine.submit(ORDER, 3)) == 1


# --- what becomes of it ---------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("look", [lambda engine: engine.reap(), lambda engine: engine.observe([])])
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


def test_everything_that_runs_is_found_by_its_labels(server, store):
    (handle,) = make(server, store, "slices=2").submit(ORDER, 1)
    other = make(server, Store("gs://bucket/other"))
    (theirs,) = other.submit(Order("x", "", ()), 1)
    for spec in server.requests[theirs].tpu.node_spec:
        spec.node.labels["scaling-user"] = "somebody-else"
    settings = other._settings
    found = find(settings)
    assert [one.name.rpartition("/")[2] for one in found] == [handle]
    assert found[0] == QueuedResource(
        found[0].name, "WAITING_FOR_RESOURCES", ORDER.launch, "my-study", found[0].user, "v5litepod-8", 2,
        pytest.approx(0, abs=0.1),
    )  # fmt: skip
    assert len(find(settings, everybody=True)) == 2
    (row,) = find_anywhere("cloud_tpu", ["project=p", f"endpoint={server.endpoint}"])
    assert row["name"] == found[0].name
    assert len(find(settings.model_copy(update={"zone": ""}))) == 1
    other.cancel([theirs])
    wait_until(lambda: len(find(settings, everybody=True)) == 1)


def report(store, handle, *, host="host-0", worker=0, ago=0.0, status=None, told="", why=""):
    now = time.time()
    said = {"host": host, "worker": worker, "began": now, "seen": now - ago, "status": status, "told": told, "why": why}
    (store.path / "cloud_tpu" / handle / f"{host}.json").write_text(json.dumps(said))


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


# --- what it costs --------------------------------------------------------------------------------------------------


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
