"""Classical learners, scikit-learn's estimators, as families like any other.

In the counts: m examples, F features (T tokens of a vocabulary of V), K classes.
"""

import math
from typing import Any, Self

import numpy as np
import scipy.linalg
import scipy.sparse

from scaling.specs.base import InputError
from scaling.specs.models import (
    GradientBoostingSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    ModelSpec,
    NaiveBayesSpec,
    RandomForestSpec,
    RBFSVMSpec,
    RidgeSpec,
)
from scaling.specs.task import TaskShape

# Learners that take a token as its integer code; the others need one-hot rows.
TAKES_CODES = (RandomForestSpec, GradientBoostingSpec, NaiveBayesSpec)

# Learners of classes alone and of numbers alone; the others have a form for each.
CLASSIFIES_ONLY = (LogisticRegressionSpec, NaiveBayesSpec)
REGRESSES_ONLY = (RidgeSpec,)
BOTH = "linear_svm, rbf_svm, random_forest or gradient_boosting"


def check_task(spec: ModelSpec, task: TaskShape) -> None:
    """Checks that a classical family can learn what a source's task asks.

    Raises:
      InputError: it predicts neither tokens, nor numbers in place of classes, nor classes in place of numbers.
    """
    if task.objective not in ("classify", "regress"):
        raise InputError(
            f"model.kind={spec.kind} cannot predict tokens, which data.source asks for (objective {task.objective}); "
            "choose lstm or transformer, or a source with labels"
        )
    if task.objective == "regress" and isinstance(spec, CLASSIFIES_ONLY):
        raise InputError(
            f"model.kind={spec.kind} predicts classes, but the labels of data.source are numbers; choose ridge, {BOTH}"
        )
    if task.objective == "classify" and isinstance(spec, REGRESSES_ONLY):
        raise InputError(
            f"model.kind={spec.kind} predicts numbers, but the labels of data.source are classes; choose "
            f"logistic_regression, naive_bayes, {BOTH}"
        )


class LeastSquares:
    """Least squares with an intercept: of all best coefficients, those of the smallest norm.

    scikit-learn's own forms stand aside for dense inputs: `Ridge(alpha=0)` does not promise the smallest norm, and
    `LinearRegression` drops directions by a threshold that has changed between releases. With an intercept and no more
    examples than features one direction is nothing but rounding and must be dropped, while those of steep spectra, a
    millionth of the first, must stay.

    Attributes:
      coef_: [F].
      intercept_: of the prediction.
    """

    coef_: np.ndarray
    intercept_: float

    def fit(self, inputs: Any, labels: np.ndarray) -> Self:
        """Returns itself, fitted to [m, F] numbers, dense or sparse, and [m] labels."""
        if scipy.sparse.issparse(inputs):
            from sklearn.linear_model import LinearRegression

            solved = LinearRegression().fit(inputs, labels)  # LSQR from 0, which ends at the smallest norm
            self.coef_, self.intercept_ = solved.coef_, float(solved.intercept_)
            return self
        center, middle = inputs.mean(axis=0), labels.mean(dtype=np.float64)
        threshold = max(inputs.shape) * np.finfo(np.float64).eps  # of numpy.linalg.matrix_rank
        self.coef_ = scipy.linalg.lstsq(inputs - center, labels - middle, cond=threshold)[0]
        self.intercept_ = float(middle - center @ self.coef_)
        return self

    def predict(self, inputs: Any) -> np.ndarray:
        """Returns [n] numbers."""
        return inputs @ self.coef_ + self.intercept_


def build(spec: ModelSpec, task: TaskShape, seed: int) -> Any:
    """Returns an unfitted estimator; all of its randomness comes from the seed.

    Numbers are regressed by the squared error, except by support vector machines, whose loss is the error's size and
    whose C and insensitive tube are in the labels' units: give them labels of deviation one.

    Raises:
      InputError: the family cannot learn this task.
      TypeError: the family is trained by gradient descent.
    """
    check_task(spec, task)
    return _build_regressor(spec, seed) if task.objective == "regress" else _build_classifier(spec, task, seed)


def _build_regressor(spec: ModelSpec, seed: int) -> Any:
    match spec:
        case RidgeSpec(regularization=0.0):
            return LeastSquares()
        case RidgeSpec():
            from sklearn.linear_model import Ridge

            return Ridge(alpha=spec.regularization)
        case LinearSVMSpec():
            from sklearn.svm import LinearSVR

            return LinearSVR(C=spec.inverse_regularization, max_iter=spec.max_iterations, random_state=seed)
        case RBFSVMSpec():
            from sklearn.svm import SVR

            return SVR(C=spec.inverse_regularization, kernel="rbf", gamma="scale")
        case RandomForestSpec():
            from sklearn.ensemble import RandomForestRegressor

            return RandomForestRegressor(spec.num_trees, n_jobs=1, random_state=seed)
        case GradientBoostingSpec():
            from sklearn.ensemble import HistGradientBoostingRegressor

            return HistGradientBoostingRegressor(**_boosting_options(spec, seed))
    raise TypeError(f"{spec.kind} is not a classical family")


def _build_classifier(spec: ModelSpec, task: TaskShape, seed: int) -> Any:
    match spec:
        case LogisticRegressionSpec():
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression(C=spec.inverse_regularization, max_iter=spec.max_iterations)
        case LinearSVMSpec():
            from sklearn.svm import LinearSVC

            return LinearSVC(C=spec.inverse_regularization, max_iter=spec.max_iterations, random_state=seed)
        case RBFSVMSpec():
            from sklearn.svm import SVC

            return SVC(C=spec.inverse_regularization, kernel="rbf", gamma="scale")
        case RandomForestSpec():
            from sklearn.ensemble import RandomForestClassifier

            return RandomForestClassifier(spec.num_trees, n_jobs=1, random_state=seed)
        case GradientBoostingSpec():
            from sklearn.ensemble import HistGradientBoostingClassifier

            return HistGradientBoostingClassifier(**_boosting_options(spec, seed))
        case NaiveBayesSpec():
            from sklearn.naive_bayes import CategoricalNB, GaussianNB

            if task.vocab_size is None:
                return GaussianNB()
            return CategoricalNB(alpha=spec.smoothing, min_categories=task.vocab_size)
    raise TypeError(f"{spec.kind} is not a classical family")


def _boosting_options(spec: GradientBoostingSpec, seed: int) -> dict[str, Any]:
    return {
        "max_iter": spec.num_iterations,
        "learning_rate": spec.learning_rate,
        "max_leaf_nodes": spec.max_leaves,
        "early_stopping": False,  # it would hold a tenth of the m examples back
        "random_state": seed,
    }


def encode_inputs(spec: ModelSpec, inputs: np.ndarray, task: TaskShape) -> Any:
    """Returns inputs as the estimator wants them.

    Tokens [n, T] become sparse one-hot rows [n, T·V], since their codes have no order that a linear or a kernel method
    could use; trees split the codes themselves, and naive Bayes counts them. Numbers [n, F] pass; in double precision
    to naive Bayes, which sums F log-likelihoods that nearly constant features make huge, and to ridge regression, which
    divides by the squares of singular values.
    """
    if task.vocab_size is None:
        return inputs.astype(np.float64) if isinstance(spec, NaiveBayesSpec | RidgeSpec) else inputs
    if isinstance(spec, TAKES_CODES):
        return inputs
    num_rows, num_tokens = inputs.shape
    columns = inputs.astype(np.int32) + task.vocab_size * np.arange(num_tokens, dtype=np.int32)
    row_starts = np.arange(0, num_rows * num_tokens + 1, num_tokens)
    ones = np.ones(num_rows * num_tokens, np.float64)
    return scipy.sparse.csr_matrix((ones, columns.ravel(), row_starts), shape=(num_rows, num_tokens * task.vocab_size))


def count_params(spec: ModelSpec, task: TaskShape) -> dict[str, int]:
    """Returns parameters by group, as `effective_params` counts them, where they are known before the fit.

    These are linear models and naive Bayes, once every class has been seen. The others grow with the data: nothing.

    Raises:
      InputError: the family cannot learn this task.
    """
    check_task(spec, task)
    num_features, num_classes, vocab_size = task.num_features, task.num_classes, task.vocab_size
    match spec:
        case LogisticRegressionSpec() | LinearSVMSpec() | RidgeSpec():
            num_outputs = num_classes if num_classes > 2 else 1
            return {"head": num_outputs * (num_features * (vocab_size or 1) + 1)}
        case NaiveBayesSpec():
            by_feature = 2 if vocab_size is None else vocab_size - 1
            return {"likelihood": num_classes * num_features * by_feature, "prior": num_classes - 1}
    return {}


def effective_params(spec: ModelSpec, estimator: Any) -> dict[str, int]:
    """Returns the numbers that a fitted estimator predicts with, by group, over the classes that it has seen.

    Where numbers are regressed, there is one output, as with two classes.

    - Linear models, `head`: coefficients and intercepts, one row for each class; a single one for two classes. For
      tokens all T·V columns count, seen or not.
    - RBF SVM, `support_vectors`: the F numbers of each, or its T ones where rows are one-hot (the stored nonzeros, so
      as many as token codes); `dual_coefficients`: K − 1 for each support vector, zeros included; `intercepts`: one
      for each pair of classes.
    - Random forest, `splits`: a feature and a threshold for each inner node; `leaves`: K − 1 free shares for each.
    - Gradient boosting, `splits` alike; `leaves`: one value for each, over the trees of all classes; `baseline`: one
      for each tree of an iteration (K, or 1 for two classes). scikit-learn has no public way to its trees; where the
      private one is gone, nothing is returned.
    - Naive Bayes, `likelihood`: a mean and a variance for each class and number, or V − 1 free shares for each class
      and token; `prior`: K − 1.
    """
    match spec:
        case LogisticRegressionSpec() | LinearSVMSpec() | RidgeSpec():
            return {"head": estimator.coef_.size + np.size(estimator.intercept_)}
        case RBFSVMSpec():
            return {
                "support_vectors": int(estimator.support_vectors_.size),
                "dual_coefficients": math.prod(estimator.dual_coef_.shape),
                "intercepts": estimator.intercept_.size,
            }
        case RandomForestSpec():
            trees = [member.tree_ for member in estimator.estimators_]
            leaves = sum(int(tree.n_leaves) for tree in trees)
            splits = sum(int(tree.node_count) for tree in trees) - leaves
            num_outputs = len(estimator.classes_) - 1 if _is_classifier(estimator) else 1
            return {"splits": 2 * splits, "leaves": leaves * num_outputs}
        case GradientBoostingSpec():
            try:
                trees = [tree for iteration in estimator._predictors for tree in iteration]
                leaves = sum(int(tree.nodes["is_leaf"].sum()) for tree in trees)
            except (AttributeError, KeyError, TypeError, ValueError):
                return {}
            splits = sum(len(tree.nodes) for tree in trees) - leaves
            return {"splits": 2 * splits, "leaves": leaves, "baseline": estimator.n_trees_per_iteration_}
        case NaiveBayesSpec():
            num_classes = len(estimator.classes_)
            if hasattr(estimator, "theta_"):
                likelihood = estimator.theta_.size + estimator.var_.size
            else:
                likelihood = num_classes * int((estimator.n_categories_ - 1).sum())
            return {"likelihood": likelihood, "prior": num_classes - 1}
    raise TypeError(f"{spec.kind} is not a classical family")


def train_flops(spec: ModelSpec, estimator: Any, num_examples: int, num_features: int) -> float | None:
    """Returns an estimate of the FLOPs of a fit, a multiply-add being 2; None where the solver does not tell.

    With m examples, F features (T for tokens: the nonzeros of a one-hot row) and R rows of coefficients (K, or 1 for
    two classes):

    - Logistic regression: 4·m·F·R for each of n_iter + 1 evaluations of the loss and its gradient by L-BFGS, 2·m·F·R
      forward and as much back. A lower estimate: it takes further evaluations where a line search needs them.
    - Linear SVM, fewer examples than columns of coefficients: 4·m·F·R a sweep of dual coordinate descent (Hsieh et al.
      2008), a product and an update for each example. An upper estimate: `n_iter_` is the largest of the classes', and
      sweeps shrink to the examples that still change. With more examples scikit-learn takes a trust-region Newton
      method, whose conjugate-gradient steps it does not count: None. To regress, it always takes the dual.
    - Ridge regression, with p the smaller and q the larger of m and F: p²·q + p³/3 by the normal equations, or by their
      dual; without regularization 2·p²·q + 11·p³ by singular values (Golub & Van Loan, "Matrix Computations", table
      5.5.1). For tokens the solver iterates and does not tell how often: None.
    - Naive Bayes: one pass, 3·m·F for the sums and the sums of squares of numbers; m·T for counts of tokens.
    - RBF SVM: None, since it does not tell how many kernel values it computed, and which came from its cache.
    - Random forest and gradient boosting: None, since their work is sorting, comparing and counting.

    Args:
      spec: of the estimator.
      estimator: fitted.
      num_examples: m.
      num_features: F or T.
    """
    pass_flops = float(num_examples) * num_features
    match spec:
        case LogisticRegressionSpec():
            return 4.0 * pass_flops * len(estimator.coef_) * (int(estimator.n_iter_.max()) + 1)
        case LinearSVMSpec() if not _is_classifier(estimator):
            return 4.0 * pass_flops * estimator.n_iter_
        case LinearSVMSpec():
            num_rows, num_columns = estimator.coef_.shape
            return 4.0 * pass_flops * num_rows * estimator.n_iter_ if num_examples < num_columns else None
        case NaiveBayesSpec():
            return pass_flops * (3 if hasattr(estimator, "theta_") else 1)
        case RidgeSpec() if estimator.coef_.size == num_features:
            p, q = sorted((float(num_examples), float(num_features)))
            return p**2 * q + p**3 / 3 if spec.regularization else 2 * p**2 * q + 11 * p**3
    return None


def class_probabilities(spec: ModelSpec, estimator: Any, inputs: Any) -> np.ndarray | None:
    """Returns [n, K] probabilities of models that are fitted by likelihood, else None.

    A forest's vote shares can be 0, for which the log loss is infinite; support vector machines and regressors have
    none.
    """
    likely = isinstance(spec, LogisticRegressionSpec | GradientBoostingSpec | NaiveBayesSpec)
    return estimator.predict_proba(inputs) if likely and _is_classifier(estimator) else None


def _is_classifier(estimator: Any) -> bool:
    return hasattr(estimator, "classes_")
