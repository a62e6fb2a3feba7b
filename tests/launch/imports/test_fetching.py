"""Claims about fetching: what is whole is kept, whatever happens to the rest, and silence is not waited for long."""

import threading

import pytest

from launch.imports.fetching import Listed, RunError, SourceError, choose_runs, fetch_runs
from launch.imports.histories import build_history
from launch.imports.raw import Origin, make_run
from scaling.specs.base import InputError


class Source:
    """A source whose runs do what a test says: by id, an exception or an event to wait for."""

    workers, patience = 2, 30.0

    def __init__(self, troubles):
        self.troubles, self.asked = troubles, []
        self.origin = Origin(kind="test", address="here", study="ladder")

    def fetch(self, listed):
        """Returns the run, or makes its trouble."""
        self.asked.append(listed.id)
        trouble = self.troubles.get(listed.id)
        if isinstance(trouble, threading.Event):
            trouble.wait(10)
            raise SourceError("closed")
        if trouble is not None:
            raise trouble
        return make_run(listed.id, listed.version, "finished"), build_history([{"loss": 1.0}])

    def close(self):
        """Ends all that wait."""
        for trouble in self.troubles.values():
            if isinstance(trouble, threading.Event):
                trouble.set()


RUNS = [Listed(f"r{i}", "1") for i in range(6)]


def names(folder):
    return [run.id for run in folder.runs()]


def test_an_unreadable_run_leaves_the_others_alone_and_is_tried_again(folder):
    source = Source({"r1": RunError("torn")})
    assert fetch_runs(source, folder, RUNS) == (5, 0, {"r1": "torn"})
    assert names(folder) == ["r0", "r2", "r3", "r4", "r5"]
    assert fetch_runs(Source({}), folder, RUNS) == (1, 5, {})


@pytest.mark.parametrize("trouble", [SourceError("gone"), KeyboardInterrupt(), InputError("disk is full")])
def test_what_came_before_the_end_is_kept_and_not_fetched_again(folder, trouble):
    source = Source({"r4": trouble})
    source.workers = 1
    with pytest.raises(type(trouble)) as caught:
        fetch_runs(source, folder, RUNS)
    assert {"r0", "r1", "r2", "r3"} <= set(names(folder))
    assert "r4" not in names(folder)
    if isinstance(trouble, SourceError):
        assert f"gone; {len(names(folder))} of 6 runs are kept, and the same command goes on" in str(caught.value)
    after = Source({})
    fetch_runs(after, folder, RUNS)
    assert "r4" in after.asked
    assert not {"r0", "r1", "r2", "r3"} & set(after.asked)


def test_a_source_that_is_silent_for_longer_than_its_patience_is_given_up(folder):
    source = Source({"r1": threading.Event()})
    source.patience = 0.2
    with pytest.raises(SourceError, match=r"no run came for 0\.2 s; .*1 of 2 runs are kept"):
        fetch_runs(source, folder, RUNS[:2])
    assert "r0" in names(folder)


def test_live_and_changed_runs_are_fetched_and_others_are_not(folder):
    fetch_runs(Source({}), folder, RUNS)
    listed = [RUNS[0], RUNS[1]._replace(version="2"), RUNS[2]._replace(is_live=True), Listed("new", "1")]
    assert [run.id for run in choose_runs(folder, listed)] == ["r1", "r2", "new"]


def test_a_history_without_its_run_was_killed_between_the_two_and_is_fetched_again(folder):
    fetch_runs(Source({}), folder, RUNS[:1])
    (folder.folder_of("r0") / "run.json").unlink()
    assert (folder.folder_of("r0") / "history.parquet").exists()
    assert names(folder) == []
    assert fetch_runs(Source({}), folder, RUNS[:1]) == (1, 0, {})
