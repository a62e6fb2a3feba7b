"""Attempts: who began a cell and how it ended, whatever was torn on the way."""

from scaling.store import attempts
from tests.scaling.store.toy_study import CELLS


def test_a_torn_line_hides_no_attempt(store):
    folder = store.cell_path(CELLS[0].fingerprint())
    first = attempts.start_attempt(folder)
    log = folder / attempts.FILE
    log.write_text(log.read_text() + '{"attempt": "torn')
    attempts.end_attempt(folder, first, "ok")
    assert [(a.event, a.outcome) for a in attempts.read_attempts(folder)] == [("start", None), ("end", "ok")]
