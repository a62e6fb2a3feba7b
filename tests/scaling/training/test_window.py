"""Claims about the window of losses: means and sums do not depend on chunks, and a kill or a fork loses no bit."""

import json

import numpy as np
import pytest

from scaling.training import window
from scaling.training.window import LossWindow


@pytest.fixture
def losses() -> np.ndarray:
    """Losses [S, P] of forty steps of two members."""
    return np.random.default_rng(0).normal(2.0, 1.0, (40, 2))


def feed(curve: LossWindow, losses: np.ndarray, chunk: int, start: int = 0) -> list:
    points = []
    for begin in range(start, len(losses), chunk):
        rows = losses[begin : begin + chunk]
        points += curve.add(begin + len(rows), rows)
    return points


def same_points(ours: list, theirs: list) -> bool:
    return [step for step, _ in ours] == [step for step, _ in theirs] and all(
        (one == other).all() for (_, one), (_, other) in zip(ours, theirs, strict=True)
    )


def test_points_are_means_of_stretches_of_the_run(losses, monkeypatch):
    monkeypatch.setattr(window, "CURVE_POINTS", 10)
    points = feed(LossWindow(2, 40), losses, 7)
    assert [step for step, _ in points] == list(range(4, 41, 4))
    np.testing.assert_array_equal(points[1][1], losses[4:8].mean(axis=0))


@pytest.mark.parametrize("chunk", [1, 3, 40])
def test_where_chunks_end_changes_no_bit(losses, monkeypatch, chunk):
    monkeypatch.setattr(window, "CURVE_POINTS", 10)
    whole, chunked = LossWindow(2, 40), LossWindow(2, 40)
    assert same_points(feed(whole, losses, 8), feed(chunked, losses, chunk))
    assert (whole.sums == chunked.sums).all()


def test_what_a_checkpoint_has_kept_goes_on_to_the_same_bits(losses, monkeypatch):
    monkeypatch.setattr(window, "CURVE_POINTS", 10)
    losses[5] = np.inf, np.nan  # a run that diverges is kept, too
    whole, before, after = (LossWindow(2, 40) for _ in range(3))
    expected = feed(whole, losses, 9)
    points = feed(before, losses[:18], 9)
    after.restore(json.loads(json.dumps(before.state())))
    points += feed(after, losses, 9, start=18)
    assert [step for step, _ in points] == [step for step, _ in expected]
    np.testing.assert_array_equal([means for _, means in points], [means for _, means in expected])
    np.testing.assert_array_equal(after.sums, whole.sums)


def test_leaves_go_on_from_their_fork(losses):
    curve = LossWindow(2, 4000)  # a point every forty steps
    curve.add(10, losses[:10])
    curve.mark_fork()
    at_fork = curve.sums.copy()
    curve.add(30, losses[10:30])
    curve.return_to_fork()
    np.testing.assert_array_equal(curve.sums, at_fork)
    ((step, means),) = curve.add(40, losses[10:40])
    assert step == 40
    np.testing.assert_array_equal(means, losses.mean(axis=0))
