"""A stand-in for the Cloud TPU API; calls are repeated at once, and this checkout is packed once."""

import pytest

from launch.engines.cloud_tpu import api as cloud_tpu_api
from launch.engines.cloud_tpu import engine as cloud_tpu
from launch.engines.cloud_tpu.code import pack_checkout


@pytest.fixture
def server():
    """The API, where nothing happens by itself."""
    from tests.launch.engines.tpu_server import TpuServer  # needs Google's client, as the tests do

    with TpuServer() as made:
        yield made


@pytest.fixture
def running_hosts(buckets):
    """The API, whose machines come at once and whose hosts are processes that run."""
    from tests.launch.engines.tpu_server import TpuServer

    with TpuServer(automatic=True, hosts_run=True) as made:
        yield made


@pytest.fixture(scope="session")
def archive():
    """This checkout."""
    return pack_checkout()


@pytest.fixture(autouse=True)
def quick(monkeypatch, archive):
    """Pauses are short, and nothing is packed again."""
    monkeypatch.setattr(cloud_tpu_api, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(cloud_tpu, "pack_checkout", lambda: archive)
