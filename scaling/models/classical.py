"""Classical learners, scikit-learn's estimators, as families like any other."""

from typing import Any

import numpy as np
import scipy.sparse

from scaling.cell import LinearSVMSpec, LogisticRegressionSpec, ModelSpec, RandomForestSpec, RBFSVMSpec
from scaling.models import TaskShape


def build(spec: ModelSpec, seed: int) -> Any:
    """Returns an unfitted estimator; all of its randomness comes from the seed."""
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
    raise TypeError(f"{spec.kind} is not a classical family")


def encode_inputs(spec: ModelSpec, inputs: np.ndarray, task: TaskShape) -> Any:
    """Returns inputs as the estimator wants them.

    Tokens [n, T] become sparse one-hot rows [n, T·V], since their codes have no order that a linear or a kernel method
    could use; a forest splits the codes themselves. Numbers [n, F] pass.
    """
    if task.vocab_size is None or isinstance(spec, RandomForestSpec):
        return inputs
    num_rows, num_tokens = inputs.shape
    columns = inputs.astype(np.int32) + task.vocab_size * np.arange(num_tokens, dtype=np.int32)
    row_starts = np.arange(0, num_rows * num_tokens + 1, num_tokens)
    ones = np.ones(num_rows * num_tokens, np.float64)
    return scipy.sparse.csr_matrix((ones, columns.ravel(), row_starts), shape=(num_rows, num_tokens * task.vocab_size))


def count_params(spec: ModelSpec, task: TaskShape) -> dict[str, int]:
    """Returns the coefficients and intercepts of linear models by group; nothing for models without a fixed size."""
    if not isinstance(spec, LogisticRegressionSpec | LinearSVMSpec):
        return {}
    num_features = task.num_features * (task.vocab_size or 1)
    num_outputs = task.num_classes if task.num_classes > 2 else 1
    return {"head": num_outputs * (num_features + 1)}


def class_probabilities(spec: ModelSpec, estimator: Any, inputs: Any) -> np.ndarray | None:
    """Returns [n, K] probabilities of models that are fitted by likelihood, else None.

    A forest's vote shares can be 0, for which the log loss is infinite, and support vector machines have none.
    """
    return estimator.predict_proba(inputs) if isinstance(spec, LogisticRegressionSpec) else None
