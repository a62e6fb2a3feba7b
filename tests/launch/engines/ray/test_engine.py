"""The Ray engine on real clusters of several nodes on this machine: lost nodes, gangs, and commands that have gone."""

import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from launch.engines import EngineError, Order
from launch.engines.ray.engine import RayEngine, Settings
from scaling.store.attempts import read_attempts
from scaling.store.store import Store
from tests.launch.engines.contract import EngineContract, rows_of
from tests.launch.engines.ray_cluster import (
    FOREVER,
    HELP,
    RayLab,
    end_of,
    growing_cluster,
    one_cell,
    processes_of,
    run,
    steps_done,
)
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")


def test_what_is_described_is_what_would_be_asked_for_and_starts_nothing():
    settings = Settings(address="127.0.0.1:1", hosts=2, num_cpus=8, num_gpus=1)
    text = RayEngine(settings).describe(Order("now", "/store", ("work", "/a store")), 3)
    assert 'machines of each: 2 of {"CPU":8.0,"GPU":1.0}, each another node' in text
    assert "allocations: 3" in text
    assert "command: python -P -m launch.cli work '/a store' --distributed" in text


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head gives nothing, to which tests add nodes."""
    with growing_cluster() as found:
        yield found


@pytest.fixture
def nodes(cluster) -> Iterator[Any]:
    """Adds nodes that a test alone uses, by a resource of that name, and removes those that are left."""
    added = []

    def add(count: int, name: str, **kwargs: Any) -> list[Any]:
        each = {"num_cpus": 1, "resources": {name: 1}} | kwargs
        new = [cluster.add_node(**each) for _ in range(count)]
        added.extend(new)
        return new

    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


def engine_on(cluster, name: str, **kwargs: Any) -> RayEngine:
    return RayEngine(Settings(address=cluster.address, resources={name: 1}, **kwargs))


@pytest.mark.slow
def test_an_allocation_runs_ends_and_leaves_nothing(cluster, nodes):
    import ray

    nodes(1, "plain")
    engine = engine_on(cluster, "plain")
    first, second = engine.submit(HELP, 2)
    assert end_of(engine, first).state == end_of(engine, second).state == "ended"
    wrong = engine.submit(Order("test", "nowhere", ("nonsense",)), 1)[0]
    seen = end_of(engine, wrong)
    assert seen.state == "failed"
    assert "exit status 2" in seen.why
    assert "invalid choice: 'nonsense'" in seen.why
    wait_until(lambda: not ray.util.list_named_actors(all_namespaces=True))
    wait_until(lambda: ray.available_resources().get("plain") == 1)
    assert signal.getsignal(signal.SIGTERM).__module__ != "ray._private.worker", "Ray hears what this process should"


@pytest.mark.slow
def test_resources_that_no_node_has_are_waited_for_and_named(cluster, nodes):
    nodes(1, "small")
    engine = engine_on(cluster, "small", num_cpus=7)
    (handle,) = engine.submit(HELP, 1)
    seen = engine.observe([handle])[handle]
    assert seen.state == "waiting"
    assert "1 nodes with CPU 7, small 1 are asked for, and 0 of 2 have it" in seen.why
    engine.cancel([handle])
    assert end_of(engine, handle).why == "cancelled"


@pytest.mark.slow
def test_a_cancelled_agent_saves_first_and_its_processes_end(cluster, nodes, tmp_path):
    nodes(1, "cancelled")
    store, order = one_cell(tmp_path, FOREVER)
    engine = engine_on(cluster, "cancelled")
    (handle,) = engine.submit(order, 1)
    wait_until(lambda: steps_done(store) > 0)
    seen = engine.observe([handle])[handle]
    assert seen.state == "running"
    beats = [json.loads(path.read_text()) for path in (store.path / "workers").glob("*.json")]
    assert [beat["place"] for beat in beats] == [f"ray {seen.place}"]
    engine.cancel([handle])
    assert end_of(engine, handle).state == "ended"
    (cell,) = (store.path / "cells").iterdir()
    assert read_attempts(cell)[-1].outcome == "interrupted"
    assert list((cell / "checkpoints").iterdir())
    (log,) = (store.path / "logs").glob("test-*-ray-0.0.log")
    assert "stopping: workers save what they can" in log.read_text()
    assert not processes_of(str(store.path))


@pytest.mark.slow
def test_agents_end_when_their_keeper_is_lost_which_is_a_preemption(cluster, nodes, tmp_path):
    import ray

    nodes(1, "unkept")
    store, order = one_cell(tmp_path, FOREVER)
    engine = engine_on(cluster, "unkept")
    (handle,) = engine.submit(order, 1)
    wait_until(lambda: steps_done(store) > 0)
    ray.kill(ray.get_actor(handle.split("/")[1], namespace="scaling"))
    assert end_of(engine, handle).state == "preempted"
    wait_until(lambda: not processes_of(str(store.path)))


@pytest.mark.slow
def test_a_gang_trains_one_cell_together(cluster, nodes, tmp_path):
    nodes(2, "gang")
    store, order = one_cell(tmp_path, 200)
    engine = engine_on(cluster, "gang", hosts=2)
    (handle,) = engine.submit(order, 1)
    seen = end_of(engine, handle)
    assert seen.state == "ended", seen.why
    assert len(set(seen.place.split())) == 2
    (record,) = store.records().values()
    assert record.num_devices == 2 * int(os.environ["JAX_NUM_CPU_DEVICES"])


@pytest.mark.slow
def test_a_gang_that_loses_a_host_is_preempted_and_ends_whole(cluster, nodes, tmp_path):
    _, second = nodes(2, "halved")
    store, order = one_cell(tmp_path, FOREVER // 50)  # together they are slower
    engine = engine_on(cluster, "halved", hosts=2)
    (handle,) = engine.submit(order, 1)
    wait_until(lambda: steps_done(store) > 0)
    cluster.remove_node(second, allow_graceful=False)
    seen = end_of(engine, handle)
    assert seen.state == "preempted"
    assert "was lost" in seen.why
    wait_until(lambda: not processes_of(str(store.path)))


@pytest.mark.slow
def test_a_slice_of_tpu_hosts_is_reserved_whole_and_trains_together(cluster, nodes, tmp_path):
    for worker in (1, 0):
        labels = {"slice-name": "lab", "worker-id": str(worker), "pod-type": "v4-16", "topology": "2x2x2"}
        nodes(
            1,
            "slice",
            resources={"TPU": 4, "lab": 1} | ({"TPU-v4-16-head": 1} if worker == 0 else {}),
            labels={f"ray.io/tpu-{name}": value for name, value in labels.items()}
            | {"ray.io/accelerator-type": "TPU-V4"},
            env_vars={
                "TPU_NAME": "lab",
                "TPU_WORKER_ID": str(worker),
                "TPU_ACCELERATOR_TYPE": "v4-16",
                "TPU_TOPOLOGY": "2x2x2",
            },
        )
    store, order = one_cell(tmp_path, 200)
    engine = RayEngine(Settings(address=cluster.address, topology="2x2x2", accelerator="v4"))
    (handle,) = engine.submit(order, 1)
    seen = end_of(engine, handle)
    assert seen.state == "ended", seen.why
    import ray

    places = {node["NodeID"][:8]: node["Labels"].get("ray.io/tpu-worker-id") for node in ray.nodes()}
    assert [places[place.split("/")[1]] for place in seen.place.split()] == ["0", "1"]
    assert len(store.records()) == 1
    (waits,) = RayEngine(Settings(address=cluster.address, topology="4x4x4", accelerator="v4")).submit(HELP, 1)
    other = RayEngine(Settings(address=cluster.address, topology="4x4x4", accelerator="v4"))
    assert "no node of the cluster belongs to a TPU slice of topology 4x4x4" in other.observe([waits])[waits].why
    other.cancel([waits])
    assert end_of(other, waits).state == "ended"


ASKS = """
import sys
from launch.engines import Order
from launch.engines.ray.engine import RayEngine, Settings
engine = RayEngine(Settings(address=sys.argv[1], resources={"left": 1}))
print(engine.submit(Order("test", sys.argv[2], ("work", sys.argv[2], "--launch=test", "--lease-seconds=9")), 1)[0])
"""


@pytest.mark.slow
def test_an_allocation_goes_on_without_the_command_that_asked_and_any_other_can_end_it(
    cluster, nodes, python, tmp_path
):
    nodes(1, "left")
    store, _ = one_cell(tmp_path, FOREVER)
    asked = run(python, "-c", ASKS, cluster.address, str(store.path))
    assert asked.returncode == 0, asked.stderr
    handle = asked.stdout.strip()
    wait_until(lambda: steps_done(store) > 0)
    engine = RayEngine(Settings(address=cluster.address))
    assert engine.observe([handle])[handle].state == "running"
    engine.cancel([handle])
    assert end_of(engine, handle).state == "ended"
    assert not processes_of(str(store.path))


@pytest.mark.slow
def test_a_study_whose_node_is_lost_ends_like_a_local_run(cluster, nodes, scaling, study_file):
    words = ("--set", "num_steps=40000", "--execution", "population=1")
    first, _ = nodes(2, "study")
    far_run = scaling.start(
        "run", study_file, "--store", "far", *words, "--json", "--engine", "ray", "--allocations", 2,
        "--option", f"address={cluster.address}", "--option", 'resources={"study": 1}',
    )  # fmt: skip
    far = scaling.folder / "far"
    wait_until(lambda: len(list((far / "cells").glob("*/record.json"))) >= 1)
    cluster.remove_node(first, allow_graceful=False)
    out, err = far_run.communicate(timeout=300)
    assert far_run.returncode == 0, err
    assert "preempted" in err
    assert json.loads(out)["complete"] == 12, "standard output holds the document alone"
    assert scaling("run", study_file, "--store", "near", *words, "--workers", 2).returncode == 0
    assert rows_of(Store(far)) == rows_of(Store(scaling.folder / "near"))
    wait_until(lambda: not processes_of(str(far)))


@pytest.mark.slow
def test_a_cluster_of_another_version_is_refused_in_one_line(cluster):
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
    from ray._raylet import GcsClient

    from launch.engines.ray.connection import disconnect

    disconnect()
    table, key = GcsClient(address=cluster.address), CLUSTER_METADATA_KEY
    before = table.internal_kv_get(key, KV_NAMESPACE_CLUSTER)
    other = json.dumps(json.loads(before) | {"ray_version": "2.40.0"}).encode()
    table.internal_kv_put(key, other, True, KV_NAMESPACE_CLUSTER)
    try:
        with pytest.raises(EngineError, match=r"Version mismatch.*2\.40\.0") as found:
            RayEngine(Settings(address=cluster.address)).submit(HELP, 1)
    finally:
        table.internal_kv_put(key, before, True, KV_NAMESPACE_CLUSTER)
    assert "\n" not in str(found.value)


@pytest.mark.slow
class TestRay(EngineContract):
    """The contract."""

    @pytest.fixture
    def lab(self, cluster, nodes, tmp_path) -> RayLab:
        """The cluster as an engine."""
        nodes(2, "contract")
        return RayLab(cluster, Store(tmp_path / "store"))
