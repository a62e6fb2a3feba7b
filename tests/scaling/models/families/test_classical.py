"""Classical learners: better than chance, repeatable, and counted from first principles."""

import numpy as np
import pytest

from scaling.models.families import classical
from scaling.specs.base import InputError
from scaling.specs.models import (
    GradientBoostingSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    MLPSpec,
    NaiveBayesSpec,
    RandomForestSpec,
    RBFSVMSpec,
    RidgeSpec,
)
from scaling.specs.task import TaskShape, token_task
from tests.scaling.models.families.fitted import (
    BINARY,
    NUMBERS,
    REGRESSION,
    TOKENS,
    draw,
    draw_numbers,
    fit,
    fit_numbers,
)

LOGISTIC = LogisticRegressionSpec(inverse_regularization=0.3)
SPECS = [
    LOGISTIC,
    LinearSVMSpec(),
    RBFSVMSpec(),
    RandomForestSpec(num_trees=12),
    GradientBoostingSpec(num_iterations=8, max_leaves=6),
    NaiveBayesSpec(),
]


def name(value) -> str:
    return getattr(value, "kind", "")


@pytest.mark.parametrize("task", [NUMBERS, TOKENS, BINARY], ids=["numbers", "tokens", "binary"])
@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_every_learner_is_much_better_than_chance(spec, task):
    inputs, labels = draw(task)
    unseen = classical.encode_inputs(spec, inputs[400:], task)
    accuracy = (fit(spec, task).predict(unseen) == labels[400:]).mean()
    assert accuracy > (0.7 if task.num_classes == 2 else 0.6)


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_the_same_seed_twice_is_bitwise_equal(spec):
    def outputs(seed):
        estimator = fit.__wrapped__(spec, NUMBERS, size=300, seed=seed)
        decide = estimator.decision_function if "svm" in spec.kind else estimator.predict_proba
        return decide(draw(NUMBERS)[0])

    np.testing.assert_array_equal(outputs(3), outputs(3))
    if spec.kind == "random_forest":
        assert not np.array_equal(outputs(3), outputs(4))


@pytest.mark.parametrize("task", [NUMBERS, TOKENS, BINARY], ids=["numbers", "tokens", "binary"])
@pytest.mark.parametrize("spec", [LOGISTIC, LinearSVMSpec(), NaiveBayesSpec()], ids=name)
def test_sizes_known_before_the_fit_are_those_after_it(spec, task):
    assert classical.count_params(spec, task) == classical.effective_params(spec, fit(spec, task))


def test_sizes_known_before_the_fit_by_hand():
    def total(spec, task):
        return sum(classical.count_params(spec, task).values())

    assert total(LogisticRegressionSpec(), NUMBERS) == 10 * (64 + 1)
    assert total(LinearSVMSpec(), TOKENS) == 10 * (64 * 6 + 1)
    assert total(LinearSVMSpec(), BINARY) == 64 + 1
    assert total(NaiveBayesSpec(), NUMBERS) == 2 * 10 * 64 + 9
    assert total(NaiveBayesSpec(), TOKENS) == 10 * 64 * 5 + 9
    for grows in SPECS[2:5]:
        assert classical.count_params(grows, NUMBERS) == {}


def test_naive_bayes_counts_tokens_that_were_never_seen():
    estimator = fit(NaiveBayesSpec(), TOKENS, size=50)
    assert {shares.shape for shares in estimator.feature_log_prob_} == {(10, 6)}


@pytest.mark.parametrize("task", [NUMBERS, TOKENS], ids=["numbers", "tokens"])
def test_logistic_regression_counts_at_most_the_evaluations_that_it_makes(task, monkeypatch):
    from sklearn.linear_model._linear_loss import LinearModelLoss

    calls, original = [], LinearModelLoss.loss_gradient
    monkeypatch.setattr(
        LinearModelLoss, "loss_gradient", lambda *args, **kwargs: (calls.append(1), original(*args, **kwargs))[1]
    )
    spec = LOGISTIC
    counted = classical.train_flops(spec, fit.__wrapped__(spec, task, size=200), 200, 64)
    true = 4.0 * 200 * 64 * 10 * len(calls)
    assert 0.8 * true < counted <= true


def test_the_linear_machine_counts_sweeps_of_the_dual_alone():
    spec = LinearSVMSpec()
    dual, primal = fit(spec, TOKENS, size=200), fit(spec, NUMBERS, size=400)
    assert classical.train_flops(spec, dual, 200, 64) == 4 * 200 * 64 * 10 * dual.n_iter_
    assert classical.train_flops(spec, primal, 400, 64) is None
    binary = fit(spec, BINARY, size=40)
    assert classical.train_flops(spec, binary, 40, 64) == 4 * 40 * 64 * binary.n_iter_


def test_scikit_learn_solves_the_dual_where_we_say_so():
    from sklearn.svm import LinearSVC

    spec = LinearSVMSpec()
    for size, dual in ((60, True), (64, False)):
        inputs, labels = draw(BINARY, size)
        explicit = LinearSVC(C=spec.inverse_regularization, dual=dual, random_state=0, max_iter=10_000)
        same, other = explicit.fit(inputs, labels), fit(spec, BINARY, size)
        np.testing.assert_array_equal(same.coef_, other.coef_)
        assert (classical.train_flops(spec, other, size, 64) is not None) == dual


def test_naive_bayes_flops_grow_with_m_in_one_pass():
    spec = NaiveBayesSpec()
    assert [classical.train_flops(spec, fit(spec, NUMBERS), m, 64) for m in (1, 400)] == [3 * 64, 3 * 400 * 64]
    assert classical.train_flops(spec, fit(spec, TOKENS), 400, 64) == 400 * 64


def test_logistic_regressions_flops_grow_with_m():
    spec = LOGISTIC
    small, large = (classical.train_flops(spec, fit(spec, NUMBERS, size=m), m, 64) for m in (100, 400))
    assert large > 4 * small > 0


@pytest.mark.parametrize("spec", SPECS[2:5], ids=name)
def test_solvers_that_do_not_tell_have_no_flops(spec):
    assert classical.train_flops(spec, fit(spec, NUMBERS, size=100), 100, 64) is None


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_models_fitted_by_likelihood_give_probabilities(spec):
    inputs = classical.encode_inputs(spec, draw(NUMBERS)[0][400:], NUMBERS)
    probabilities = classical.class_probabilities(spec, fit(spec, NUMBERS), inputs)
    assert (probabilities is not None) == (spec.kind in ("logistic_regression", "gradient_boosting", "naive_bayes"))
    if probabilities is not None:
        np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(len(inputs)), rtol=1e-6)


def test_naive_bayes_on_numbers_is_fitted_in_double_precision():
    # In float32 these likelihoods are off by up to 3e-5 on digits, where some pixels hardly vary.
    estimator = fit(NaiveBayesSpec(), NUMBERS)
    inputs = classical.encode_inputs(NaiveBayesSpec(), draw(NUMBERS)[0][400:], NUMBERS)
    np.testing.assert_allclose(estimator.predict_proba(inputs).sum(axis=1), np.ones(len(inputs)), rtol=1e-9)


def test_tokens_are_one_hot_for_linear_and_kernel_methods_and_codes_for_the_others():
    codes = draw(TOKENS, 5)[0]
    for spec in SPECS[:3]:
        rows = classical.encode_inputs(spec, codes, TOKENS)
        np.testing.assert_array_equal(rows.toarray().reshape(5, 64, 6).argmax(axis=2), codes)
        np.testing.assert_array_equal(rows.sum(axis=1), np.full((5, 1), 64.0))
    for spec in SPECS[3:]:
        assert classical.encode_inputs(spec, codes, TOKENS) is codes


def test_networks_are_no_classical_family():
    with pytest.raises(AssertionError, match="MLPSpec"):
        classical.build(MLPSpec(num_params=1000), NUMBERS, 0)


# --- numbers as labels ----------------------------------------------------------------------------------------------

TOKEN_REGRESSION = TaskShape(num_features=10, vocab_size=7, num_classes=1, objective="regress")
REGRESSORS = [
    RidgeSpec(),
    RidgeSpec(regularization=0.0),
    LinearSVMSpec(inverse_regularization=1.0),
    *SPECS[2:5],
]


@pytest.mark.parametrize("task", [REGRESSION, TOKEN_REGRESSION], ids=["numbers", "tokens"])
@pytest.mark.parametrize("spec", REGRESSORS, ids=str)
def test_every_regressor_explains_a_third_of_the_variance(spec, task):
    inputs, labels = draw_numbers(task)
    predicted = fit_numbers(spec, task).predict(classical.encode_inputs(spec, inputs[300:], task))
    assert predicted.shape == (142,)
    explained = 1 - ((predicted - labels[300:]) ** 2).mean() / labels[300:].var()
    assert explained > (0.3 if task is REGRESSION else 0.2)


@pytest.mark.parametrize("spec", REGRESSORS, ids=str)
def test_a_regressor_with_the_same_seed_twice_is_bitwise_equal(spec):
    inputs = classical.encode_inputs(spec, draw_numbers()[0], REGRESSION)
    one, same = (fit_numbers.__wrapped__(spec, seed=3).predict(inputs) for _ in range(2))
    np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("task", [REGRESSION, TOKEN_REGRESSION], ids=["numbers", "tokens"])
@pytest.mark.parametrize("spec", REGRESSORS[:3], ids=str)
def test_sizes_of_linear_regressors_are_known_before_the_fit(spec, task):
    expected = {"head": 10 * (task.vocab_size or 1) + 1}
    assert classical.count_params(spec, task) == expected
    assert classical.effective_params(spec, fit_numbers(spec, task)) == expected


def test_regressors_count_one_output():
    kernel = fit_numbers(RBFSVMSpec())
    num_support = len(kernel.support_)
    assert classical.effective_params(RBFSVMSpec(), kernel) == {
        "support_vectors": 10 * num_support,
        "dual_coefficients": num_support,
        "intercepts": 1,
    }
    forest = RandomForestSpec(num_trees=3)
    counted = classical.effective_params(forest, fit_numbers(forest))
    assert counted["leaves"] == counted["splits"] / 2 + 3  # binary trees, a value in each leaf
    boosting = GradientBoostingSpec(num_iterations=5, max_leaves=2)
    counted = classical.effective_params(boosting, fit_numbers(boosting))
    assert counted == {"splits": 10, "leaves": 10, "baseline": 1}
    for grows in REGRESSORS[3:]:
        assert classical.count_params(grows, REGRESSION) == {}


def test_ridge_counts_its_solver_on_the_smaller_side():
    def flops(regularization, size, task=REGRESSION):
        spec = RidgeSpec(regularization=regularization)
        return classical.train_flops(spec, fit_numbers(spec, task, size=size), size, 10)

    assert flops(1.0, 300) == 10**2 * 300 + 10**3 / 3
    assert flops(1.0, 6) == 6**2 * 10 + 6**3 / 3
    assert flops(0.0, 300) == 2 * 10**2 * 300 + 11 * 10**3
    assert flops(0.0, 6) == 2 * 6**2 * 10 + 11 * 6**3
    assert flops(1.0, 300, TOKEN_REGRESSION) is None


def test_the_linear_regressor_always_sweeps_the_dual():
    from sklearn.svm import LinearSVR

    spec = LinearSVMSpec(inverse_regularization=1.0)
    inputs, labels = draw_numbers()
    for size in (6, 300):
        found = fit_numbers(spec, size=size)
        dual = LinearSVR(C=1.0, max_iter=10_000, random_state=0, dual=True).fit(inputs[:size], labels[:size])
        np.testing.assert_array_equal(found.coef_, dual.coef_)
        assert classical.train_flops(spec, found, size, 10) == 4 * size * 10 * found.n_iter_
    for spec in REGRESSORS[3:]:
        assert classical.train_flops(spec, fit_numbers(spec), 300, 10) is None


@pytest.mark.parametrize("spec", REGRESSORS, ids=str)
def test_regressors_have_no_probabilities(spec):
    assert classical.class_probabilities(spec, fit_numbers(spec), draw_numbers()[0]) is None


@pytest.mark.parametrize(
    "ask", [lambda *args: classical.build(*args, 0), classical.count_params], ids=["build", "count"]
)
def test_a_task_that_a_family_cannot_learn_is_one_line_with_the_remedy(ask):
    def refusal(spec, task):
        with pytest.raises(InputError) as caught:
            ask(spec, task)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for spec in (LogisticRegressionSpec(), NaiveBayesSpec()):
        line = refusal(spec, REGRESSION)
        assert line.startswith(f"model.kind={spec.kind} predicts classes, but the labels of data.source are numbers")
        assert "choose ridge, linear_svm, " in line
    line = refusal(RidgeSpec(), NUMBERS)
    assert line.startswith(
        "model.kind=ridge predicts numbers, but the labels of data.source are classes; choose logist"
    )
    for spec in (*SPECS, RidgeSpec()):
        for objective in ("next_token", "masked", "permuted"):
            line = refusal(spec, token_task(50, 8, objective))
            assert line.startswith(f"model.kind={spec.kind} cannot predict tokens, which data.source asks for (")
            assert line.endswith(f"(objective {objective}); choose lstm or transformer, or a source with labels")
