"""A worker process as its agent sees it: told everything by its command line, and read to its last words."""

import itertools
import json
import signal
import sys

import pytest

from launch.engines import EngineError
from launch.options import Options
from launch.workers import forks
from launch.workers.replies import CellEnded, JobDone
from launch.workers.slots import Slot
from launch.workers.worker_process import WorkerProcess

OPTIONS = Options(retries=3, trackers=("jsonl",))

# In place of a worker: keeps what it was told, answers each request with two replies, and dies at one that says so.
STAND_IN = """
import json, os, pathlib, signal, sys
told = {"words": sys.argv[1:], "place": os.environ.get("PLACE")}
pathlib.Path(__file__).with_name("told.json").write_text(json.dumps(told))
print(json.dumps({"event": "ready", "worker": "w"}), flush=True)
for line in sys.stdin:
    if "die" in line:
        print("torn", end="", flush=True)
        print("my last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"event": "record", "cell": json.loads(line)["train"][0], "status": "ok"}), flush=True)
    print(json.dumps({"event": "done"}), flush=True)
"""


@pytest.fixture
def start(bare_store, tmp_path, monkeypatch):
    """Starts stand-ins in place of workers."""
    program = tmp_path / "stand_in.py"

    def make(text: str = STAND_IN) -> WorkerProcess:
        program.write_text(text)
        started = forks.subprocess.Popen
        monkeypatch.setattr(
            forks.subprocess, "Popen",
            lambda words, **how: started([sys.executable, str(program), *words[1:]], **how),
        )  # fmt: skip
        slot = Slot(frozenset(), {"PLACE": "here"})
        return WorkerProcess(bare_store, slot, OPTIONS, "a-launch", "a-launch-host-1")

    return make


def test_a_worker_is_told_its_store_its_options_and_its_launch_and_answers(start, bare_store, tmp_path):
    worker = start()
    worker.wait_until_ready()
    told = json.loads((tmp_path / "told.json").read_text())
    words = dict(word.removeprefix("--").split("=", 1) for word in told["words"] if word.startswith("--"))
    assert (words["store"], words["launch"], told["place"]) == (str(bare_store.path), "a-launch", "here")
    assert Options.model_validate_json(words["options"]) == OPTIONS
    assert list(itertools.islice(worker.ask(train=["a"]), 2)) == [CellEnded(cell="a", status="ok"), JobDone()]
    worker.close()
    assert (bare_store.path / "logs" / "a-launch-host-1.log").exists()


def test_a_worker_that_dies_is_noticed_and_its_last_words_are_kept(start):
    worker = start()
    worker.wait_until_ready()
    assert worker.worker == "w"
    assert list(worker.ask(die=True)) == []
    assert worker.has_ended
    assert worker.last_words() == f"the worker process ended with signal {signal.SIGKILL.name}\nmy last words\n"
    assert list(worker.ask(train=["a"])) == []  # nobody is there
    worker.close()


def test_a_worker_that_does_not_start_says_why(start):
    worker = start("raise SystemExit('no room')")
    with pytest.raises(EngineError, match=r"^a worker did not start: .*exit status 1: no room$"):
        worker.wait_until_ready()
    worker.close()


def test_of_a_worker_that_is_killed_before_it_is_ready_the_signal_is_told(start):
    worker = start("import os; os.kill(os.getpid(), 9)")
    assert worker.wait_until_ready() == "the worker process ended with signal SIGKILL"
    worker.close()
