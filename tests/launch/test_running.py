"""`run` in Python does what the command does, and tells it as a value."""

import os
import signal
import threading
import time

import pytest

from analysis.errors import AnalysisError
from launch import Result, run
from launch.progress import is_notebook
from scaling.specs.base import InputError
from scaling.specs.study import resolve_study


@pytest.fixture
def small(study_file, monkeypatch, tmp_path):
    """The toy study's linear models, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    study = resolve_study(str(study_file))
    return study.model_copy(update={"series": study.series[:1]})


def test_a_study_becomes_a_table_fits_and_a_page(small, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = run(small, workers=1)
    assert isinstance(result, Result)
    assert (result.counts, result.stopped) == ({"cells": 6, "ok": 6, "diverged": 0, "failed": 0}, False)
    assert repr(result) == "<Result runs/toy: 6 of 6 cells>"
    assert set(result.table()["cell"]) == set(small.cells)
    (fit,) = result.fit(resamples=20, law="power").values()
    low, high = fit.ci95["alpha"]
    assert low < fit.params["alpha"] < high
    page = result.report(tmp_path / "page.html")
    assert "toy" in page.read_text()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert threading.active_count() == 1 or all(thread.daemon for thread in threading.enumerate()[1:])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"worker": 1}, "worker=1: there is no such option; did you mean 'workers'?"),
        ({"workers": 0}, "workers=0: must be at least 1"),
        ({"engine": "slrum"}, "engine='slrum' is unknown; did you mean 'slurm'?"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(small, tmp_path, options, says):
    with pytest.raises(InputError) as caught:
        run(small, **options)
    assert str(caught.value).startswith(says)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("law", "says"),
    [
        ("chinchila", r"law='chinchila' is unknown; did you mean 'chinchilla'\?"),
        ("nowhere:law", "'nowhere:law' is code that this process was not given"),
        ("precision", r"fit\.law='precision' takes the column '.*', which records do not have"),
    ],
)
def test_a_law_that_cannot_be_fitted_is_refused_before_anything_trains(small, tmp_path, law, says):
    declared = small.model_copy(update={"fit": small.fit.model_copy(update={"law": law})})
    with pytest.raises((InputError, AnalysisError), match=says):
        run(declared)
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_run_keeps_what_is_complete_and_the_next_call_does_the_rest(study_file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study = resolve_study(str(study_file), ["num_seeds=1", "num_steps=2000"])
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupt():
        while not any(tmp_path.glob("runs/toy/cells/*/record.json")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    stopped = run(study, workers=1)
    kept = stopped.store.records()
    assert stopped.stopped
    assert 0 < stopped.ok == len(kept) < 6
    assert "stopped, run it again to go on" in repr(stopped)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    finished = run(study, workers=1)
    assert (finished.ok, finished.stopped, finished.failed) == (6, False, ())
    assert {name: record for name, record in finished.store.records().items() if name in kept} == kept


def test_another_thread_is_refused_in_one_line(small):
    caught = []

    def call():
        try:
            run(small)
        except InputError as error:
            caught.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "main thread" in caught[0]


def test_a_process_without_a_kernel_is_no_notebook():
    assert not is_notebook()
