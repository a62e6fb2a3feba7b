"""Claims about verdicts: losses and metrics of one network or of many."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scaling.data.feeding import placement
from scaling.data.feeding.standard import standard_of
from scaling.data.loading import draw_cell, load_source
from scaling.data.source import task_shape
from scaling.data.sources.arrays import keep_arrays
from scaling.learning.step import Monitor
from scaling.models.families import classical
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.code import give_files
from scaling.specs.data import BreastCancerSource, DataSpec, DigitsSource, EvaluationSet, WineSource
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import LinearSVMSpec, LogisticRegressionSpec, MLPSpec, RandomForestSpec, RBFSVMSpec
from scaling.specs.training import AdamWSpec, SGDSpec, TrainingSpec
from scaling.training.evaluate import Verdict, log_loss, noise_scales
from scaling.training.plan import describe_cell, metric_columns
from scaling.training.runner import train_cell, train_cells


def test_unseen_classes_have_nolog_loss():
    source = load_source(DataSpec(source=DigitsSource(), size=1, evaluation_size=400))
    uniform = np.full((400, 10), 0.1)
    assert log_loss(uniform, np.arange(10), source) == pytest.approx(np.log(10))
    assert log_loss(uniform[:, :9], np.arange(9), source) is None
    certain = np.eye(10)[(source.eval_labels + 1) % 10]
    assert log_loss(certain, np.arange(10), source) is None


def test_more_metrics_join_a_verdict_that_has_a_loss_and_no_other():
    verdict = Verdict(2.0, {"error": 0.5})
    assert verdict.joined({"train_loss": 3.0}) == (2.0, {"error": 0.5, "train_loss": 3.0})
    assert verdict.named("ema") == {"ema_loss": 2.0, "ema_error": 0.5}
    lost = Verdict(None, {})
    assert lost.joined({"train_loss": 3.0}) == (None, {})
    assert lost.named("ema") == {}


def test_the_noise_scale_is_told_of_members_whose_estimates_are_positive():
    zero = jnp.zeros(3)
    monitor = Monitor(zero, zero, zero, noise=jnp.array([4.0, -1.0, 1.0]), signal=jnp.array([2.0, 1.0, 0.0]))
    training = TrainingSpec(optimizer=SGDSpec(peak_lr=1.0), batch_size=32, num_steps=1, noise_scale_parts=2)
    assert noise_scales(monitor, training) == [{"noise_scale": 64.0}, {}, {}]
    assert noise_scales(monitor, training.model_copy(update={"noise_scale_parts": None})) is None


# --- metrics and evaluation sets, of networks alone, in populations and on meshes, and of estimators ----------------


OF_TWO = BreastCancerSource()


def asking(model, *metrics, source=OF_TWO, sets=(), seed=0, **training) -> Cell:
    data = DataSpec(source=source, size=200, evaluation_size=150, metrics=metrics, evaluation_sets=sets)
    how = {"optimizer": AdamWSpec(peak_lr=1e-2), "batch_size": 32, "num_steps": 20, "num_evaluations": 2}
    is_network = isinstance(model, MLPSpec)
    return Cell(model=model, data=data, seed=seed, training=TrainingSpec(**how | training) if is_network else None)


def last(cell, **options) -> dict[str, float]:
    final = train_cell(cell, **options).evaluations[-1]
    return {"loss": final.loss, **final.metrics}


def test_an_estimators_auc_is_that_of_its_scores_with_probabilities_and_without():
    for model in (LogisticRegressionSpec(), LinearSVMSpec(), RBFSVMSpec(), RandomForestSpec(num_trees=20)):
        cell = asking(model, "auc")
        subset, source = draw_cell(cell), load_source(cell.data)
        standard = standard_of(cell.data, subset)
        inputs, labels = subset.read(slice(0, 200))
        fitted = classical.build(model, task_shape(source), 0)
        fitted.fit((inputs - standard.shift) * standard.scale, labels)
        seen = (source.eval_inputs - standard.shift) * standard.scale
        has_scores = hasattr(fitted, "decision_function")
        scores = fitted.decision_function(seen) if has_scores else fitted.predict_proba(seen)[:, 1]
        assert last(cell)["auc"] == pytest.approx(roc_auc_score(source.eval_labels, scores), abs=1e-4), model.kind


def test_metrics_that_are_asked_for_change_nothing_else_and_are_alike_in_populations_and_on_meshes():
    cells = [asking(MLPSpec(num_params=500), "auc", seed=seed) for seed in (0, 1)]
    alone = [last(cell) for cell in cells]
    without = last(asking(MLPSpec(num_params=500)))
    assert {name: value for name, value in alone[0].items() if name != "auc"} == without
    assert alone[0]["auc"] != alone[1]["auc"]
    together = train_cells(cells, execution=Execution(population=2))
    for own, record in zip(alone, together, strict=True):
        assert record.evaluations[-1].metrics["auc"] == pytest.approx(own["auc"], abs=1e-3)
        assert "auc" in record.evaluations[0].metrics
    divided = last(cells[0], execution=Execution(mesh=MeshSpec(data=2)))
    assert divided["auc"] == pytest.approx(alone[0]["auc"], abs=1e-3)


def test_five_of_ten_digits_hold_the_right_one_more_often_than_one():
    measured = last(asking(LogisticRegressionSpec(), "top5_accuracy", "top5_error", source=DigitsSource()))
    assert measured["accuracy"] < measured["top5_accuracy"] == pytest.approx(1 - measured["top5_error"])


@pytest.mark.parametrize("model", [MLPSpec(num_params=500), LogisticRegressionSpec()], ids=lambda model: model.kind)
def test_an_evaluation_set_has_the_numbers_of_the_same_set_as_the_main_one(model, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = load_source(DataSpec(source=OF_TWO, size=1, evaluation_size=150))
    others = keep_arrays(source.inputs, source.labels, evaluation_inputs=source.inputs[:90] * 1.1,
                         evaluation_labels=source.labels[:90])  # fmt: skip
    same = EvaluationSet(name="same", source=OF_TWO, size=150)
    moved = EvaluationSet(name="moved", source=others, size=90)
    cell = asking(model, "auc", sets=(same, moved))
    record = train_cell(cell)
    for evaluation in record.evaluations:
        for name in ("loss", "error", "auc"):
            main = evaluation.loss if name == "loss" else evaluation.metrics[name]
            assert evaluation.metrics[f"same_{name}"] == pytest.approx(main)
    by_hand = cell.data.model_copy(update={"source": others, "evaluation_size": 90, "evaluation_sets": ()})
    pooled = last(cell.model_copy(update={"data": by_hand}))  # the same pool and order
    for name in ("loss", "error", "auc"):
        assert record.evaluations[-1].metrics[f"moved_{name}"] == pytest.approx(pooled[name], abs=1e-5)
    kept = {each.name: each for each in record.data.evaluation_sets}
    assert (kept["same"].sha256, kept["same"].size) == (record.data.evaluation_sha256, 150)
    assert (kept["same"].in_evaluation, kept["moved"].in_evaluation) == (0, 0)
    assert set(metric_columns(cell)) - {"train_loss"} == {"loss", *record.evaluations[-1].metrics} - {"train_loss"}


def test_evaluation_sets_are_counted_where_they_meet_the_subset_and_judged_by_averages_too():
    wide = EvaluationSet(name="wide", source=OF_TWO, size=300)  # more than are held out
    cells = [asking(MLPSpec(num_params=500), sets=(wide,), seed=seed, ema_decay=0.9) for seed in (0, 1)]
    records = train_cells(cells, execution=Execution(population=2))
    assert all(0 < record.data.evaluation_sets[0].in_evaluation <= 150 for record in records)
    for cell, record in zip(cells, records, strict=True):
        alone = last(cell)
        for name in ("wide_loss", "ema_wide_loss", "ema_loss"):
            assert record.evaluations[-1].metrics[name] == pytest.approx(alone[name], rel=1e-3)


def test_a_users_metric_is_measured_and_its_facts_are_kept(tmp_path):
    (tmp_path / "mine_brier.py").write_text(
        "import jax\nfrom scaling.learning.metrics import Metric\n\n"
        "def squares(outputs, targets):\n"
        "    return ((jax.nn.softmax(outputs) - jax.nn.one_hot(targets, outputs.shape[-1])) ** 2).sum(-1)\n\n"
        "brier = Metric('brier', squares, direction='lower')\n"
    )
    give_files({"mine_brier": tmp_path / "mine_brier.py"})
    for model in (LogisticRegressionSpec(), MLPSpec(num_params=500)):
        record = train_cell(asking(model, "mine_brier:brier"))
        assert 0.0 < record.evaluations[-1].metrics["brier"] < 0.5
        assert [facts.name for facts in record.data.metrics] == ["brier"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("top5_error",)}, "data.metrics='top5_error' is for more than five classes"),
        ({"metrics": ("r2",)}, "data.metrics='r2' is for numbers"),
        ({"evaluation_sets": (EvaluationSet(name="a", source=WineSource(), size=9),)}, "num_features=13"),
        ({"evaluation_sets": (EvaluationSet(name="a", source=OF_TWO, size=999),)}, "data.evaluation_sets 'a'"),
    ],
)
def test_what_does_not_fit_the_task_is_refused_before_training(changes, message):
    cell = asking(LogisticRegressionSpec())
    with pytest.raises(InputError, match=message):
        describe_cell(cell.model_copy(update={"data": cell.data.model_copy(update=changes)}))


def test_vectors_metrics_and_sets_are_alike_alone_together_on_a_mesh_and_streamed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    inputs = np.random.default_rng(3).normal(size=(350, 6)).astype(np.float32)
    kept = keep_arrays(inputs, inputs[:, :2] * [1.0, 100.0] + 7.0, task="regress")
    give_files({"mine_far": tmp_path / "mine_far.py"})
    (tmp_path / "mine_far.py").write_text(
        "import jax.numpy as jnp\nfrom scaling.learning.metrics import Metric\n"
        "far = Metric('far', lambda outputs, targets: jnp.square(outputs - targets))\n"
    )
    sets = (EvaluationSet(name="same", source=kept, size=150),)
    cells = [asking(MLPSpec(num_params=500), "mine_far:far", source=kept, sets=sets, seed=seed) for seed in (0, 1)]
    alone = [last(cell) for cell in cells]
    for found in alone:  # in the labels' units, each number in its own
        assert found["far"] == pytest.approx(found["loss"], rel=1e-4)
        assert (found["same_loss"], found["same_far"]) == (found["loss"], found["far"])
    together = train_cells(cells, execution=Execution(population=2))
    for own, record in zip(alone, together, strict=True):
        assert record.evaluations[-1].metrics["same_far"] == pytest.approx(own["far"], rel=1e-3)
    assert last(cells[0], execution=Execution(mesh=MeshSpec(data=2)))["far"] == pytest.approx(alone[0]["far"], rel=1e-3)
    monkeypatch.setattr(placement, "RESIDENT_BYTES", 1000)
    streamed = train_cell(cells[0])
    assert streamed.waiting_seconds is not None
    assert streamed.evaluations[-1].metrics["same_far"] == pytest.approx(alone[0]["far"], rel=1e-3)
