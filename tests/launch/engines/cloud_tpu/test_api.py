"""Google's API through its own client: what is refused has a remedy in one line, what may pass is tried again."""

import socket
import time

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import EngineError, connect
from launch.engines.cloud_tpu import api as cloud_tpu_api
from launch.engines.cloud_tpu.costs import Ledger
from tests.launch.engines.cloud_tpu.orders import ORDER, make

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives


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
