"""The ledger comes first, a mirror's trouble is nobody else's, and what is open ends."""

import pytest

from scaling.store.curves import read_curve
from scaling.tracking import CurveFile, Ended, Together, Tracker
from tests.told_runs import NUM_STEPS, networks_of, tell


class Broken(Tracker):
    """Fails at a function."""

    def __init__(self, function):
        self.heard = []
        setattr(self, function, self.fail)

    def fail(self, *_):
        """Fails."""
        self.heard.append("it")
        raise OSError("disk full\nreally")


@pytest.mark.parametrize("function", ["begin", "log", "end"])
def test_a_mirror_that_fails_is_left_out_with_one_line(store, capsys, function):
    broken, cell = Broken(function), networks_of(store)[0]
    record = tell(Together(CurveFile(store.cell_path), {"mine": broken}), store, cell)
    assert broken.heard == ["it"]
    assert store.read_record(cell) == record
    assert len(read_curve(store.cell_path(cell))) == NUM_STEPS + 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("scaling: tracker mine is left out from here on (OSError: disk full really)")


def test_a_ledger_that_fails_ends_the_run(store):
    with pytest.raises(OSError, match="disk full"):
        tell(Together(Broken("log"), {}), store, networks_of(store)[0])


def test_what_is_open_ends_without_a_record(store):
    ended = []

    class Listening(Tracker):
        def end(self, cell, record):
            ended.append((cell, record))

    with pytest.raises(KeyboardInterrupt), Ended(Listening()) as told:
        for cell in ("a", "b"):
            told.begin(cell, 0)
        told.end("a", "record")
        raise KeyboardInterrupt
    assert ended == [("a", "record"), ("b", None)]
