"""Claims about what a cell will cost: what cannot be trained is refused before it runs."""

import pytest

from scaling.models.families import classical
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import AugmentationSpec, DataSpec, DiabetesSource, DigitsSource, TextSource
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import (
    EstimatorSpec,
    GradientBoostingSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    MLPSpec,
    RBFSVMSpec,
    RidgeSpec,
    TransformerSpec,
)
from scaling.specs.task import TaskShape
from scaling.specs.training import AdamWSpec, CodeOptimizerSpec, TrainingSpec
from scaling.training.plan import check_classes, check_execution, check_metric, describe_cell, join_warnings
from scaling.training.runner import train_cell
from tests.scaling.training import cells
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


# --- one class only -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [LinearSVMSpec(), LogisticRegressionSpec()], ids=lambda model: model.kind)
def test_estimators_are_refused_examples_of_one_class_before_they_are_fitted(model):
    words = (
        r"^data.size=1: the first 1 examples of digits \(data.order='independent', seed=0\) hold one class only, "
        rf"which {model.kind} cannot fit; choose data.size of at least 2$"
    )
    with pytest.raises(InputError, match=words):
        check_classes(cells.classical(model, size=1))
    with pytest.raises(InputError, match=words):
        train_cell(cells.classical(model, size=1))
    check_classes(cells.classical(model, size=2))  # of two classes, under this seed
    alike = next(seed for seed in range(200) if check_classes(network(size=2, seed=seed)))
    with pytest.raises(InputError, match=rf"seed={alike}\) hold one class only"):
        check_classes(cells.classical(model, size=2, seed=alike))


def test_networks_see_one_class_with_a_warning_and_two_without():
    assert check_classes(network(size=2)) is None
    describe_cell(network(size=1))
    warning = check_classes(network(size=1))
    assert "hold one class only, so that mlp learns to name that class; choose data.size of at least 2" in warning
    assert check_classes(network(size=1, source=DiabetesSource())) is None
    assert join_warnings([warning, "another", "third"]) == [f"{warning} (and 2 more cells alike)"]
    assert join_warnings([]) == []


def test_a_balanced_order_is_offered_where_it_has_an_example_of_every_class():
    source = DigitsSource()
    two = next(seed for seed in range(500) if check_classes(network(size=2, source=source, seed=seed)))
    assert "balanced" not in check_classes(network(size=2, source=source, seed=two))  # ten classes need ten
    three = STDLIB.model_copy(update={"num_windows": 2000})
    seeds = range(300)
    found = next(filter(None, (check_classes(network(size=3, source=three, seed=seed)) for seed in seeds)))
    assert found.endswith(", or data.order='balanced'")


# --- how it is to be run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        (Execution(mesh=MeshSpec(data=3)), r"batch_size=32 cannot be divided by data \* fsdp = 3; choose 30 or 33"),
        (Execution(mesh=MeshSpec(fsdp=64)), r"batch_size=32 cannot be divided by data \* fsdp = 64; choose 64"),
        (Execution(micro_batches=5), "batch_size=32 cannot be divided by micro_batches = 5; choose 30 or 35"),
        (Execution(mesh=MeshSpec(data=8), micro_batches=8), r"data \* fsdp \* micro_batches = 64; choose 64"),
        (
            Execution(population=3, mesh=MeshSpec(population=2)),
            "execution.population=3 cannot be divided by execution.mesh.population=2; choose a multiple",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused_without_the_devices(execution, message):
    with pytest.raises(InputError, match=message):
        check_execution(network(), execution)
    check_execution(cells.classical(LinearSVMSpec()), execution)  # which has no batches


def test_what_can_be_divided_is_not_refused():
    check_execution(network(), Execution(population=4, mesh=MeshSpec(population=2, data=4, fsdp=4), micro_batches=2))


def test_a_batch_that_the_mesh_does_not_divide_is_one_line_in_training_too():
    with pytest.raises(
        InputError, match=r"training.batch_size=32 cannot be divided by data \* fsdp = 3; choose 30 or 33"
    ):
        train_cell(network(), execution=Execution(mesh=MeshSpec(data=3)))


def test_networks_without_places_refuse_to_predict_tokens():
    text = TextSource(sequence_length=32)
    with pytest.raises(
        InputError, match=r"model.kind=mlp cannot predict tokens, .*objective next_token.*; choose lstm or"
    ):
        describe_cell(network(source=text, size=10))


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("optax:nothing", {}, "'optax:nothing': optax has no 'nothing'"),
        (
            "optax:adabelief",
            {"bogus": 1},
            "code='optax:adabelief' cannot be called: got an unexpected keyword .*'bogus'",
        ),
        ("optax:global_norm", {}, "code='optax:global_norm' cannot be called: missing a required argument: 'updates'"),
    ],
)
def test_an_optimiser_of_code_that_cannot_be_made_is_refused(code, settings, message):
    optimizer = CodeOptimizerSpec(code=code, settings=settings, peak_lr=0.1)
    cell = network()
    training = cell.training.model_copy(update={"optimizer": optimizer})
    with pytest.raises(InputError, match=message):
        describe_cell(cell.model_copy(update={"training": training}))


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("sklearn.neighbors:Nope", {}, "sklearn.neighbors has no 'Nope'"),
        ("sklearn.neighbors:KNeighborsClassifier", {"bogus": 1}, "model.settings={'bogus': 1}: .* unexpected keyword"),
        ("sklearn.neighbors:KNeighborsRegressor", {}, "does not predict classes, which the labels of data.source are"),
    ],
)
def test_an_estimator_of_code_that_cannot_be_made_is_refused(code, settings, message):
    with pytest.raises(InputError, match=message):
        describe_cell(cells.classical(EstimatorSpec(code=code, settings=settings)))
