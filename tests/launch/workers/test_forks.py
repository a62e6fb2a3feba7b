"""Forked processes: as good as new ones, with what they need loaded; the server that forks them is nobody's burden."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from launch.engines import EngineError
from launch.workers.forks import ForkServer, can_fork, start_process
from launch.workers.slots import Slot
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec, MLPSpec
from scaling.specs.training import AdamWSpec, TrainingSpec
from tests.launch.waiting import wait_until

pytestmark = pytest.mark.skipif(not can_fork([]), reason="needs Linux")

DATA = DataSpec(source=DigitsSource(), size=50, evaluation_size=100)
LINEAR = Cell(model=LogisticRegressionSpec(), data=DATA)
NETWORK = Cell(model=MLPSpec(width=8), data=DATA, training=TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), num_steps=3))

PROBE = """
import json, os, pathlib, sys

def start(words):
    server = pathlib.Path(f"/proc/{os.getppid()}")
    bridge = sys.modules.get("jax._src.xla_bridge")
    print(json.dumps({
        "words": words, "argv": sys.argv[1:], "place": os.environ.get("PLACE"),
        "threads": os.environ["OMP_NUM_THREADS"],
        "cores": sorted(os.sched_getaffinity(0)), "leads": os.getsid(0) == os.getpid(), "server": os.getppid(),
        "server_threads": len(list((server / "task").iterdir())),
        "has_devices": bridge is not None and bridge.backends_are_initialized(),
        "files": sorted(os.listdir("/proc/self/fd"), key=int)[3:-1],
        "modules": [name for name in ("jax", "flax", "sklearn", "optax", "orbax", "scipy") if name in sys.modules],
    }), flush=True)
    for line in sys.stdin:
        print(line.upper(), end="", file=sys.stderr, flush=True)
        if line == "exit\\n":
            sys.exit(3)
        print(json.dumps(line), flush=True)
"""


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """Lets servers find the probe; starts it in a slot."""
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")

    started = []

    def start(server, slot=Slot(frozenset(), {}), words=()):  # noqa: B008  (frozen)
        with (tmp_path / "errors").open("ab") as errors:
            started.append(start_process("probe", words, slot, errors, server))
        return started[-1]

    yield start
    for process in started:
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def test_a_forked_process_has_its_own_words_files_cores_variables_and_session(probes, tmp_path):
    core = min(os.sched_getaffinity(0))
    with ForkServer([]) as server:
        process = probes(server, Slot(frozenset({core}), {"PLACE": "here"}), ["a", "b"])
        told = json.loads(process.stdout.readline())
        assert told["words"] == told["argv"] == ["a", "b"]
        assert (told["place"], told["threads"], told["cores"], told["leads"]) == ("here", "1", [core], True)
        process.stdin.write("hello\n")
        assert json.loads(process.stdout.readline()) == "hello\n"
        process.stdin.write("exit\n")
        assert process.wait() == 3
        assert (tmp_path / "errors").read_text() == "HELLO\nEXIT\n"


def test_the_server_has_one_thread_no_device_and_loads_what_the_cells_need(probes):
    for cells, modules in (
        ([NETWORK], {"jax", "flax", "optax"}),
        ([LINEAR], {"jax", "sklearn", "scipy"}),
    ):
        with ForkServer(cells) as server:
            told = json.loads(probes(server).stdout.readline())
        assert (told["server_threads"], told["has_devices"]) == (1, False)
        assert set(told["modules"]) == modules


def test_processes_do_not_hold_each_others_files(probes):
    with ForkServer([]) as server:
        first, second = probes(server), probes(server)
        for process in (first, second):
            assert json.loads(process.stdout.readline())["files"] == []
        first.stdin.close()  # which the second one would keep open
        assert first.wait() == 0
        second.kill()
        assert second.wait() == -signal.SIGKILL


def test_a_server_that_is_killed_is_replaced_and_its_processes_go_on(probes):
    with ForkServer([]) as server:
        old = probes(server)
        told = json.loads(old.stdout.readline())
        os.kill(told["server"], signal.SIGKILL)
        wait_until(lambda: Path(f"/proc/{told['server']}/stat").read_text().split()[2] == "Z")
        new = probes(server)
        assert json.loads(new.stdout.readline())["server"] != told["server"]
        old.stdin.write("still here\n")
        assert json.loads(old.stdout.readline()) == "still here\n"
        old.kill()
        assert old.wait() == -signal.SIGKILL
    with pytest.raises(EngineError, match="has ended"):
        probes(server)


def test_a_server_ends_with_its_client_also_while_it_loads(probes):
    server = ForkServer([NETWORK])
    pid = server._process.pid
    server._channel.close()
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", seconds=30)
    server._process.wait()


def test_with_accelerators_interpreters_are_started():
    assert can_fork([Slot(frozenset({0}), {})])
    assert not can_fork([Slot(frozenset({0}), {"CUDA_VISIBLE_DEVICES": "0"})])
