"""Claims about learners: what each predicts with is counted, and least squares takes the smallest solution."""

import copy

import numpy as np
import pytest
import scipy.sparse

from scaling.models.families import classical
from scaling.models.families.learners import LeastSquares
from scaling.specs.models import GradientBoostingSpec, RandomForestSpec, RBFSVMSpec, RidgeSpec
from tests.scaling.models.families.fitted import BINARY, NUMBERS, TOKENS, draw_numbers, fit, fit_numbers


@pytest.mark.parametrize("task", [NUMBERS, TOKENS], ids=["numbers", "tokens"])
def test_a_kernel_machine_counts_its_support_vectors(task):
    spec = RBFSVMSpec()
    estimator = fit(spec, task, size=200)
    num_support = len(estimator.support_)
    assert 50 < num_support <= 200
    counted = classical.effective_params(spec, estimator)
    assert counted == {"support_vectors": 64 * num_support, "dual_coefficients": 9 * num_support, "intercepts": 45}


def test_a_forest_counts_its_nodes_as_sklearns_own_text_shows_them():
    from sklearn.tree import export_text

    spec = RandomForestSpec(num_trees=3)
    estimator = fit(spec, NUMBERS, size=100)
    lines = [line for tree in estimator.estimators_ for line in export_text(tree, max_depth=99).splitlines()]
    leaves = sum("class:" in line for line in lines)
    splits = sum("<=" in line for line in lines)
    assert classical.effective_params(spec, estimator) == {"splits": 2 * splits, "leaves": 9 * leaves}
    assert leaves == splits + 3  # binary trees


def test_boosting_counts_full_trees_of_every_class():
    # With 400 examples and 2 leaves, every tree is one split; two classes share one tree an iteration.
    spec = GradientBoostingSpec(num_iterations=5, max_leaves=2)
    counted = classical.effective_params(spec, fit(spec, NUMBERS))
    assert counted == {"splits": 2 * 5 * 10, "leaves": 2 * 5 * 10, "baseline": 10}
    assert classical.effective_params(spec, fit(spec, BINARY)) == {"splits": 10, "leaves": 10, "baseline": 1}


def test_boosting_without_its_private_trees_counts_nothing():
    spec = GradientBoostingSpec(num_iterations=1)
    estimator = copy.copy(fit(spec, BINARY, size=100))
    del estimator._predictors
    assert classical.effective_params(spec, estimator) == {}


@pytest.mark.parametrize("size", [6, 300])
@pytest.mark.parametrize("regularization", [0.0, 1e-3, 5.0])
def test_ridge_minimises_the_sum_of_squares_and_its_penalty(regularization, size):
    spec = RidgeSpec(regularization=regularization)
    inputs, labels = (array[:size].astype(np.float64) for array in draw_numbers())
    estimator = fit_numbers(spec, size=size)
    centred = inputs - inputs.mean(axis=0)
    kernel = centred.T @ centred + regularization * np.eye(10)
    coefficients = np.linalg.pinv(kernel, rcond=1e-12) @ centred.T @ (labels - labels.mean())
    np.testing.assert_allclose(estimator.coef_, coefficients, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(estimator.intercept_, (labels - inputs @ coefficients).mean(), rtol=1e-6)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_without_regularization_the_smallest_of_all_solutions_is_taken(is_sparse):
    generator = np.random.default_rng(0)
    inputs, labels = generator.normal(size=(8, 30)) * np.logspace(0, -5, 30), generator.normal(size=8)
    estimator = LeastSquares().fit(scipy.sparse.csr_matrix(inputs) if is_sparse else inputs, labels)
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if is_sparse else {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(estimator.predict(inputs), labels, **tolerance)
    smallest = np.linalg.pinv(inputs - inputs.mean(axis=0)) @ (labels - labels.mean())
    assert np.linalg.norm(estimator.coef_) <= np.linalg.norm(smallest) * (1 + 1e-9)
    if not is_sparse:
        np.testing.assert_allclose(estimator.coef_, smallest, rtol=1e-6, atol=1e-9)


def test_least_squares_keeps_the_small_directions_of_steep_spectra():
    # A millionth of the first: scikit-learn's own LinearRegression drops it at its default threshold of 1e-6.
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(50, 2)) * [1.0, 1e-7]
    np.testing.assert_allclose(LeastSquares().fit(inputs, inputs @ [1.0, 1e7]).coef_, [1.0, 1e7], rtol=1e-6)
