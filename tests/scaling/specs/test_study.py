"""Studies: where they come from, what overrides do, and every study in configs/."""

import pytest

from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, EvaluationSet
from scaling.specs.fits import FitSpec
from scaling.specs.models import LogisticRegressionSpec, MLPSpec
from scaling.specs.schedules import CosineSchedule, WSDSchedule
from scaling.specs.sharing import trunk_of
from scaling.specs.study import Series, Study, at_horizons, ladder, resolve_study
from scaling.specs.training import AdamWSpec, TrainingSpec

SOURCE = """
from scaling.specs.cell import *
from scaling.specs.data import *
from scaling.specs.models import *
from scaling.specs.study import *
from scaling.specs.schedules import *
from scaling.specs.training import *

def study(largest: int = 400) -> Study:
    cells = tuple(
        Cell(model=LogisticRegressionSpec(), data=DataSpec(source=DigitsSource(), size=m)) for m in ladder(100, largest)
    )
    return Study(name="mine", question="?", series=(Series(label="linear", cells=cells),))
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    return str(file)


def test_ladder_steps_by_its_factor_and_keeps_its_ends():
    assert ladder(100, 800) == (100, 200, 400, 800)
    assert ladder(100, 799) == (100, 200, 400)
    assert ladder(1, 8, factor=2**0.5) == (1, 2, 3, 4, 6, 8)
    assert ladder(5, 5) == (5,)


@pytest.mark.parametrize("arguments", [(0, 5), (10, 5), (1, 5, 1.0)])
def test_ladder_refuses_what_makes_no_ladder(arguments):
    with pytest.raises(InputError):
        ladder(*arguments)


def test_a_saved_study_resolves_to_itself(path, tmp_path):
    study = resolve_study(path)
    saved = tmp_path / "study.json"
    saved.write_text(study.canonical_json())
    assert resolve_study(str(saved)) == study


def test_parameters_of_the_function_and_fields_of_cells_share_one_flag(path):
    study = resolve_study(path, ["largest=200", "data.order=stratified"])
    assert [cell.data.size for cell in study.cells.values()] == [100, 200]
    assert {cell.data.order for cell in study.cells.values()} == {"stratified"}


def test_parameters_that_are_integers_are_typed_as_counts_are(path):
    assert resolve_study(path, ["largest=0.4k"]) == resolve_study(path, ["largest=4e2"]) == resolve_study(path)
    with pytest.raises(InputError, match="largest"):
        resolve_study(path, ["largest=400.5"])


def test_fields_of_the_study_itself_are_set_the_same_way(path):
    study = resolve_study(path, ["fit.smallest_size=200", "metric=error", "data.order=balanced"])
    assert (study.fit.smallest_size, study.metric) == (200, "error")
    assert {cell.data.order for cell in study.cells.values()} == {"balanced"}
    with pytest.raises(InputError, match="did you mean 'smallest_size'"):
        resolve_study(path, ["fit.smalest_size=200"])


def study_of(metric: str, objective: str = "huber", training: TrainingSpec | None = None, **data) -> Study:
    model = LogisticRegressionSpec() if training is None else MLPSpec(num_params=500)
    cell = Cell(model=model, data=DataSpec(source=DigitsSource(), size=9, **data), training=training)
    fit = FitSpec(objective=objective)
    return Study(name="mine", question="?", metric=metric, fit=fit, series=(Series(label="one", cells=(cell,)),))


def test_a_study_may_have_any_metric_that_its_cells_will_have():
    sets = (EvaluationSet(name="ood", source=DigitsSource()),)
    averaged = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), num_steps=1, ema_decay=0.9)
    for metric, how in {
        "accuracy": {},
        "top5_error": {"metrics": ("top5_error",)},
        "ood_top5_error": {"metrics": ("top5_error",), "evaluation_sets": sets},
        "ema_ood_loss": {"evaluation_sets": sets, "training": averaged},
        "train_loss": {"training": averaged},
        "brier": {"metrics": ("mine:brier",)},  # what it is called, its code knows
        "r2": {"objective": "mse"},
    }.items():
        assert study_of(metric, **how).metric == metric


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("acuracy", "metric='acuracy' is no column that 'one' will have; did you mean 'accuracy'"),
        ("auc", "add it to data.metrics"),
        ("ood_loss", "is no column"),
        ("train_loss", "is no column"),
        ("r2", "may be 0 or below, but fit.objective='huber' acts on logarithms; set fit.objective='mse'"),
    ],
)
def test_a_metric_that_a_cell_will_not_have_is_refused(metric, message):
    with pytest.raises(ValueError, match=message):
        study_of(metric)


def test_a_metric_and_the_cells_that_have_it_are_overridden_together(path):
    study = resolve_study(path, ["metric=top5_error", 'data.metrics=["top5_error"]'])
    assert (study.metric, {cell.data.metrics for cell in study.cells.values()}) == ("top5_error", {("top5_error",)})


def test_cells_that_an_override_makes_equal_count_once(path):
    assert len(resolve_study(path, ["data.size=50"]).cells) == 1


@pytest.mark.parametrize(
    ("reference", "assignments", "message"),
    [
        ("performance_vs_dat", [], "did you mean 'performance_vs_data'"),
        ("none.py", [], "'none.py' does not exist"),
        ("none.json", [], "cannot be read"),
        ("performance_vs_data", ["largest=big"], "largest"),
        ("performance_vs_data", ["lorgest=200"], "there is no 'lorgest'; did you mean 'largest'"),
        ("performance_vs_data", ["data.soze=200"], "there is no 'data.soze'; did you mean 'size'"),
        ("performance_vs_data", ["largest=10"], "0 < smallest <= largest"),
    ],
)
def test_what_cannot_be_resolved_is_one_line(reference, assignments, message):
    with pytest.raises(InputError) as caught:
        resolve_study(reference, assignments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["def study(): return 3", "x = 1", "def study(): return Study(name='a b')"])
def test_a_file_without_a_study_says_so(text, tmp_path):
    file = tmp_path / "odd.py"
    file.write_text("from scaling.specs.study import Study\n" + text)
    with pytest.raises(InputError, match=r"odd\.py"):
        resolve_study(str(file))


def test_labels_must_differ():
    cell = Cell(model=LogisticRegressionSpec(), data=DataSpec(source=DigitsSource(), size=10))
    with pytest.raises(ValueError, match="'a' is used 2 times"):
        Study(name="x", question="", series=(Series(label="a", cells=(cell,)), Series(label="a", cells=(cell,))))


@pytest.mark.parametrize("num_seeds", [0, -1])
def test_a_study_in_which_nothing_is_trained_is_refused_with_what_made_it_so(num_seeds):
    with pytest.raises(InputError, match=rf"has no cells; .* \(with --set num_seeds={num_seeds}\)"):
        resolve_study("performance_vs_data", [f"num_seeds={num_seeds}"])
    with pytest.raises(InputError, match="series is empty"):
        Study(name="x", question="", series=())


def test_studies_of_the_working_directory_stand_beside_those_of_the_package(tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    assert resolve_study("mine").name == "mine"
    assert resolve_study("performance_vs_data").name == "performance_vs_data"
    assert capsys.readouterr().err == ""
    (tmp_path / "configs" / "performance_vs_data.py").write_text(SOURCE)
    assert resolve_study("performance_vs_data").name == "mine"
    assert "configs/performance_vs_data.py is used, not " in capsys.readouterr().err


def test_the_demo_study_is_the_picture_that_it_promises():
    study = resolve_study("performance_vs_data")
    sizes = {cell.data.size for cell in study.cells.values()}
    assert min(sizes) <= 100
    assert max(sizes) >= 20_000
    assert len({cell.seed for cell in study.cells.values()}) >= 3
    assert {cell.data.evaluation_size for cell in study.cells.values()} == {10_000}
    families = {cell.model.kind for cell in study.cells.values()}
    assert families == {"logistic_regression", "linear_svm", "rbf_svm", "random_forest", "mlp"}


def network(schedule) -> Cell:
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), schedule=schedule, num_steps=100)
    return Cell(model=MLPSpec(width=8), data=DataSpec(source=DigitsSource(), size=100), training=training)


def test_horizons_differ_in_their_length_alone_and_share_a_trunk():
    cells = at_horizons(network(WSDSchedule(warmup_steps=4)), [25, 50, 100])
    assert [cell.training.num_steps for cell in cells if cell.training] == [25, 50, 100]
    assert len({trunk_of(cell) for cell in cells}) == 1
    assert cells[2] == network(WSDSchedule(warmup_steps=4))


def test_horizons_without_a_common_trunk_are_refused():
    with pytest.raises(InputError, match=r"schedule.kind=cosine: horizons need a common trunk; choose wsd"):
        at_horizons(network(CosineSchedule()), [25, 50])
    with pytest.raises(ValueError, match=r"warmup_steps=90 go on after step 20"):
        at_horizons(network(WSDSchedule(warmup_steps=90, decay_fraction=0.1)), [22])
