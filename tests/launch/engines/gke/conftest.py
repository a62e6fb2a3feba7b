"""A stand-in for a Kubernetes cluster; calls are repeated at once."""

import pytest

from launch.engines.gke import cluster as gke_cluster


@pytest.fixture
def cluster():
    """The cluster, where no pod runs."""
    from tests.launch.engines.kube_server import KubeServer  # needs Kubernetes' client, as the tests do

    with KubeServer() as made:
        yield made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Pauses between two tries are short."""
    monkeypatch.setattr(gke_cluster, "FIRST_PAUSE_SECONDS", 0.001)
