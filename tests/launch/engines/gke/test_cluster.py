"""A Kubernetes cluster through its client: what is refused has a remedy in one line, what may pass is tried again."""

import json
import socket
from pathlib import Path

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("jsonschema")

from launch.engines import EngineError
from launch.engines.gke import cluster as gke_cluster
from tests.launch.engines.gke.orders import ORDER, make
from tests.launch.engines.kube_server import KubeServer


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (401, "Unauthorized", "gcloud auth login"),
        (403, "jobsets is forbidden: User cannot create", "ask for a role on jobsets.jobset.x-k8s.io"),
        (404, "the server could not find the requested resource", "install JobSet"),
        (422, "spec.suspend: Invalid value", "does not take this JobSet"),
        (400, "admission webhook denied: no such queue", "does not take this JobSet"),
    ],
)
def test_a_refusal_is_one_line_with_a_remedy_and_is_not_repeated(cluster, store, status, message, words):
    cluster.refuse(status, message)
    with pytest.raises(EngineError, match=words) as caught:
        make(store).submit(ORDER, 1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(cluster.requests) == 1


def test_what_may_pass_is_tried_again_and_not_for_ever(cluster, store):
    engine = make(store)
    cluster.refuse(429, "too many requests", times=2)
    assert len(engine.submit(ORDER, 1)) == 1
    assert len(cluster.requests) == 3
    cluster.requests.clear()
    cluster.refuse(503, "etcd leader changed")
    with pytest.raises(EngineError, match="answers 503"):
        engine.observe([])
    assert len(cluster.requests) == gke_cluster.TRIES


def test_a_job_set_whose_answer_was_lost_is_not_made_twice(cluster, store, monkeypatch):
    create = cluster._create
    lost = iter([True])

    def make_and_lose(body):
        made = create(body)
        return (503, {"message": "connection reset"}) if next(lost, False) else made

    monkeypatch.setattr(cluster, "_create", make_and_lose)
    (name,) = make(store).submit(ORDER, 1)
    assert list(cluster.job_sets) == [name]


def test_a_machine_without_network_and_one_without_a_cluster_say_so(store, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(EngineError, match="gcloud container clusters get-credentials"):
        make(store).observe([])
    with KubeServer() as cluster, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        config = json.loads(Path(cluster.environment["KUBECONFIG"]).read_text())
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        with pytest.raises(EngineError, match=r"does not answer .*this machine's network"):
            make(store).observe([])
        with pytest.raises(EngineError, match="get-credentials"):
            make(store, "context=elsewhere").observe([])
