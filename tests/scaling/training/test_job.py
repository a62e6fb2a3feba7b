"""Jobs: leaves of a tree are the runs they would be alone, and records say what was done and what it took."""

import functools
import json
from collections import defaultdict

import numpy as np
import pytest
from etils import epath

from scaling.data.feeding import placement
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, MarkovSource
from scaling.specs.execution import Execution
from scaling.specs.models import MLPSpec, TransformerSpec
from scaling.specs.schedules import WSDSchedule
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.record import Evaluation
from scaling.tracking import CurveFile, Tracker, is_evaluation
from scaling.training import job
from scaling.training.evaluate import Verdict
from scaling.training.runner import train_cell, train_cells

DIGITS = DataSpec(source=DigitsSource(), size=300, evaluation_size=100)
MLP = MLPSpec(num_params=1000)
LENGTHS = (10, 20, 40)


def make_cell(num_steps=40, *, seed=0, peak_lr=1e-2, model=MLP, data=DIGITS, **changes) -> Cell:
    training = {"optimizer": AdamWSpec(peak_lr=peak_lr), "batch_size": 16, "num_steps": num_steps, **changes}
    return Cell(model=model, data=data, training=TrainingSpec(**training), seed=seed)


def branches(lengths=LENGTHS, **changes) -> list[Cell]:
    schedule = WSDSchedule(warmup_steps=2, decay_fraction=0.25)
    return [make_cell(num_steps, schedule=schedule, **changes) for num_steps in lengths]


@functools.cache
def record_alone(cell: Cell):
    return train_cell(cell)


def train(cells, **options) -> list:
    """Returns the records of a job, in the order of its cells."""
    records = {record.cell: record for record in train_cells(cells, **options)}
    return [records[cell.fingerprint()] for cell in cells]


def spent_steps(record) -> float:
    """Returns the optimiser steps that a record says were paid."""
    last = record.evaluations[-1]
    return record.train_flops_spent / last.train_flops * last.step


class Told(Tracker):
    """Keeps what it is told of each cell."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.evaluations = defaultdict(list)
        self.points = defaultdict(list)
        self.ended: dict[str, object] = {}

    def begin(self, cell, step):
        """Keeps the step."""
        self.begun[cell] = step

    def log(self, cell, points):
        """Keeps the points."""
        for point in points:
            if is_evaluation(point):
                self.evaluations[cell].append(Evaluation(**point))
            else:
                self.points[cell].append(point)

    def end(self, cell, record):
        """Keeps the record."""
        self.ended[cell] = record


# --- branch trees ---------------------------------------------------------------------------------------------------


def test_leaves_are_to_the_bit_the_runs_that_they_would_be_alone():
    cells = branches(ema_decay=0.9, noise_scale_parts=2, evaluate_every=7)
    records = train(cells)
    for cell, record in zip(cells, records, strict=True):
        alone = record_alone(cell)
        assert record.evaluations == alone.evaluations  # losses, metrics, averages and the noise scale
        assert record.flops == alone.flops
        assert (record.status, record.loss_spikes, record.epochs) == ("ok", alone.loss_spikes, alone.epochs)
    assert "ema_loss" in records[0].evaluations[-1].metrics


def test_a_tree_pays_its_trunk_once_and_leaves_name_it():
    records = train(branches())
    assert [spent_steps(record) for record in records] == pytest.approx([10, 20 - 8, 40 - 15])  # decays begin at 8, 15
    for cell, record in zip(branches(), records, strict=True):
        alone = record_alone(cell)
        assert record.evaluations[-1].train_flops == alone.evaluations[-1].train_flops == alone.train_flops_spent
        assert alone.trunk is None
    assert len({record.trunk for record in records}) == 1
    assert records[0].trunk is not None
    other = train(branches(seed=1, lengths=(10, 20)))
    assert {record.trunk for record in other}.isdisjoint({records[0].trunk})


def test_leaves_are_evaluated_before_and_after_their_decay():
    for record, fork, end in zip(train(branches(num_evaluations=1)), (8, 15, 30), LENGTHS, strict=True):
        assert [evaluation.step for evaluation in record.evaluations] == [fork, end]


@pytest.mark.slow
def test_leaves_may_leave_the_trunk_at_one_step_or_at_its_root():
    for lengths, fraction in (((7, 8), 0.2), ((7, 12), 1.0)):
        schedule = WSDSchedule(decay_fraction=fraction)
        cells = [make_cell(num_steps, schedule=schedule) for num_steps in lengths]
        for cell, record in zip(cells, train(cells), strict=True):
            assert record.evaluations == record_alone(cell).evaluations


def test_members_of_a_population_have_branches_too():
    cells = [cell for seed in (0, 1) for cell in branches((10, 20), seed=seed)]
    records = train(cells, execution=Execution(population=2))
    for cell, record in zip(cells, records, strict=True):
        alone = record_alone(cell)
        assert [e.step for e in record.evaluations] == [e.step for e in alone.evaluations]
        assert [e.loss for e in record.evaluations] == pytest.approx([e.loss for e in alone.evaluations], rel=1e-3)
    assert [spent_steps(record) for record in records] == pytest.approx([10, 12, 10, 12])
    assert records[0].trunk == records[1].trunk != records[2].trunk == records[3].trunk


def test_every_leaf_of_a_trunk_that_diverges_has_diverged():
    cells = branches(peak_lr=1e30)
    records = train(cells)
    for cell, record in zip(cells, records, strict=True):
        alone = record_alone(cell)
        assert (record.status, record.evaluations) == ("diverged", alone.evaluations)
    done = max(record.evaluations[-1].step for record in records)  # the first evaluation of the longest is later
    assert sum(map(spent_steps, records)) == pytest.approx(done)


def test_a_leaf_that_diverges_leaves_the_others_alone(monkeypatch):
    cells, calls = branches((10, 20), num_evaluations=1), []
    expected = record_alone(cells[1]).evaluations

    def judge(*args):
        calls.append(1)
        return [Verdict(None, {})] if len(calls) == 2 else evaluate_members(*args)  # at step 10, after the fork at 8

    evaluate_members = job.evaluate_members
    monkeypatch.setattr(job, "evaluate_members", judge)
    lost, kept = train(cells)
    assert (lost.status, [e.step for e in lost.evaluations], lost.evaluations[-1].loss) == ("diverged", [8, 10], None)
    assert (kept.status, kept.evaluations) == ("ok", expected)


def test_a_leaf_that_reaches_its_target_on_the_trunk_leaves_the_rest_of_it_to_be_paid():
    cells = branches((20, 40), target_loss=5.0, num_evaluations=2)  # evaluated at 10, 15, 20 and at 20, 30, 40
    records = train(cells)
    assert [record.steps_to_target for record in records] == [10, 20]
    for cell, record in zip(cells, records, strict=True):
        assert record.evaluations == record_alone(cell).evaluations
    assert sum(map(spent_steps, records)) == pytest.approx(20)


def test_a_streamed_tree_is_its_leaves_alone_and_waits_for_each_once(monkeypatch):
    cells = branches((10, 20))
    expected = [[e.loss for e in record_alone(cell).evaluations] for cell in cells]
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 0)
    records = train(cells)
    for cell, record, resident in zip(cells, records, expected, strict=True):
        assert record.evaluations == train_cell(cell).evaluations  # streamed, too
        assert [e.loss for e in record.evaluations] == pytest.approx(resident, rel=1e-3)
        assert 0.0 <= record.waiting_seconds <= record.wall_seconds


@pytest.mark.slow
def test_leaves_of_a_transformer_end_at_the_losses_of_runs_alone():
    source = MarkovSource(vocab_size=32, num_sequences=4000, sequence_length=32)
    data = DataSpec(source=source, size=2000, evaluation_size=200)
    language = {"model": TransformerSpec(width=32, depth=2), "data": data, "peak_lr": 3e-3}
    cells = branches((100, 200, 400), **language)
    for cell, record in zip(cells, train(cells), strict=True):
        assert record.evaluations == record_alone(cell).evaluations
    losses = [record.evaluations[-1].loss for record in train(cells)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([make_cell(10), make_cell(20)], "wsd"),
        ([make_cell(seed=0), make_cell(seed=1, model=MLPSpec(num_params=2000))], "program"),
        ([make_cell(seed=0), make_cell(seed=1, batch_size=8)], "program"),
        ([make_cell(seed=0), make_cell(seed=1, evaluate_every=3)], "evaluation"),
        ([*branches((10, 20)), *branches((10, 40), seed=1)], "length"),
    ],
    ids=["a schedule that knows its end", "models", "batches", "points of evaluation", "lengths"],
)
def test_cells_that_cannot_be_one_job_are_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        train_cells(cells)


# --- what is measured -----------------------------------------------------------------------------------------------


def test_a_run_stops_at_the_first_evaluation_that_reaches_its_target():
    whole = record_alone(make_cell(evaluate_every=5))
    target = whole.evaluations[4].loss
    reached = next(e.step for e in whole.evaluations if e.loss <= target)
    record = train_cell(make_cell(evaluate_every=5, target_loss=target))
    assert (record.status, record.steps_to_target) == ("ok", reached)
    assert record.evaluations == whole.evaluations[: reached // 5]
    assert spent_steps(record) == pytest.approx(reached)
    assert record.epochs == pytest.approx(reached * 16 / 300)
    missed = train_cell(make_cell(target_loss=1e-9))
    assert (missed.steps_to_target, missed.evaluations[-1].step) == (None, 40)


def test_evaluations_come_every_so_many_steps():
    assert [e.step for e in record_alone(make_cell(evaluate_every=15)).evaluations] == [15, 30, 40]


@pytest.mark.parametrize("chunk_steps", [1, 7])
def test_how_long_chunks_are_changes_nothing_in_the_record(chunk_steps):
    cell = make_cell(noise_scale_parts=2, ema_decay=0.9)
    record = train_cell(cell, execution=Execution(chunk_steps=chunk_steps))
    assert record.evaluations == record_alone(cell).evaluations
    assert record.execution == {"chunk_steps": chunk_steps}


def test_averages_and_noise_scales_are_metrics_beside_the_loss():
    metrics = record_alone(make_cell(noise_scale_parts=2, ema_decay=0.9)).evaluations[-1].metrics
    assert sorted(metrics) == sorted(
        ["accuracy", "error", "train_loss", "noise_scale", "ema_loss", "ema_accuracy", "ema_error"]
    )
    assert metrics["ema_error"] + metrics["ema_accuracy"] == pytest.approx(1.0)
    assert metrics["noise_scale"] > 1.0
    assert sorted(record_alone(make_cell()).evaluations[-1].metrics) == ["accuracy", "error", "train_loss"]


def test_the_average_of_a_run_that_forgets_at_once_is_the_run_itself():
    last = record_alone(make_cell(ema_decay=1e-6)).evaluations[-1]
    assert last.metrics["ema_loss"] == pytest.approx(last.loss, rel=1e-4)


def test_the_training_loss_is_the_mean_since_the_evaluation_before():
    told = Told()
    record = train_cell(make_cell(evaluate_every=20), tracker=told)
    (points,) = told.points.values()
    assert [point["step"] for point in points] == list(range(1, 41))
    losses = [point["train_loss"] for point in points]
    first, second = (e.metrics["train_loss"] for e in record.evaluations)
    assert (first, second) == (pytest.approx(np.mean(losses[:20])), pytest.approx(np.mean(losses[20:])))


def test_records_say_how_they_were_run_and_what_is_not_known():
    record = record_alone(make_cell())
    assert (record.mfu, record.execution, record.num_resumes, record.num_devices) == (None, {}, 0, 1)
    assert (record.loss_spikes, record.warnings, record.waiting_seconds) == (0, (), None)
    assert 0.0 <= record.train_seconds < record.wall_seconds
    half = train_cell(make_cell(), execution=Execution(micro_batches=2, loop="step"))
    assert half.execution == {"micro_batches": 2, "loop": "step"}
    assert half.evaluations[-1].loss == pytest.approx(record.evaluations[-1].loss, rel=1e-3)


def test_spikes_are_in_the_record(monkeypatch):
    from scaling.learning import step
    from scaling.training import program

    with monkeypatch.context() as lower:
        lower.setattr(step, "SPIKE_DEVIATIONS", 0.0)  # everything above the mean is a spike
        program._make_program.cache_clear()
        record = train_cell(make_cell(130, peak_lr=1e-5, num_evaluations=1))
    program._make_program.cache_clear()
    assert 5 < record.loss_spikes < 25  # of 30 steps
    assert record.warnings == (f"the training loss spiked at {record.loss_spikes} steps",)


def test_bfloat16_trains_and_its_record_is_as_ever():
    record = train_cell(make_cell(200, precision="bfloat16", moments="bfloat16"))
    assert record.status == "ok"
    assert record.evaluations[-1].metrics["error"] < 0.4


# --- who is told ----------------------------------------------------------------------------------------------------


def test_trackers_hear_of_every_leaf_from_its_beginning_to_its_end():
    cells, told = branches(), Told()
    records = train(cells, tracker=told)
    assert told.begun == {cell.fingerprint(): 0 for cell in cells}
    assert told.ended == {record.cell: record for record in records}
    for cell, record in zip(cells, records, strict=True):
        name = cell.fingerprint()
        assert tuple(told.evaluations[name]) == record.evaluations
        assert [point["step"] for point in told.points[name]] == list(range(1, cell.training.num_steps + 1))
    alone = Told()
    train([cells[0]], tracker=alone)
    name = cells[0].fingerprint()
    assert [p["train_loss"] for p in told.points[name]] == [p["train_loss"] for p in alone.points[name]]


def test_what_has_begun_ends_without_a_record_when_the_job_fails():
    cells, told = branches(), Told()

    def refuse(record):
        if record.cell == cells[1].fingerprint():
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        train_cells(cells, tracker=told, on_record=refuse)
    ended = [told.ended[cell.fingerprint()] for cell in cells]
    assert [record is not None for record in ended] == [True] + [False] * (len(cells) - 1)


def test_nothing_is_told_of_a_member_that_is_over():
    told, target = Told(), record_alone(make_cell()).evaluations[-2].loss
    over, other = make_cell(target_loss=target), make_cell(seed=1)
    records = train([over, other], tracker=told, execution=Execution(population=2))
    assert max(point["step"] for point in told.points[over.fingerprint()]) == records[0].evaluations[-1].step
    assert max(point["step"] for point in told.points[other.fingerprint()]) == 40


def test_long_runs_are_told_in_about_a_hundred_means():
    told = Told()
    train_cell(make_cell(1000), tracker=told)
    (points,) = told.points.values()
    assert [point["step"] for point in points] == list(range(10, 1001, 10))


def lines_of(path: epath.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_curve_holds_what_was_told_and_begins_anew_or_at_a_step(tmp_path):
    curve = CurveFile(lambda name: epath.Path(tmp_path) / name)
    cell = make_cell(evaluate_every=20)
    path = epath.Path(tmp_path) / cell.fingerprint() / "curve.jsonl"
    path.parent.mkdir()
    path.write_text("what was there before\n")
    record = train_cell(cell, tracker=curve)
    lines = lines_of(path)
    assert sorted(line["step"] for line in lines) == sorted([*range(1, 41), 20, 40])
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses == [evaluation.loss for evaluation in record.evaluations]

    with path.open("a") as torn:
        torn.write('{"step": 1')
    curve.begin(cell.fingerprint(), 20)
    assert lines_of(path) == [line for line in lines if line["step"] <= 20]
    curve.begin(cell.fingerprint(), 0)
    assert lines_of(path) == []
