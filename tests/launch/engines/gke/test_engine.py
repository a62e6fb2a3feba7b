"""The GKE engine: JobSets against a strict schema, the real client against a stand-in cluster, and pods that run."""

import json
import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("jsonschema")

from launch.engines import connect, find_anywhere, reconnect
from scaling.specs.base import InputError
from scaling.store.store import Store
from tests.launch.engines.contract import BucketContract
from tests.launch.engines.gke.orders import ORDER, make
from tests.launch.engines.kube_server import KubeServer, find_faults
from tests.launch.waiting import wait_until

# In place of the interpreter: says how it was called, and ends with the status that a file says.
AGENT = """#!/bin/bash
echo "agent: $* index=$JOB_COMPLETION_INDEX place=$SCALING_PLACE secret=$SECRET"
while [ ! -e "{folder}/status" ]; do sleep 0.05; done
exit $(cat "{folder}/status")
"""


@pytest.fixture
def running_cluster(buckets):
    with KubeServer(pods_run=True) as made:
        yield made


@pytest.fixture
def agent(tmp_path):
    path = tmp_path / "agent.sh"
    path.write_text(AGENT.format(folder=tmp_path))
    path.chmod(0o755)
    return f"python={path}"


def described(engine, count=1):
    return json.loads(engine.describe(ORDER, count))["items"]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("image=", "--option image=… is missing"),
        ("accelerator=v5litepod-12", "nearest is 'v5litepod-16'"),
        ("accelerator=v3-8", "GKE has no v3"),
        ("accelerator=v5p-384", "give topology=…"),
        ("slices=2", "joins slices of several hosts only"),
        ("priority=high", "give a queue=… too"),
        ('env=["KEY=value"]', "is no name of a variable"),
        ("imgae=x", "did you mean 'image'?"),
    ],
)
def test_what_is_missing_or_does_not_exist_is_refused_in_one_line(store, assignment, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        make(store, assignment)
    assert "\n" not in str(caught.value)


def test_a_store_that_a_cluster_cannot_see_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot see it; give a folder of a bucket, as gs://"):
        make(Store(tmp_path))


VARIANTS = [
    (),
    ("accelerator=v4", "topology=2x2x4", "slices=3", "queue=tpus", "priority=low", "service_account=trainer"),
    ("accelerator=v6e-16", "spot=true", 'secrets=["wandb"]', "max_restarts=0", "reservation=mine"),
    ("accelerator=tpu7x", "topology=4x4x4"),
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_job_set_is_what_the_strict_schema_allows(store, variant):
    (made,) = described(make(store, *variant))
    assert find_faults(made) == []
    pod = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    pod["containers"][0]["imagePullPolicies"] = "Always"
    assert "imagePullPolicies" in find_faults(made)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_job_set_survives_the_typed_models_whole(store, variant):
    """Models made from JobSet's own definition drop what they do not know and refuse other types."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    (made,) = described(make(store, *variant))
    assert list(find_losses(made, models.JobsetV1alpha2JobSet.from_dict(made).to_dict())) == []
    made["spec"]["replicatedJobs"][0]["template"]["spec"]["backOffLimit"] = 0
    (lost,) = find_losses(made, models.JobsetV1alpha2JobSet.from_dict(made).to_dict())
    assert lost.endswith("backOffLimit")


def find_losses(before, after, where=""):
    """Yields the places at which something is gone or another; defaults may have come."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from find_losses(value, after.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from find_losses(one, other, f"{where}[{index}]")
    elif before != after:
        yield where


def test_a_slice_of_several_hosts_is_one_indexed_job_that_starts_again_as_a_whole(store):
    (made,) = described(make(store, "accelerator=v5e", "topology=4x4", "slices=2", "queue=tpus", "priority=low"))
    (one,) = made["spec"]["replicatedJobs"]
    job, pod = one["template"]["spec"], one["template"]["spec"]["template"]["spec"]
    assert (one["replicas"], job["parallelism"], job["completions"]) == (2, 4, 4)
    assert (job["completionMode"], job["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": "4"}
    assert container["command"] == ["python3", "-P", "-m", "launch.cli", *ORDER.words, "--distributed"]
    labels = made["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "tpus"
    assert labels["kueue.x-k8s.io/priority-class"] == "low"
    assert (labels["scaling-launch"], labels["scaling-study"]) == (ORDER.launch, "my-study")


def test_one_host_has_all_its_chips_and_no_gang(store):
    (made,) = described(make(store, "spot=true"))
    pod = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": "8"}
    assert "--distributed" not in pod["containers"][0]["command"]
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert "cloud.google.com/gke-spot" in [one["key"] for one in pod["tolerations"]]


def test_statuses_say_whether_a_restart_is_worth_it(store):
    (made,) = described(make(store))
    rules = made["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    stops = rules[1]["onExitCodes"]
    assert (rules[1]["action"], stops["operator"]) == ("FailJob", "NotIn")
    assert stops["values"] == sorted(stops["values"])
    again = set(stops["values"])
    assert {42, 75, 127, 137, 139, 143, 255} <= again
    assert not {1, 2, 126} & again


def test_the_description_is_what_is_created_and_asks_nobody(cluster, store, monkeypatch):
    monkeypatch.setenv("SECRET", "it's a 'secret'")
    engine = make(store, 'env=["SECRET"]')
    text = engine.describe(ORDER, 2)
    assert not cluster.requests
    assert "secret'" not in text
    (told, _) = json.loads(text)["items"]
    (name, _) = engine.submit(ORDER, 2)
    sent = next(body for method, _, body in cluster.requests if method == "POST")
    assert sent["metadata"]["name"] == name
    variables = sent["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variables[1] == {"name": "SECRET", "value": "it's a 'secret'"}
    variables[1]["value"] = "(hidden)"
    assert {**told, "metadata": {**told["metadata"], "name": name}} == sent
    monkeypatch.delenv("SECRET")
    with pytest.raises(InputError, match="env='SECRET' is not set here"):
        engine.submit(ORDER, 1)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_reads_the_description(store, tmp_path):
    path = tmp_path / "job-sets.json"
    path.write_text(make(store).describe(ORDER, 2))
    words = ["kubectl", "annotate", "--local", "-f", str(path), "seen=yes", "-o", "name"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.count("jobset.jobset.x-k8s.io/scaling-") == 2, done.stderr


def test_conditions_are_told_in_the_engines_words(cluster, store):
    engine = make(store)
    new, queued, half, up, done, bad, gone = engine.submit(ORDER, 7)
    cluster.set_status(queued, conditions=[{"type": "Suspended", "status": "True"}])
    cluster.set_status(half, replicatedJobsStatus=[{"name": "slice", "ready": 0, "active": 1}], restarts=2)
    held = [{"type": "Suspended", "status": "False"}]
    cluster.set_status(up, replicatedJobsStatus=[{"name": "slice", "ready": 1}], restarts=1, conditions=held)
    cluster.set_status(done, conditions=[{"type": "Completed", "status": "True"}])
    failed = {"type": "Failed", "status": "True", "reason": "ReachedMaxRestarts", "message": "a job failed"}
    cluster.set_status(bad, conditions=[failed])
    del cluster.job_sets[gone]
    seen = engine.observe([new, queued, half, up, done, bad, gone])
    assert [seen[name].state for name in (new, queued, half, up, done, bad, gone)] == [
        "waiting", "waiting", "waiting", "running", "ended", "failed", "ended",
    ]  # fmt: skip
    assert "Kueue" in seen[queued].why
    assert seen[half].why == "0 of 1 slices have all their pods; started again 2 times"
    assert (seen[up].place, seen[up].why) == (up, "started again 1 times")
    assert "ReachedMaxRestarts: a job failed; kubectl logs" in seen[bad].why


def test_another_process_observes_and_cancels_and_may_do_so_twice(cluster, store):
    engine = make(store)
    names = engine.submit(ORDER, 2)
    other = reconnect("gke", engine._settings.model_dump(mode="json"), Store("gs://bucket/store"))
    assert {one.state for one in other.observe(names).values()} == {"waiting"}
    other.cancel([*names, "scaling-unknown"])
    wait_until(lambda: not cluster.job_sets)
    other.cancel(names)
    assert not cluster.job_sets
    assert {one.state for one in other.observe(names).values()} == {"ended"}


def test_a_store_does_not_see_the_job_sets_of_another(cluster, store):
    (mine,) = make(store).submit(ORDER, 1)
    assert make(Store("gs://bucket/other")).observe([mine])[mine].state == "ended"


def test_what_any_launch_has_created_is_found_by_its_labels(cluster, store):
    (mine,) = make(store).submit(ORDER, 1)
    (theirs,) = make(Store("gs://bucket/other")).submit(ORDER, 1)
    cluster.job_sets[theirs]["metadata"]["labels"]["scaling-user"] = "somebody-else"
    (found,) = find_anywhere("gke", [])
    assert (found["name"], found["launch"], found["study"]) == (mine, ORDER.launch, "my-study")


def test_a_lost_pod_starts_all_again_and_failed_cells_do_not(running_cluster, store, agent, tmp_path):
    engine = make(store, agent, "accelerator=v5litepod-16")
    (name,) = engine.submit(ORDER, 1)
    wait_until(lambda: running_cluster.output(name).count("agent:") == 4)
    assert sorted(re.findall(r"index=(\d)", running_cluster.output(name))) == ["0", "1", "2", "3"]
    assert engine.observe([name])[name].state == "running"
    running_cluster.kill_pod(name, 2)
    wait_until(lambda: engine.observe([name])[name].why == "started again 1 times")
    wait_until(lambda: running_cluster.output(name).count("agent:") == 4)
    (tmp_path / "status").write_text("1")
    wait_until(lambda: engine.observe([name])[name].state == "failed")
    assert running_cluster.job_sets[name]["status"]["restarts"] == 1


def test_an_agent_that_has_saved_is_started_again(running_cluster, store, agent, tmp_path):
    engine = make(store, agent, "max_restarts=2")
    (tmp_path / "status").write_text("75")
    (name,) = engine.submit(ORDER, 1)
    wait_until(lambda: engine.observe([name])[name].state == "failed")
    assert "ReachedMaxRestarts" in engine.observe([name])[name].why
    assert running_cluster.job_sets[name]["status"]["restarts"] == 2


class GkeLab:
    """The stand-in, whose pods run."""

    name = "gke"

    def __init__(self, cluster, store):
        self._cluster = cluster
        self.engine, settings = connect("gke", ["image=scaling", f"python={sys.executable}"], store)
        self.settings = settings.model_dump(mode="json")

    def lose(self, handle):
        """Ends the node of an allocation's pod."""
        self._cluster.kill_pod(handle)


@pytest.mark.slow
class TestGke(BucketContract):
    """The contract."""

    @pytest.fixture
    def lab(self, running_cluster):
        return GkeLab(running_cluster, Store("gs://bucket/store"))


@pytest.mark.slow
def test_a_study_whose_pod_is_lost_ends_like_a_local_run(scaling, study_file, buckets):
    sizes = ("--set", "num_steps=4000", "--set", "num_seeds=1", "--checkpoint-steps", 1000, "--workers", 1)
    words = ("run", study_file, "--execution", "population=1", *sizes, "--lease-seconds", 5)
    assert scaling(*words, "--store", "local").returncode == 0
    url = "gs://bucket/toy"
    pods = {"PYTHONPATH": scaling.environment["PYTHONPATH"]}
    with KubeServer(pods_run=True, environment_of_pods=pods) as cluster:
        scaling.environment |= buckets.environment | cluster.environment
        options = ("--option", "image=scaling", "--option", f"python={sys.executable}")
        launcher = scaling.start(*words, "--store", url, "--engine", "gke", *options)
        wait_until(lambda: any(name.endswith("record.json") for name in buckets.names(url)), 300)
        (name,) = cluster.job_sets
        cluster.kill_pod(name)
        _, errors = launcher.communicate(timeout=400)
        assert launcher.returncode == 0, errors
    assert "started again 1 times" in errors
    store, local = Store.open(url), Store.open(scaling.folder / "local")
    assert [row | {"wall_seconds": 0} for row in store.rows()] == [row | {"wall_seconds": 0} for row in local.rows()]
