"""The choice of an execution: by rule for short work, by measurement for long, which is kept."""

import os
import time

import numpy as np
import pytest

from scaling.data.loading import load_source
from scaling.data.source import task_shape
from scaling.models.registry import make_shape
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, MarkovSource
from scaling.specs.execution import Execution
from scaling.specs.models import ConvNetSpec, LogisticRegressionSpec, MLPSpec, TransformerSpec
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.training import calibration
from scaling.training.calibration import Rate, candidates, choose_execution, measure

TRAINING = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=8, num_steps=100)
DIGITS = DataSpec(source=DigitsSource(), size=100, evaluation_size=100)
SMALL = Cell(model=MLPSpec(width=16), data=DIGITS, training=TRAINING)
LONG = 1e4  # seconds of work


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "scaling" / "calibration"


def shape_of(cell):
    return make_shape(cell.model, task_shape(load_source(cell.data)))


def pretend(monkeypatch, rates, is_steady=True):
    """Lets executions have these rates; returns the list of those that were measured."""
    measured = []

    def found(cell, shape, execution):
        measured.append(execution)
        return Rate(rates.get(execution.population, 1.0), is_steady)

    monkeypatch.setattr(calibration, "measure", found)
    return measured


def test_the_fastest_is_chosen_shown_and_kept(monkeypatch, cache):
    measured = pretend(monkeypatch, {1: 100.0, 8: 250.0, 16: 200.0})
    choice = choose_execution(SMALL, num_members=16, seconds=LONG)
    assert choice.execution.population == 8
    assert "250 steps of a member a second, 2.50 times those of one by one; 3 ways measured" in choice.how
    assert len(list(cache.iterdir())) == 1
    again = choose_execution(SMALL, num_members=4, seconds=LONG)
    assert (again.execution.population, again.how) == (4, "measured before")
    assert len(measured) == 3


def test_short_work_is_not_measured(monkeypatch, cache):
    measured = pretend(monkeypatch, {})
    choice = choose_execution(SMALL, num_members=16, seconds=1.0)
    assert (choice.execution.population, choice.how) == (8, "by rule: too short to measure")
    assert not measured
    assert not cache.exists()


def test_a_measurement_takes_no_more_than_its_share_of_the_work(monkeypatch):
    measured = pretend(monkeypatch, {})
    monkeypatch.setattr(calibration, "SHARE_OF_WORK", 0.0)
    choose_execution(SMALL, num_members=16, seconds=LONG)
    assert measured == [Execution()]


def test_what_a_killed_process_left_is_measured_anew(monkeypatch, cache):
    measured = pretend(monkeypatch, {8: 2.0})
    choose_execution(SMALL, num_members=16, seconds=LONG)
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text()[:20])
    choose_execution(SMALL, num_members=16, seconds=LONG)
    assert len(measured) == 6


def test_on_a_busy_machine_the_choice_holds_for_this_run_alone(monkeypatch, cache):
    measured = pretend(monkeypatch, {8: 2.0}, is_steady=False)
    choice = choose_execution(SMALL, num_members=16, seconds=LONG)
    assert choice.execution.population == 8
    assert choice.how.endswith("on a busy machine: the next run measures again")
    choose_execution(SMALL, num_members=16, seconds=LONG)
    assert len(measured) == 6


def test_what_was_measured_long_ago_is_measured_anew(monkeypatch, cache):
    measured = pretend(monkeypatch, {8: 2.0})
    choose_execution(SMALL, num_members=16, seconds=LONG)
    (kept,) = cache.iterdir()
    for days, times in ((29, 3), (31, 6)):
        then = time.time() - days * 86_400
        os.utime(kept, (then, then))
        choose_execution(SMALL, num_members=16, seconds=LONG)
        assert len(measured) == times


def test_a_process_that_computes_for_half_of_the_time_is_on_a_busy_machine(monkeypatch):
    monkeypatch.setattr(calibration, "STEADY", np.inf)
    for share, is_steady in ((1.0, True), (0.5, False)):
        monkeypatch.setattr(time, "process_time", lambda share=share: share * time.monotonic())
        assert measure(SMALL, shape_of(SMALL), Execution()).is_steady == is_steady


def test_timings_that_differ_much_are_of_a_busy_machine(monkeypatch):
    monkeypatch.setattr(calibration, "STEADY", 0.5)  # which two equal ones exceed
    assert not measure(SMALL, shape_of(SMALL), Execution()).is_steady


def test_wide_networks_train_one_by_one_on_cpus_and_estimators_are_not_asked():
    wide = SMALL.model_copy(update={"model": MLPSpec(width=512)})
    assert [found.population for found in candidates(shape_of(wide), 64)] == [1]
    linear = Cell(model=LogisticRegressionSpec(), data=DIGITS)
    assert choose_execution(linear, num_members=9, seconds=LONG).execution == Execution()


def test_implementations_are_compared_where_there_are_several():
    convnet = SMALL.model_copy(update={"model": ConvNetSpec(width=16)})
    assert Execution(loop="step", convolution="native") in candidates(shape_of(convnet), 1)
    data = DataSpec(source=MarkovSource(vocab_size=8, sequence_length=16), size=64, evaluation_size=8)
    decoder = SMALL.model_copy(update={"model": TransformerSpec(width=16, depth=1), "data": data})
    found = list(candidates(shape_of(decoder), 1))
    assert found == [Execution(), Execution(attention="plain"), Execution(cross_entropy="lean")]


def test_real_steps_are_measured():
    for execution in (Execution(), Execution(population=3), Execution(loop="step")):
        assert measure(SMALL, shape_of(SMALL), execution).steps > 1.0
