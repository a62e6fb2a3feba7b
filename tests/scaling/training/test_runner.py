"""One cell to its record, for every family, on data of every kind."""

import numpy as np
import pytest

from scaling.data.feeding.standard import standard_of, undo_labels
from scaling.data.loading import load_source
from scaling.data.order.subsets import draw_subset
from scaling.data.sources.arrays import keep_arrays
from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.specs.data import (
    DataSpec,
    DiabetesSource,
    DigitsSource,
    IdxSource,
    TableSource,
    TextSource,
)
from scaling.specs.models import (
    ConvNetSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    MLPSpec,
    RandomForestSpec,
    ResNetSpec,
    RidgeSpec,
    TransformerSpec,
    ViTSpec,
)
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.record import Evaluation, Record
from scaling.tracking import Tracker, is_evaluation
from scaling.training.plan import describe_cell
from scaling.training.runner import train_cell, train_cells
from tests.scaling.training.cells import BEATABLE, SIZES, STDLIB, classical, network


@pytest.fixture
def keep_here(monkeypatch, tmp_path):
    """Arrays are kept in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Told(Tracker):
    """Keeps the evaluations it is told of."""

    def __init__(self) -> None:
        self.evaluations: dict[str, list] = {}
        self.ended: list = []

    def begin(self, cell, step):
        """Expects a beginning."""
        assert step == 0
        self.evaluations[cell] = []

    def log(self, cell, points):
        """Keeps the evaluations."""
        self.evaluations[cell].extend(Evaluation(**point) for point in points if is_evaluation(point))

    def end(self, cell, record):
        """Keeps the record."""
        self.ended.append(record)


@pytest.mark.parametrize("source", [DigitsSource(), STDLIB], ids=["digits", "stdlib"])
def test_networks_beat_chance_and_count_what_they_did(source):
    size = SIZES[source.kind]
    cell = network(source=source, size=size, num_steps=600)
    told = Told()
    record = train_cell(cell, tracker=told)
    final = record.evaluations[-1]
    assert final.metrics["error"] < BEATABLE[source.kind]
    assert told.evaluations == {cell.fingerprint(): list(record.evaluations)}
    assert (final.step, final.data_seen, record.epochs) == (600, 600 * 32, 600 * 32 / size)
    assert sum(record.params.values()) == record.num_params == describe_cell(cell)["num_params"]
    counted = {term: flops for term, flops in record.flops.items() if term != "embedding"}  # kept, but a lookup
    assert ("embedding" in record.flops) == (source == STDLIB)
    assert sum(counted.values()) == pytest.approx(final.train_flops)
    assert final.train_flops == record.train_flops_spent == describe_cell(cell)["train_flops"]
    assert parse(Record, record.canonical_json(), "here") == record


@pytest.mark.parametrize(
    "cell", [network(), classical(RandomForestSpec(num_trees=5)), classical(LinearSVMSpec(), STDLIB)]
)
def test_a_cell_trained_twice_has_the_same_record_but_for_its_time(cell):
    time = {"wall_seconds": 0.0, "train_seconds": None}
    one, two = (train_cell(cell).model_copy(update=time) for _ in range(2))
    assert one == two


def test_estimators_are_trained_one_after_another_and_told_of():
    cells, told, seen = [classical(LogisticRegressionSpec(), size=size) for size in (50, 100)], Told(), []
    records = train_cells(cells, tracker=told, on_record=seen.append)
    assert [record.cell for record in records] == [cell.fingerprint() for cell in cells]
    assert seen == told.ended == records
    assert told.evaluations == {record.cell: list(record.evaluations) for record in records}


def test_a_diverging_cell_becomes_a_record_that_says_so():
    record = train_cell(network(peak_lr=1e30))
    assert record.status == "diverged"
    assert record.evaluations[-1].loss is None
    assert record.evaluations[-1].metrics == {}
    assert record.evaluations[-1].step < 10


def test_tables_are_standardised_by_the_subset_alone(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(200, 3)) * [1e-3, 1.0, 1e4] + [0.0, 5.0, -1e5]
    path = tmp_path / "table.csv"
    path.write_text("".join(",".join(map(str, [*row, int(row[0] > 0)])) + "\n" for row in values))
    cell = Cell(
        model=MLPSpec(num_params=200),
        data=DataSpec(source=TableSource(path=str(path)), size=100, evaluation_size=90),
        training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=300),
    )
    assert train_cell(cell).evaluations[-1].metrics["error"] < 0.1
    linear = cell.model_copy(update={"model": LogisticRegressionSpec(), "training": None})
    assert train_cell(linear).evaluations[-1].metrics["error"] < 0.1


@pytest.mark.slow
def test_fashion_mnist_and_letters_train_where_present(shared_data):
    fashion = IdxSource(folder=str(shared_data / "fashion-mnist"))
    letters = TableSource(path=str(shared_data / "letter-recognition" / "letter-recognition.data.gz"), label_column=0)
    for source, model, most in ((fashion, None, 0.35), (letters, None, 0.6), (letters, LogisticRegressionSpec(), 0.45)):
        cell = (
            network(source=source, size=1000, num_steps=300) if model is None else classical(model, source, size=1000)
        )
        if model is None:
            cell = cell.model_copy(update={"model": MLPSpec(num_params=20_000)})
        assert train_cell(cell).evaluations[-1].metrics["error"] < most


def test_labels_that_are_numbers_are_standardised_by_the_subset_and_undone():
    data = DataSpec(source=DiabetesSource(), size=50, evaluation_size=100)
    subset = draw_subset(data, load_source(data), 0)
    standard = standard_of(data, subset)
    labels = subset.read(slice(0, 50))[1]
    seen = (labels - standard.label_shift) * standard.label_scale
    assert (seen.mean(), seen.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    np.testing.assert_allclose(undo_labels(seen, standard), labels, rtol=1e-5)


@pytest.mark.parametrize(
    "model", [RidgeSpec(), RandomForestSpec(num_trees=20), LinearSVMSpec(), MLPSpec(num_params=300)]
)
def test_numbers_are_regressed_and_scored_in_their_own_unit(model):
    data = DataSpec(source=DiabetesSource(), size=300, evaluation_size=100)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=3e-3), batch_size=32, num_steps=300)
    cell = Cell(model=model, data=data, training=training if isinstance(model, MLPSpec) else None)
    final = train_cell(cell).evaluations[-1]
    variance = float(load_source(data).eval_labels.var())
    assert final.metrics["r2"] == pytest.approx(1 - final.loss / variance, rel=1e-4)
    assert 0.25 < final.metrics["r2"] < 0.75
    assert final.loss > 1000  # the labels reach from 25 to 346


PIXELS = np.random.default_rng(7).normal(size=(400, 8, 8, 1)).astype(np.float32)
PLACES = np.stack([PIXELS[:, :4].mean((1, 2, 3)), 1000 * PIXELS[:, 4:].mean((1, 2, 3)) + 5], axis=1)  # in other units
VECTORS = [
    RidgeSpec(),
    RandomForestSpec(num_trees=20),
    MLPSpec(num_params=2000),
    ConvNetSpec(width=8, depth=1),
    ResNetSpec(width=8, depth=1),
    ViTSpec(width=16, depth=1),
]


@pytest.mark.parametrize("model", VECTORS, ids=lambda model: model.kind)
def test_several_numbers_are_regressed_each_in_its_own_unit(model, keep_here):
    data = DataSpec(source=keep_arrays(PIXELS, PLACES, task="regress"), size=300, evaluation_size=100)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=30)
    is_fast = not isinstance(model, RidgeSpec | RandomForestSpec)
    cell = Cell(model=model, data=data, training=training if is_fast else None)
    record = train_cell(cell)
    final = record.evaluations[-1]
    assert describe_cell(cell)["num_params"] in (None, record.num_params)
    assert final.metrics["rmse"] == pytest.approx(final.loss**0.5)
    variance = load_source(data).eval_labels.var(axis=0).mean()
    assert final.metrics["r2"] == pytest.approx(1 - final.loss / variance, rel=1e-4)
    assert final.metrics["r2"] > (-0.1 if model.kind in ("convnet", "resnet", "vit") else 0.1)  # steps are few


def test_numbers_are_learnt_as_well_together_as_alone(keep_here):
    inputs = PIXELS.reshape(400, -1)
    losses = []
    for labels in (PLACES[:, 0], PLACES[:, 1], PLACES):
        data = DataSpec(source=keep_arrays(inputs, labels, task="regress"), size=300, evaluation_size=100)
        losses.append(train_cell(Cell(model=RidgeSpec(regularization=0.5), data=data)).evaluations[-1].loss)
    assert losses[2] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-4)


@pytest.mark.slow
def test_text_is_counted_in_tokens():
    source = TextSource(sequence_length=32)
    cell = Cell(
        model=TransformerSpec(num_params=20_000, depth=1),
        data=DataSpec(source=source, size=100, evaluation_size=64, duplication=0.2),
        training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=16, num_steps=40, num_evaluations=2),
    )
    record = train_cell(cell, (50, 100))
    final = record.evaluations[-1]
    assert (record.data_unit, record.data_unique, final.data_seen) == ("tokens", 80 * 32, 40 * 16 * 32)
    assert record.epochs == pytest.approx(40 * 16 / 80)
    counts = describe_cell(cell)
    assert counts["data_unique"] == record.data_unique
    assert counts["data_seen"] == final.data_seen
    assert counts["train_flops"] == pytest.approx(final.train_flops)
    assert final.loss < np.log(257)
    assert final.metrics["bits_per_byte"] == pytest.approx(final.loss / np.log(2), rel=0.02)
    assert record.data.facts["documents"] > 100
    half = train_cell(cell.model_copy(update={"data": cell.data.model_copy(update={"size": 50})}), (50,))
    assert half.data.is_prefix_of(record.data)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["masked", "permuted"])
def test_encoders_learn_text_by_filling_in(objective):
    model = TransformerSpec(num_params=20_000, depth=1, form="encoder", positions="relative")
    cell = Cell(
        model=model,
        data=DataSpec(source=TextSource(sequence_length=32, objective=objective), size=2000, evaluation_size=64),
        training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=16, num_steps=60, num_evaluations=1),
    )
    assert train_cell(cell).evaluations[-1].loss < 0.8 * np.log(257)


def test_images_are_normalised_by_channel_over_the_subset():
    data = DataSpec(source=DigitsSource(), size=200, evaluation_size=400, normalize=True)
    subset = draw_subset(data, load_source(data), 0)
    standard = standard_of(data, subset)
    scaled = (subset.read(slice(0, 200))[0] - standard.shift) * standard.scale
    assert (scaled.mean(), scaled.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    assert len(np.unique(standard.shift)) == 1
