"""Claims about what a cell will cost: what cannot be trained is refused before it runs."""

import pytest

from scaling.models.families import classical
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import AugmentationSpec, DataSpec, DiabetesSource, TextSource
from scaling.specs.models import (
    GradientBoostingSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    MLPSpec,
    RBFSVMSpec,
    RidgeSpec,
    TransformerSpec,
)
from scaling.specs.task import TaskShape
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.training.plan import check_metric, describe_cell
from scaling.training.runner import train_cell
from tests.scaling.training.cells import STDLIB, network

STDLIB_DATA = DataSpec(source=STDLIB, size=100, evaluation_size=100)


def test_impossible_cells_are_refused_before_training():
    with pytest.raises(InputError, match="exceeds the 1397 training examples of digits"):
        describe_cell(network(size=2000))
    with pytest.raises(InputError, match="smallest mlp"):
        describe_cell(network().model_copy(update={"model": MLPSpec(num_params=2)}))


def test_n_is_counted_as_the_model_asks_and_the_total_is_beside_it():
    text = DataSpec(source=TextSource(sequence_length=32), size=10, evaluation_size=10)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-3), batch_size=2, num_steps=1)

    def cell(convention):
        model = TransformerSpec(num_params=4000, depth=1, convention=convention)
        return Cell(model=model, data=text, training=training)

    asked, record = describe_cell(cell("non_embedding")), train_cell(cell("non_embedding"))
    assert asked["num_params"] == pytest.approx(4000, rel=0.03)
    assert asked["num_params"] == record.num_params == sum(record.params.values()) - record.params["embedding"]
    assert asked["num_params_total"] == sum(record.params.values()) > 1.5 * record.num_params
    assert asked["num_params_convention"] == record.num_params_convention == "non_embedding"
    assert "num_params_total" not in describe_cell(cell("total"))


def test_the_metric_of_a_study_is_a_column_that_the_data_and_the_model_give():
    cell = Cell(model=RBFSVMSpec(), data=STDLIB_DATA.model_copy(update={"metrics": ("error",)}))
    check_metric("error", cell)
    with pytest.raises(InputError, match="metric='loss' is no column of rbf_svm on stdlib"):  # it has no probabilities
        check_metric("loss", cell)
    check_metric("loss", cell.model_copy(update={"model": LogisticRegressionSpec()}))
    with pytest.raises(InputError, match="metric='r2' is no column"):
        check_metric("r2", cell)
    numbers = Cell(model=RidgeSpec(), data=DataSpec(source=DiabetesSource(), size=100, evaluation_size=100))
    check_metric("rmse", numbers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "grouped"}, "data.order='grouped' needs groups, which diabetes does not name"),
        ({"order": "balanced"}, "data.order='balanced' needs classes, which diabetes does not have"),
        ({"label_noise": 0.1}, "data.label_noise=0.1 needs classes"),
        ({"normalize": True}, "data.normalize is for images"),
        ({"augmentation": AugmentationSpec(flip=True)}, "data.augmentation is for images"),
    ],
)
def test_what_a_source_cannot_do_is_refused(changes, message):
    data = DataSpec(source=DiabetesSource(), size=100, evaluation_size=100, **changes)
    with pytest.raises(InputError, match=message):
        describe_cell(Cell(model=RidgeSpec(), data=data))


def test_learners_refuse_tasks_that_are_not_theirs():
    text = DataSpec(source=TextSource(sequence_length=32), size=10, evaluation_size=10)
    numbers = DataSpec(source=DiabetesSource(), size=100, evaluation_size=100)
    for data, model in ((text, LinearSVMSpec()), (numbers, LogisticRegressionSpec()), (STDLIB_DATA, RidgeSpec())):
        with pytest.raises(InputError, match=model.kind):
            describe_cell(Cell(model=model, data=data))


@pytest.mark.parametrize("model", [LinearSVMSpec(), RBFSVMSpec(), GradientBoostingSpec()], ids=lambda model: model.kind)
def test_learners_of_one_number_refuse_several(model):
    places = TaskShape(num_features=4, vocab_size=None, num_classes=2, objective="regress")
    with pytest.raises(InputError, match=r"predicts one number, but the labels .* are 2 each; choose ridge or random_"):
        classical.check_task(model, places)
