"""Hosts of Cloud TPU slices, which here are local processes: what they run, and how they end."""

import contextlib
import json
import os
import sys

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import EngineError, Order
from tests.launch.engines.cloud_tpu.orders import ORDER, make
from tests.launch.engines.tpu_server import TpuServer
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives


# In place of the interpreter: says how it was called, and goes on until it is told to stop.
AGENT = """#!/bin/bash
echo "agent: $* place=$SCALING_PLACE secret=$SECRET"
trap 'echo told; exit 75' TERM
while :; do sleep 0.05; done
"""


@pytest.fixture
def agent(tmp_path):
    path = tmp_path / "agent.sh"
    path.write_text(AGENT)
    path.chmod(0o755)
    return f"python={path}", "install=[]"


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
    assert said == f"agent: -P -m launch.cli {' '.join(words)} place={place} secret=$HOME 'x'"
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
    assert "--entrypoint python3 us-docker.pkg.dev/p/r/scaling:1 -P -m launch.cli work gs://bucket/store" in said
    with contextlib.suppress(EngineError):
        engine.cancel([handle])
