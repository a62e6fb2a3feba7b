"""The Cloud TPU engine: what can be asked for, what is submitted, and whole studies on hosts that run."""

import io
import json
import re
import sys
import tarfile

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import Order, connect, find_anywhere
from launch.engines.cloud_tpu.costs import Ledger
from launch.engines.cloud_tpu.engine import QueuedResource, find
from scaling.specs.base import InputError
from scaling.specs.study import resolve_study
from scaling.store.columns import TIMES
from scaling.store.store import Store
from tests.launch.engines.cloud_tpu.orders import ORDER, make, node_of
from tests.launch.engines.contract import BucketContract
from tests.launch.engines.tpu_server import TpuServer
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives


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
    (row,) = find_anywhere("cloud_tpu", ["project=p", f"endpoint={server.endpoint}"])
    assert row["name"] == found[0].name
    assert len(find(settings.model_copy(update={"zone": ""}))) == 1
    other.cancel([theirs])
    wait_until(lambda: list(server.requests) == [handle])


ONE_BY_ONE = ("--execution", "population=1")


class TpuLab:
    """The stand-in, whose hosts run."""

    name = "cloud_tpu"

    def __init__(self, server, store):
        self._server = server
        self.engine, settings = connect(
            "cloud_tpu",
            ["project=p", "zone=us-west4-a", f"endpoint={server.endpoint}", f"python={sys.executable}", "install=[]"],
            store,
        )
        self.settings = settings.model_dump(mode="json")

    def lose(self, handle):
        """Takes an allocation's machines away without a notice."""
        self._server.preempt(handle, notice=False)


@pytest.mark.slow
class TestCloudTpu(BucketContract):
    """The contract."""

    @pytest.fixture
    def lab(self, running_hosts):
        return TpuLab(running_hosts, Store("gs://bucket/store"))


def rows(store):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in store.rows()]


def on_tpu(server, url, *more):
    options = (
        f"endpoint={server.endpoint}", "project=p", "provisioning=spot", "max_dollars=20", f"python={sys.executable}",
        "install=[]", *more,
    )  # fmt: skip
    return "--store", url, "--engine", "cloud_tpu", *(word for option in options for word in ("--option", option))


def is_saved_in_the_middle(names):
    """Returns whether one cell is complete and another has a checkpoint of its first 2,000 steps."""
    complete = [name.rpartition("/")[0] for name in names if name.endswith("record.json")]
    saved = [name for name in names if re.search(r"/checkpoints/\w+/0*2000/", name)]
    return bool(complete) and any(not name.startswith(tuple(complete)) for name in saved)


@pytest.mark.slow
def test_a_study_on_a_preempted_spot_slice_ends_like_a_local_run(scaling, study_file, buckets):
    sizes = ("--set", "num_steps=4000", "--set", "num_seeds=1", "--checkpoint-steps", 1000, "--workers", 1)
    words = ("run", study_file, *ONE_BY_ONE, *sizes)
    assert scaling(*words, "--store", "local").returncode == 0
    url = "gs://bucket/toy"
    scaling.environment |= buckets.environment
    with TpuServer(automatic=True, hosts_run=True) as server:
        launcher = scaling.start(*words, *on_tpu(server, url, "zone=us-west4-a"))
        wait_until(lambda: is_saved_in_the_middle(list(buckets.names(url))), 300)
        (first,) = server.requests
        server.preempt(first)
        _, errors = launcher.communicate(timeout=400)
        assert launcher.returncode == 0, errors
        assert server.created == 2, errors
        assert f"{first}: preempted (Google took the machines back)" in errors
        wait_until(lambda: not server.requests)
    store = Store.open(url)
    assert rows(store) == rows(Store.open(scaling.folder / "local"))
    assert any(record.num_resumes for record in store.records().values()), errors
    assert all(one.used_hours(0) > 0 for one in Ledger(store).read().values())


@pytest.mark.slow
def test_the_hosts_of_a_slice_train_together(study_file, buckets):
    url = "gs://bucket/toy"
    store = Store(url)
    store.create(resolve_study(str(study_file), ["num_seeds=1", "num_steps=100"]).canonical_json())
    one_device = {"JAX_NUM_CPU_DEVICES": "1"}
    with TpuServer(automatic=True, hosts_run=True, environment=one_device) as server:
        more = ("zone=us-central2-b", "accelerator=v4-16", f"python={sys.executable}", "install=[]")
        engine = make(server, store, *more)
        (handle,) = engine.submit(Order("gang", url, ("work", url, "--launch=gang", "--checkpoint-seconds=0")), 1)
        hosts = list(server.hosts[handle])
        wait_until(lambda: not server.requests, 300)
        said = "\n".join(host.output() for host in hosts)
        seen = engine.observe([handle])[handle]
    assert (len(hosts), seen.state) == (2, "ended"), said
    networks = [record for record in store.records().values() if record.family == "mlp"]
    assert len(networks) == 3, said
    assert {record.num_devices for record in networks} == {2}
