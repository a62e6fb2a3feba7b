"""What a person sees of a sweep: cells counted by state, and every worker with what it does."""

import json
import os
import subprocess
import sys

import pytest

from launch.coordination.presence import Presence, beat_path, identify
from scaling.store import attempts
from tests.launch.commands.stores import names


def test_a_worker_is_shown_with_its_place_progress_throughput_cost_and_last_error(here, store, monkeypatch):
    monkeypatch.setenv("SCALING_PLACE", "slurm 12_3")
    cell = names(store)[0]
    folder = store.cell_path(cell)
    attempts.end_attempt(folder, attempts.start_attempt(folder), "interrupted", "Traceback\nlost: the node")
    attempts.start_attempt(folder)
    with Presence(store, "a-launch") as presence:
        presence.begin(cells=(cell,), steps={cell: (0, 0)}, device_kind="TPU v4", num_devices=4)
        presence.tell({cell: (250, 1000)}, 12.5)
        presence.beat()
        found = here.json("status", "store")
        text = here("status", "store").stdout
    (job,) = found["jobs"]
    assert found["is_running"]
    assert (job["state"], job["place"], job["launch"]) == ("training", "slurm 12_3", "a-launch")
    assert (job["pid"], job["cells"], job["attempt"]) == (os.getpid(), [cell], 2)
    assert (job["progress"], job["steps_per_second"], job["last_error"]) == (0.25, 12.5, "lost: the node")
    assert job["dollars"] == pytest.approx(4 * 3.22 * job["seconds"] / 3600)
    assert found["dollars_spent"] == pytest.approx(job["dollars"])
    assert sum(one["running"] for one in found["series"]) == 1
    for words in ("slurm 12_3", "25%", "12.5", "lost: the node"):
        assert words in text


def test_a_worker_whose_process_has_ended_without_a_word_is_lost(here, store):
    with Presence(store) as presence:
        presence.begin(cells=(names(store)[0],))
        text = beat_path(store, presence.worker).read_text()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    gone = identify(ended.pid).canonical_json()
    ended.wait()
    spec = json.loads(text) | {"worker": "gone", "identity": json.loads(gone)}
    beat_path(store, "gone").write_text(json.dumps(spec))
    found = here.json("status", "store")
    assert [job["state"] for job in found["jobs"]] == ["lost"]
    assert not found["is_running"]
    assert sum(one["running"] for one in found["series"]) == 0


def test_status_counts_cells(finished, here):
    found = here.json("status", "store")
    assert [(one["label"], one["done"], one["left"]) for one in found["series"]] == [("linear", 6, 0), ("mlp", 6, 0)]
    assert not found["is_running"]
    assert "complete" in here("status", "store").stdout
