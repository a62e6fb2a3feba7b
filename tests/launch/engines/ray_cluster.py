"""Ray clusters that tests start on this machine and end again, and a study of one cell to train on them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.engines import LIVE, Order, Sighting, reconnect
from launch.engines.ray.engine import RayEngine
from scaling.specs.study import resolve_study
from scaling.store.store import Store
from tests.launch.waiting import wait_until

ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

ONE_CELL = """
from scaling.specs.cell import *
from scaling.specs.data import *
from scaling.specs.models import *
from scaling.specs.study import *
from scaling.specs.schedules import *
from scaling.specs.training import *

def study(num_steps: int = 200) -> Study:
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=num_steps)
    data = DataSpec(source=DigitsSource(), size=200, evaluation_size=400)
    cell = Cell(model=MLPSpec(num_params=3000), data=data, training=training, seed=0)
    return Study(name="one", question="?", metric="error", series=(Series(label="mlp", cells=(cell,)),))
"""
FOREVER = 5_000_000  # steps, which take minutes: until it is told to stop
HELP = Order("test", "nowhere", ("--help",))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT, **environment}
    )


def processes_of(words: str) -> list[str]:
    """Returns the command lines, of all processes of this machine, that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def one_cell(folder: Path, num_steps: int) -> tuple[Store, Order]:
    """Returns a new store of a study of one cell, and the order to train it."""
    file = folder / "one.py"
    file.write_text(ONE_CELL)
    store = Store(folder / "store")
    store.create(resolve_study(str(file), [f"num_steps={num_steps}"]).canonical_json())
    return store, Order("test", str(store.path), ("work", str(store.path), "--launch=test", "--lease-seconds=9"))


def steps_done(store: Store) -> int:
    """Returns how far the cell is by the workers' heartbeats."""
    beats = [json.loads(path.read_text()) for path in (store.path / "workers").glob("*.json")]
    return max((done for beat in beats for done, _ in beat["steps"].values()), default=0)


def end_of(engine: RayEngine, handle: str) -> Sighting:
    """Waits for an allocation to end, and returns its last sighting."""
    seen: list[Sighting] = []

    def has_ended() -> bool:
        seen.append(engine.observe([handle])[handle])
        return seen[-1].state not in LIVE

    wait_until(has_ended)
    return seen[-1]


@contextlib.contextmanager
def short_folder() -> Iterator[str]:
    """A folder for a cluster, whose sockets must have short names."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@contextlib.contextmanager
def growing_cluster() -> Iterator[Any]:
    """A cluster whose head gives nothing, and to which nodes can be added."""
    with pytest.MonkeyPatch.context() as patch, short_folder() as folder:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        from launch.engines.ray.connection import disconnect

        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        disconnect()
        cluster.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        wait_until(lambda: not processes_of(folder))


@contextlib.contextmanager
def lone_cluster(**environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """A cluster of one node as people start it: its address, and the command that started it."""
    words = ["start", "--head", "--block", "--port=0", "--num-cpus=1", "--include-dashboard=false"]
    with short_folder() as folder:
        ray = subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), *words, f"--temp-dir={folder}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **ENVIRONMENT, **environment},
        )  # fmt: skip
        try:
            yield next(line.split("--address='")[1].split("'")[0] for line in ray.stdout if "--address='" in line), ray
        finally:
            ray.terminate()
            ray.wait()
            ray.stdout.close()
            wait_until(lambda: not processes_of(folder))


class RayLab:
    """A cluster as the contract's tests see it: nodes that have the resource `contract`."""

    name = "ray"

    def __init__(self, cluster: Any, store: Store) -> None:
        self.settings = {"address": cluster.address, "resources": {"contract": 1}}
        self._cluster = cluster
        self.engine = reconnect("ray", self.settings, store)

    def lose(self, handle: str) -> None:
        """Cuts the power of the node that an allocation is on."""
        name = self.engine.observe([handle])[handle].place.split("/")[1]
        (node,) = (node for node in self._cluster.worker_nodes if node.node_id.startswith(name))
        self._cluster.remove_node(node, allow_graceful=False)
