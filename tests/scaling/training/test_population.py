"""Populations: each member's record is the one that it would have alone, whatever becomes of the others."""

import functools
import time

import numpy as np
import pytest
from etils import epath

from scaling.data.feeding import placement
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DiabetesSource, DigitsSource, MarkovSource, TextSource
from scaling.specs.execution import Execution
from scaling.specs.models import ConvNetSpec, MLPSpec, ResNetSpec, TransformerSpec
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.tracking import Tracker, is_evaluation
from scaling.training import networks, population
from scaling.training.runner import train_cell, train_cells

TOGETHER = Execution(population=8)
DIGITS = DataSpec(source=DigitsSource(), size=300, evaluation_size=100)
MARKOV = DataSpec(source=MarkovSource(vocab_size=8, num_sequences=500, sequence_length=8), size=100, evaluation_size=50)
MLP = MLPSpec(num_params=1000)


def make_cell(seed=0, peak_lr=1e-2, weight_decay=0.0, *, model=MLP, data=DIGITS, num_steps=30, **changes) -> Cell:
    """Returns a cell; `changes` are of its data where they have such a field, else of its training."""
    of_data = {name: value for name, value in changes.items() if name in DataSpec.model_fields}
    of_training = {name: value for name, value in changes.items() if name not in of_data}
    optimizer = AdamWSpec(peak_lr=peak_lr, weight_decay=weight_decay)
    training = TrainingSpec(optimizer=optimizer, batch_size=16, num_steps=num_steps, **of_training)
    return Cell(model=model, data=data.model_copy(update=of_data), training=training, seed=seed)


@functools.cache
def record_alone(cell: Cell):
    return train_cell(cell)


def train_members(cells, **options) -> list:
    """Returns their records, in the order of the cells."""
    records = {record.cell: record for record in train_cells(cells, execution=TOGETHER, **options)}
    assert len(records) == len(cells)
    return [records[cell.fingerprint()] for cell in cells]


# What says how a run was made, and not what came of it.
OF_THE_JOB = ("evaluations", "wall_seconds", "train_seconds", "execution", "train_flops_spent")


def assert_alike(record, alone, rel: float) -> None:
    assert record.model_dump(exclude=OF_THE_JOB) == alone.model_dump(exclude=OF_THE_JOB)
    assert record.train_flops_spent == pytest.approx(alone.train_flops_spent)
    assert len(record.evaluations) == len(alone.evaluations)
    for mine, own in zip(record.evaluations, alone.evaluations, strict=True):
        exact = {"loss", "metrics"}
        assert mine.model_dump(exclude=exact) == own.model_dump(exclude=exact)
        assert (mine.loss is None) == (own.loss is None)
        if own.loss is not None:
            assert mine.loss == pytest.approx(own.loss, rel=rel)
            assert mine.metrics == pytest.approx(own.metrics, rel=rel, abs=0.011)  # one example of 100, by a hair


VALUES = [
    make_cell(),
    make_cell(seed=1),
    make_cell(peak_lr=3e-3),
    make_cell(weight_decay=0.5),
    make_cell(size=50),
    make_cell(label_noise=0.3, seed=1),
    make_cell(duplication=0.5),
    make_cell(normalize=True),
]
# Few and small steps: a bias before a batch norm has no gradient but rounding, which Adam scales up.
BATCH_NORM = {"model": MLPSpec(num_params=1000, normalization="batch"), "num_steps": 6, "num_evaluations": 2}
IMAGES = {"model": ConvNetSpec(width=4, normalization="batch"), "num_steps": 6, "num_evaluations": 2}
RESIDUAL = {"model": ResNetSpec(width=8, depth=1), "num_steps": 6, "num_evaluations": 2}
LANGUAGE = {"model": TransformerSpec(width=8, depth=1), "data": MARKOV}
REGRESSION = {"data": DataSpec(source=DiabetesSource(), size=200, evaluation_size=100)}


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(VALUES, id="mlp"),
        pytest.param([make_cell(0, 3e-3, **BATCH_NORM), make_cell(1, 1e-3, size=40, **BATCH_NORM)], id="batch norm"),
        pytest.param([make_cell(**IMAGES), make_cell(1, 3e-3, **IMAGES)], id="convnet", marks=pytest.mark.slow),
        pytest.param([make_cell(**RESIDUAL), make_cell(1, size=40, **RESIDUAL)], id="resnet", marks=pytest.mark.slow),
        pytest.param(
            [make_cell(**LANGUAGE), make_cell(1, 3e-3, 0.5, size=20, **LANGUAGE)],
            id="transformer",
            marks=pytest.mark.slow,
        ),
        pytest.param([make_cell(**REGRESSION), make_cell(1, size=50, **REGRESSION)], id="regression"),
        pytest.param(
            [make_cell(ema_decay=0.9, noise_scale_parts=2, seed=seed) for seed in (0, 1)],
            id="monitored",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_members_have_the_records_that_they_would_have_alone(cells):
    for cell, record in zip(cells, train_members(cells), strict=True):
        assert_alike(record, record_alone(cell), rel=1e-3)


TEXT = {
    "model": TransformerSpec(width=8, depth=1),
    "data": DataSpec(source=TextSource(sequence_length=16), size=40, evaluation_size=20),
    "num_steps": 10,
    "num_evaluations": 2,
}


@pytest.mark.slow
def test_members_may_have_inputs_of_their_own():
    cells = [make_cell(**TEXT), make_cell(1, size=100, **TEXT)]
    for cell, record in zip(cells, train_members(cells), strict=True):
        assert_alike(record, record_alone(cell), rel=1e-3)


def test_subsets_of_several_sizes_stand_side_by_side(monkeypatch):
    cells = [make_cell(size=size) for size in (50, 300)]
    expected = [record_alone(cell) for cell in cells]
    monkeypatch.setattr(placement, "PADDED_BYTES", 0)  # subsets of 64 and 512 places
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 1200 * 64 * 4)  # room for both, and not for the pool
    for record, alone in zip(train_members(cells), expected, strict=True):
        assert_alike(record, alone, rel=1e-3)


def test_members_that_have_no_room_side_by_side_are_trained_one_by_one(monkeypatch):
    cells = [make_cell(**TEXT), make_cell(1, size=100, **TEXT)]
    expected = [record_alone(cell) for cell in cells]
    monkeypatch.setattr(population, "resident_limit", lambda: 0)
    for record, alone in zip(train_members(cells), expected, strict=True):
        assert record.evaluations == alone.evaluations  # to the bit: by the same program
        assert record.execution == {}


def test_streamed_members_are_trained_one_by_one_with_all_that_was_asked_for(monkeypatch, tmp_path):
    asked, told = [], []

    def listen(*args, **options):
        asked.append((options["num_workers"], options["keeper"] is not None))
        return train_together(*args, **options)

    train_together = networks.train_together
    monkeypatch.setattr(networks, "train_together", listen)
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 0)
    cells = [make_cell(seed, num_steps=3, num_evaluations=1) for seed in (0, 1)]
    options = {"checkpoints": epath.Path(tmp_path), "reader_workers": 1, "on_record": told.append}
    records = train_members(cells, **options)
    assert asked == [(1, True)] * 3  # together in vain, then each
    assert told == records


def test_a_member_that_diverges_does_not_touch_the_others():
    calm = [make_cell(), make_cell(1), make_cell(2)]
    doomed = make_cell(1, 1e30)
    quiet, troubled = train_members(calm), train_members([calm[0], doomed, calm[2]])
    assert [quiet[0].evaluations, quiet[2].evaluations] == [troubled[0].evaluations, troubled[2].evaluations]
    assert troubled[1].status == "diverged"
    assert troubled[1].evaluations[-1].loss is None
    assert_alike(troubled[1], record_alone(doomed), rel=1e-3)


def test_a_population_that_diverges_altogether_stops():
    steps = []

    class Steps(Tracker):
        def log(self, cell, points):
            steps.extend(point["step"] for point in points if not is_evaluation(point))

    cells = [make_cell(seed, 1e30, num_steps=5000, num_evaluations=1) for seed in (0, 1)]
    for record in train_members(cells, tracker=Steps()):
        assert (record.status, record.evaluations[-1].step < 10) == ("diverged", True)
    assert max(steps, default=0) < 2000


def test_a_member_that_reaches_its_target_is_over_for_itself_alone():
    full = record_alone(make_cell())
    target = full.evaluations[-2].loss
    early, late = make_cell(target_loss=target), make_cell(1)
    records = train_members([early, late])
    assert records[0].evaluations[-1].step == records[0].steps_to_target == full.evaluations[-2].step
    for cell, record in zip((early, late), records, strict=True):
        assert_alike(record, record_alone(cell), rel=1e-3)


def test_members_share_the_time_of_their_job():
    cells = [make_cell(seed) for seed in range(3)]
    train_members(cells)  # data and program are there
    began = time.monotonic()
    records = train_members(cells)
    took = time.monotonic() - began
    whole = sum(record.wall_seconds for record in records)
    assert 0.2 * took < whole <= took
    assert len({record.wall_seconds for record in records}) == 1
    assert sum(record.train_seconds for record in records) <= whole
    assert {record.execution["population"] for record in records} == {8}


def test_members_see_batches_of_their_own_seed():
    records = train_members([make_cell(seed) for seed in range(3)])
    assert len({record.evaluations[0].loss for record in records}) == 3
    assert np.unique([record.seed for record in records]).tolist() == [0, 1, 2]
