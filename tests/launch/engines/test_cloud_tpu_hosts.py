"""Hosts of Cloud TPU slices, which here are local processes: what they run, how they end, and whole studies on them."""

import contextlib
import json
import os
import re
import sys

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import EngineError, Order, connect
from launch.engines.cloud_tpu.costs import Ledger
from scaling.specs.study import resolve_study
from scaling.store.store import Store
from tests.launch.engines.contract import BucketContract
from tests.launch.engines.tpu_server import TpuServer
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives

ORDER = Order("20250101-120000-abcdef", "gs://bucket/store", ("work", "gs://bucket/store", "--launch=x"))

# In place of the interpreter: says how it was called, and goes on until it is told to stop.
AGENT = """#!/bin/bash
echo "agent: $* place=$SCALING_PLACE secret=$SECRET"
trap 'echo told; exit 75' TERM
while :; do sleep 0.05; done
"""


@pytest.fixture
def running_hosts(buckets):
    with TpuServer(automatic=True, hosts_run=True) as made:
        yield made


@pytest.fixture
def agent(tmp_path):
    path = tmp_path / "agent.sh"
    path.write_text(AGENT)
    path.chmod(0o755)
    return f"python={path}", "install=[]"


def make(server, store, *assignments):
    base = ("project=p", "zone=us-west4-a", f"endpoint={server.endpoint}", "accelerator=v5litepod-8")
    return connect("cloud_tpu", [*base, *assignments], store)[0]


# --- one ----------------------------------------------------------------------------------------------------------


def test_a_host_runs_the_command_keeps_its_log_and_lets_go_of_itself(running_hosts, store, buckets):
    engine = make(running_hosts, store, f"python={sys.executable}", "install=[]")
    order = Order(ORDER.launch, ORDER.store, ("status", "gs://bucket/store", "--json"))
    (handle,) = engine.submit(order, 1)
    wait_until(lambda: running_hosts.state(handle) == "")
    assert ("delete_by_host", handle) in running_hosts.calls
    assert '"study": "My study"' in buckets.read(f"gs://bucket/store/cloud_tpu/{handle}/{handle}-w-0.log")
    assert engine.observe([handle])[handle].state == "ended"


def test_an_agent_that_ends_badly_is_started_again_and_then_given_up(running_hosts, store):
    engine = make(running_hosts, store, f"python={sys.executable}", "install=[]")
    (handle,) = engine.submit(Order(ORDER.launch, ORDER.store, ("nonsense",)), 1)
    wait_until(lambda: running_hosts.state(handle) == "")
    seen = engine.observe([handle])[handle]
    assert seen.state == "failed"
    assert "the agent ended 3 times, at last with status 2" in seen.why
    assert f"cloud_tpu/{handle}/" in seen.why


def test_words_reach_the_agent_as_they_are(running_hosts, store, agent, monkeypatch):
    words = ("work", "a b", "$(touch broken)", "`x`", "it's", '"', ";")
    monkeypatch.setenv("SECRET", "$HOME 'x'")
    engine = make(running_hosts, store, *agent, 'env=["SECRET"]')
    (handle,) = engine.submit(Order(ORDER.launch, ORDER.store, words), 1)
    (host,) = running_hosts.hosts[handle]
    wait_until(lambda: "agent:" in host.output())
    said = next(line for line in host.output().splitlines() if line.startswith("agent:"))
    place = f"{handle}/{handle}-w-0"
    assert said == f"agent: -m launch.cli {' '.join(words)} place={place} secret=$HOME 'x'"
    engine.cancel([handle])


def test_an_agent_hears_of_preemption_in_time_to_save(running_hosts, store, agent, buckets):
    engine = make(running_hosts, store, *agent, "provisioning=spot")
    (handle,) = engine.submit(ORDER, 1)
    (host,) = running_hosts.hosts[handle]
    wait_until(lambda: "agent:" in host.output())
    running_hosts.notify(handle)
    wait_until(lambda: not host.is_running())
    assert "told" in host.output()
    assert json.loads(buckets.read(f"gs://bucket/store/cloud_tpu/{handle}/{handle}-w-0.json"))["status"] == 75
    wait_until(lambda: engine.observe([handle])[handle].state == "preempted")


def test_a_host_ends_itself_at_its_deadline_though_nobody_watches(running_hosts, store, agent):
    engine = make(running_hosts, store, *agent, "max_hours=0.001")
    (handle,) = engine.submit(ORDER, 1)
    (host,) = running_hosts.hosts[handle]
    wait_until(lambda: running_hosts.state(handle) == "")
    assert "told" in host.output()
    assert engine.observe([handle])[handle].state == "preempted"


def test_a_host_that_may_not_delete_itself_switches_itself_off(running_hosts, store, agent):
    running_hosts.refuse("delete_by_host", "PERMISSION_DENIED")
    (handle,) = make(running_hosts, store, *agent, "max_hours=0.0005").submit(ORDER, 1)
    (host,) = running_hosts.hosts[handle]
    wait_until(lambda: host.was_powered_off)


def test_code_that_is_not_what_was_sent_is_not_run(store, buckets, agent):
    with TpuServer(hosts_run=True) as server:
        engine = make(server, store, *agent)
        (handle,) = engine.submit(ORDER, 1)
        (code,) = buckets.names("gs://bucket/store/code/")
        buckets.objects["bucket"][code.removeprefix("gs://bucket/")].data = b"something else"
        server.provision(handle)
        wait_until(lambda: server.state(handle) == "")
        seen = engine.observe([handle])[handle]
        assert seen.state == "failed"
        assert "sha256" in seen.why


def test_a_gang_is_let_go_once_by_its_first_host(running_hosts, store, agent):
    engine = make(running_hosts, store, *agent, "accelerator=v5litepod-16", "max_hours=0.003")
    (handle,) = engine.submit(ORDER, 1)
    hosts = list(running_hosts.hosts[handle])
    assert len(hosts) == 4
    wait_until(lambda: all("agent:" in host.output() for host in hosts))
    assert all("--distributed" in host.output() for host in hosts)
    assert engine.observe([handle])[handle].state == "running"
    wait_until(lambda: running_hosts.state(handle) == "")
    assert running_hosts.calls.count(("delete_by_host", handle)) == 1
    assert engine.observe([handle])[handle].state == "preempted"


def test_a_container_gets_the_command_the_code_and_the_names_of_variables(running_hosts, store, tmp_path, monkeypatch):
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\necho "docker: $*"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SECRET", "hidden")
    engine = make(running_hosts, store, "image=us-docker.pkg.dev/p/r/scaling:1", 'env=["SECRET"]')
    (handle,) = engine.submit(ORDER, 1)
    (host,) = running_hosts.hosts[handle]
    wait_until(lambda: "docker: run" in host.output())
    said = host.output()
    assert "docker: login -u oauth2accesstoken --password-stdin https://us-docker.pkg.dev" in said
    assert "-e SECRET" in said
    assert "hidden" not in said
    assert "--entrypoint python3 us-docker.pkg.dev/p/r/scaling:1 -m launch.cli work gs://bucket/store" in said
    with contextlib.suppress(EngineError):
        engine.cancel([handle])


# --- the contract of all engines, and whole studies -----------------------------------------------------------------

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
    return [{name: value for name, value in row.items() if name != "wall_seconds"} for row in store.rows()]


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
