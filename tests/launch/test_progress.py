"""What a person sees of a run: few lines, the last one always, and every failure by name."""

import pytest

from launch.progress import Ended, Progress, format_seconds
from tests.launch.queue.cells import MLP, seeds

CELLS = seeds(MLP, 5)


def test_lines_are_few_and_the_first_the_last_and_failures_are_among_them(capsys):
    progress = Progress(5, work=5.0)
    for cell, status in zip(CELLS, ("ok", "ok", "failed", "diverged", "ok"), strict=True):
        progress.update(cell, status, 1.0)
    progress.close()
    first, failure, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"[1/5] mlp m=100 seed=0 ({CELLS[0].fingerprint()}): ok")
    assert failure == f"failed: mlp m=100 seed=2 ({CELLS[2].fingerprint()})"
    assert last.startswith("[5/5]")
    assert last.endswith("about 0 s left · 1 diverged · 1 failed")


def test_the_time_left_follows_the_work_and_not_the_number_of_cells(capsys):
    progress = Progress(2, work=100.0)
    progress._started -= 10.0
    progress.update(CELLS[0], "ok", 20.0)
    assert "10 s elapsed, about 40 s left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (600, "10 min"), (86_400, "24 h 0 min")]
)
def test_durations_are_told_as_people_would(seconds, words):
    assert format_seconds(seconds) == words


def test_cells_are_counted_by_how_they_ended():
    ended = Ended({"a": "ok", "b": "failed", "c": "ok"}, stopped=False)
    assert (ended.count("ok"), ended.count("failed"), ended.count("diverged")) == (2, 1, 0)
