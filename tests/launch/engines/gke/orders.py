"""An order, and engines that send it to a stand-in for a cluster."""

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("jsonschema")

from launch.engines import Order, connect

ORDER = Order("20250101-120000-abcdef", "gs://bucket/store", ("work", "gs://bucket/store", "--launch=x"))


def make(store, *assignments):
    return connect("gke", ["image=us-docker.pkg.dev/p/r/scaling:1", "accelerator=v5litepod-8", *assignments], store)[0]
