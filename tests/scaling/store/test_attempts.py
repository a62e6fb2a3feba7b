"""Attempts: who began a cell and how it ended, whatever was torn on the way."""

import os

from scaling.store import attempts
from tests.scaling.store.toy_study import CELLS


def test_a_torn_line_hides_no_attempt(store):
    folder = store.cell_path(CELLS[0].fingerprint())
    first = attempts.start_attempt(folder)
    log = folder / attempts.FILE
    log.write_text(log.read_text() + '{"attempt": "torn')
    attempts.end_attempt(folder, first, "ok")
    assert [(a.event, a.outcome) for a in attempts.read_attempts(folder)] == [("start", None), ("end", "ok")]


def test_an_attempt_is_open_until_it_ends(store):
    folder = store.cell_path(CELLS[0].fingerprint())
    assert (attempts.open_attempt(folder), attempts.last_status(folder)) == (None, "missing")
    for outcome, status in (("failed", "failed"), ("interrupted", "interrupted"), ("ok", "interrupted")):
        name = attempts.start_attempt(folder, launch="l1", worker="w1")
        begun = attempts.open_attempt(folder)
        assert (begun.attempt, begun.launch, begun.worker, begun.pid) == (name, "l1", "w1", os.getpid())
        assert attempts.last_status(folder) == "started"
        attempts.end_attempt(folder, name, outcome, "Traceback …" if outcome == "failed" else None)
        assert (attempts.open_attempt(folder), attempts.last_status(folder)) == (None, status)


def test_a_launch_counts_its_own_attempts_alone(store):
    folder = store.cell_path(CELLS[0].fingerprint())
    for launch, outcome in (("l1", "failed"), ("l1", "failed"), ("l1", "interrupted"), ("l2", "ok"), (None, "ok")):
        attempts.end_attempt(folder, attempts.start_attempt(folder, launch=launch), outcome)
    attempts.start_attempt(folder, launch="l1")
    assert attempts.count_outcomes(folder, "l1") == {"failed": 2, "interrupted": 1}
    assert attempts.count_outcomes(folder, None) == {"ok": 1}
    assert attempts.count_outcomes(folder, "l3") == {}
