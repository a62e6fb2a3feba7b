"""Placement: resident or streamed, a cell trains on the same batches and is evaluated on the same examples."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data.feeding import placement
from scaling.data.feeding.placement import DeviceData, Standard, StreamedData, evaluation_batches, place_subset
from scaling.data.loading import load_source
from scaling.data.order.batches import batch_indices
from scaling.data.order.subsets import draw_subset
from scaling.data.source import Source, task_shape
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import AugmentationSpec, DataSpec, DigitsSource, TextSource
from scaling.specs.models import MLPSpec
from scaling.specs.training import AdamWSpec, LayerwiseSpec, TrainingSpec
from scaling.training.program import get_program
from scaling.training.runner import train_cell

DATA = DataSpec(source=DigitsSource(), size=900, evaluation_size=333)
DIGITS_BYTES = 1464 * 64 * 4
AS_THEY_ARE = Standard(*(np.zeros(0, np.float32),) * 2, np.float32(0.0), np.float32(1.0))


def cell(**changes) -> Cell:
    return Cell(
        model=MLPSpec(num_params=2000),
        data=DATA.model_copy(update=changes),
        training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=150, num_evaluations=4),
        seed=3,
    )


def place(data=DATA, rows=None):
    source = load_source(data)
    subset = draw_subset(data, source, 3)
    if rows is not None:
        subset = type(subset)(source, rows, subset.labels, subset.order, subset.num_unique)
    return place_subset(subset, AS_THEY_ARE, batch_size=32, seed=3, augmentation=None), subset


def measured(record) -> list[float]:
    return [value for evaluation in record.evaluations for value in (evaluation.loss, evaluation.metrics["error"])]


@pytest.mark.parametrize(
    ("limit", "kind", "num_rows"),
    [(DIGITS_BYTES, DeviceData, 1464), (1024 * 64 * 4, DeviceData, 1024), (1024 * 64 * 4 - 1, StreamedData, None)],
)
def test_pool_subset_or_stream_by_what_fits(monkeypatch, limit, kind, num_rows):
    monkeypatch.setattr(placement, "RESIDENT_BYTES", limit)
    monkeypatch.setattr(placement, "PADDED_BYTES", 0)
    data, subset = place()
    assert type(data) is kind
    if kind is DeviceData:
        assert len(data.inputs) == num_rows
        assert (np.asarray(data.inputs[data.order[:900]]) == subset.read(np.arange(900))[0]).all()
        assert (np.asarray(data.labels[data.order[:900]]) == subset.read(np.arange(900))[1]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label_noise": 0.2, "duplication": 0.3},
        pytest.param({"augmentation": AugmentationSpec(crop=1, flip=True), "normalize": True}, marks=pytest.mark.slow),
    ],
    ids=["plain", "changed", "augmented"],
)
def test_a_cell_learns_the_same_resident_and_streamed(monkeypatch, changes):
    resident = train_cell(cell(**changes))
    monkeypatch.setattr(placement, "PADDED_BYTES", 0)
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 1024 * 64 * 4)
    alone = train_cell(cell(**changes))
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 0)
    streamed = train_cell(cell(**changes))
    assert resident.waiting_seconds is alone.waiting_seconds is None
    assert 0.0 <= streamed.waiting_seconds < streamed.wall_seconds
    # The same batches; compiled into other calls, whose sums XLA may order otherwise.
    assert measured(alone) == pytest.approx(measured(resident), rel=1e-3)
    assert measured(streamed) == pytest.approx(measured(resident), rel=1e-3)
    assert (alone.data, streamed.data) == (resident.data, resident.data)


def test_text_subsets_of_every_size_have_one_shape():
    data = DataSpec(source=TextSource(sequence_length=32), size=10, evaluation_size=10)
    source = load_source(data)
    placed = []
    for size in (10, 100):
        subset = draw_subset(data.model_copy(update={"size": size}), source, 3)
        placed.append(place_subset(subset, AS_THEY_ARE, batch_size=8, seed=3, augmentation=None))
        assert (np.asarray(placed[-1].inputs[:size]) == subset.read(np.arange(size))[0]).all()
    assert {one.inputs.shape for one in placed} == {(source.size, 33)}


def test_a_stream_gives_chunks_that_end_at_stops_from_any_step_on(monkeypatch):
    resident, _ = place()
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 0)
    streamed, _ = place()
    for stops, start, lengths in (([10, 100], 0, [10, 64, 26]), ([10, 100], 7, [3, 64, 26]), ([100], 100, [])):
        chunks = list(streamed.chunks(stops, start))
        assert [len(chunk["labels"]) for chunk in chunks] == lengths
        step = start
        for chunk in chunks:
            for inputs, labels in zip(chunk["inputs"], chunk["labels"], strict=True):
                chosen = resident.order[batch_indices(step, 32, 900, 3)]
                assert (inputs == resident.inputs[chosen]).all()
                assert (labels == resident.labels[chosen]).all()
                step += 1
    assert streamed.chunk_steps == 64


def test_a_stream_compiles_once_for_chunks_of_every_length(monkeypatch):
    expected = train_cell(cell())
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 0)
    training = cell().training
    program = get_program(make_shape(MLPSpec(num_params=2000), task_shape(load_source(DATA))), training)
    record = train_cell(cell())
    assert [evaluation.step for evaluation in record.evaluations] == [19, 38, 75, 150]
    assert measured(record) == pytest.approx(measured(expected), rel=1e-3)
    assert program.run_batches._cache_size() == 1


def test_arrays_go_where_they_are_put_and_a_pool_goes_once():
    carried = []

    def put(array):
        carried.append(np.shape(array))
        return jnp.asarray(array)

    source = load_source(DATA)
    for size in (900, 100):
        subset = draw_subset(DATA.model_copy(update={"size": size}), source, 3)
        place_subset(subset, AS_THEY_ARE, batch_size=32, seed=3, augmentation=None, put=put)
    assert carried.count((1464, 64)) == 1
    assert carried.count((1464,)) == 3  # labels, and two orders
    parts = list(evaluation_batches(source, 4, put))
    assert {len(part.labels) % 4 for part in parts} == {0}
    placement._evaluations.clear()


def test_pretraining_refuses_a_stream_instead_of_leaving_itself_out(monkeypatch):
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 0)
    spec = cell()
    pretrained = spec.training.model_copy(update={"pretraining": LayerwiseSpec(num_steps=5, peak_lr=0.1)})
    with pytest.raises(InputError, match=r"training\.pretraining reads its examples on the device"):
        train_cell(spec.model_copy(update={"training": pretrained}))


@pytest.mark.parametrize("size", [1, 7, 333])
def test_evaluation_parts_have_one_shape_and_cover_each_example_once(monkeypatch, size):
    monkeypatch.setattr(placement, "EVALUATION_BATCH", 100)
    for limit in (1 << 30, 0):  # on the device, and read each time
        monkeypatch.setattr(placement, "RESIDENT_BYTES", limit)
        source = load_source(DATA.model_copy(update={"evaluation_size": size}))
        parts = list(evaluation_batches(source))
        assert len({part.inputs.shape for part in parts}) == 1
        inputs = np.concatenate([np.asarray(part.inputs)[np.asarray(part.is_real) == 1] for part in parts])
        labels = np.concatenate([np.asarray(part.labels)[np.asarray(part.is_real) == 1] for part in parts])
        assert (inputs == source.eval_inputs).all()
        assert (labels == source.eval_labels).all()
        placement._evaluations.clear()


def test_large_examples_are_evaluated_few_at_a_time():
    rows = np.zeros((64, 1 << 20), np.uint8)
    source = Source("large", rows, np.zeros(64, np.int32), rows, np.zeros(64, np.int32), 2)
    assert {len(part.inputs) for part in evaluation_batches(source)} == {16}
