"""An order, engines that send it to a stand-in for the API, and what its hosts say of themselves."""

import json
import time

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from launch.engines import Order, connect

ORDER = Order("20250101-120000-abcdef", "gs://bucket/store", ("work", "gs://bucket/store", "--launch=x"))


def make(server, store, *assignments):
    base = ("project=p", "zone=us-west4-a", f"endpoint={server.endpoint}", "accelerator=v5litepod-8")
    return connect("cloud_tpu", [*base, *assignments], store)[0]


def at(engine, seconds):
    """Moves an engine's clock."""
    later = time.time() + seconds
    engine._clock = engine._watch._clock = lambda: later
    return engine


def node_of(server, handle):
    (spec,) = server.requests[handle].tpu.node_spec
    return spec.node


def report(store, handle, *, host="host-0", worker=0, ago=0.0, status=None, told="", why=""):
    now = time.time()
    said = {"host": host, "worker": worker, "began": now, "seen": now - ago, "status": status, "told": told, "why": why}
    (store.path / "cloud_tpu" / handle / f"{host}.json").write_text(json.dumps(said))
