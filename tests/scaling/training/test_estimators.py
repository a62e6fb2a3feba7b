"""Claims about estimators: they beat chance, count what they predict with, and say what went wrong."""

import numpy as np
import pytest

from scaling.data.sources.synthetic import expected_error
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, TeacherSource
from scaling.specs.models import (
    GradientBoostingSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    NaiveBayesSpec,
    RandomForestSpec,
    RBFSVMSpec,
    RidgeSpec,
)
from scaling.training.plan import describe_cell
from scaling.training.runner import train_cell
from tests.scaling.training.cells import BEATABLE, SIZES, STDLIB, classical

CLASSICAL = [
    LogisticRegressionSpec(),
    LinearSVMSpec(),
    RBFSVMSpec(),
    RandomForestSpec(num_trees=10),
    GradientBoostingSpec(num_iterations=10),
    NaiveBayesSpec(),
]
LIKELIHOODS = ("logistic_regression", "gradient_boosting")  # fitted to probabilities


@pytest.mark.parametrize("source", [DigitsSource(), STDLIB], ids=["digits", "stdlib"])
@pytest.mark.parametrize("model", CLASSICAL, ids=lambda model: model.kind)
def test_classical_families_beat_chance(model, source):
    size = SIZES[source.kind]
    record = train_cell(classical(model, source, size))
    final = record.evaluations[-1]
    assert final.metrics["error"] < BEATABLE[source.kind]
    assert final.metrics["error"] + final.metrics["accuracy"] == pytest.approx(1.0)
    if model.kind != "naive_bayes":  # whose likelihood may be 0
        assert (final.loss is not None) == (model.kind in LIKELIHOODS)
    assert record.num_params == sum(record.params.values()) > 0
    assert (record.train_flops_spent is None) == (record.flops == {})
    assert record.train_flops_spent == final.train_flops
    assert (record.status, record.data_unique, record.epochs) == ("ok", size, 1.0)


def test_linear_models_count_their_coefficients():
    record = train_cell(classical(LogisticRegressionSpec(), STDLIB))
    assert record.num_params == 3 * (16 * 62 + 1)
    assert describe_cell(classical(RandomForestSpec(num_trees=2)))["num_params"] is None  # known after the fit


def test_a_solver_that_gives_up_leaves_a_warning_in_the_record():
    record = train_cell(classical(LogisticRegressionSpec(max_iterations=2)))
    assert any("failed to converge" in warning for warning in record.warnings)


def test_one_class_only_is_an_error_with_its_reason():
    cell = classical(LinearSVMSpec(), size=1)
    with pytest.raises(ValueError, match="hold one class only"):
        train_cell(cell)


def test_ridge_on_a_known_teacher_errs_as_theory_says():
    source = TeacherSource(num_features=400, num_examples=2000)
    expected = expected_error(source, [100, 400])
    for m, error in zip((100, 400), expected, strict=True):
        data = DataSpec(source=source, size=m, evaluation_size=2000)
        losses = [
            train_cell(Cell(model=RidgeSpec(regularization=0.0), data=data, seed=seed)).evaluations[-1].loss
            for seed in range(4)
        ]
        if m == 100:
            assert np.mean(losses) == pytest.approx(error, rel=0.15)
        assert np.isfinite(error)
