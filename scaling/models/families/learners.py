"""scikit-learn's estimators as learners: one class each, which builds it, counts it and tells what its fit cost.

In the counts: m examples, F features (T tokens of a vocabulary of V), K classes, R rows of coefficients (K, or 1 for
two classes and for numbers). A multiply-add is 2 FLOPs.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar, Generic, Self, TypeVar, assert_never

import numpy as np
import scipy.linalg
import scipy.sparse

from scaling.specs.base import InputError
from scaling.specs.code import describe_signature, resolve_function
from scaling.specs.models import (
    AnyEstimatorSpec,
    EstimatorSpec,
    GradientBoostingSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    NaiveBayesSpec,
    RandomForestSpec,
    RBFSVMSpec,
    RidgeSpec,
)
from scaling.specs.task import TaskShape

Estimator = Any  # one of scikit-learn's, which come without types

SpecT = TypeVar("SpecT", bound=AnyEstimatorSpec)


@dataclasses.dataclass(frozen=True)
class ClassicalLearner(abc.ABC, Generic[SpecT]):
    """An estimator by its specification.

    Attributes:
      spec: what is asked for.
      takes_codes: whether a token enters as its integer code; else as a one-hot row.
      takes_doubles: whether numbers enter in double precision.
      is_likely: whether it is fitted by likelihood, and so has probabilities worth a log loss.
      classifies, regresses: which labels it can learn.
      regresses_several: whether it can learn several numbers an example.
    """

    spec: SpecT
    takes_codes: ClassVar[bool] = False
    takes_doubles: ClassVar[bool] = False
    is_likely: ClassVar[bool] = False
    classifies: ClassVar[bool] = True
    regresses: ClassVar[bool] = True
    regresses_several: ClassVar[bool] = False

    @abc.abstractmethod
    def build(self, task: TaskShape, seed: int) -> Estimator:
        """Returns an unfitted estimator for a task that it can learn; all of its randomness comes from the seed."""

    def count_params(self, task: TaskShape) -> dict[str, int]:
        """Returns parameters by group where they are known before the fit; nothing where they grow with the data."""
        return {}

    @abc.abstractmethod
    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        """Returns the numbers that a fitted estimator predicts with, by group, over the classes that it has seen.

        Where a number is regressed, there is one output, as with two classes; of M numbers there are M.
        """

    def train_flops(self, estimator: Estimator, num_examples: int, num_features: int) -> float | None:
        """Returns an estimate of the FLOPs of a fit; None where the solver does not tell.

        Args:
          estimator: fitted.
          num_examples: m.
          num_features: F, or T: the nonzeros of a one-hot row.
        """
        return None


class _Linear(ClassicalLearner[SpecT]):
    """A linear model; its parameters are `head`: coefficients and intercepts, R rows, for tokens of all T·V columns."""

    def count_params(self, task: TaskShape) -> dict[str, int]:
        num_outputs = 1 if task.objective == "classify" and task.num_classes <= 2 else task.num_classes
        return {"head": num_outputs * (task.num_features * (task.vocab_size or 1) + 1)}

    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        return {"head": estimator.coef_.size + np.size(estimator.intercept_)}


class LogisticRegressionLearner(_Linear[LogisticRegressionSpec]):
    """Multinomial logistic regression, by L-BFGS."""

    is_likely = True
    regresses = False

    def build(self, task: TaskShape, seed: int) -> Estimator:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.spec.inverse_regularization, max_iter=self.spec.max_iterations)

    def train_flops(self, estimator: Estimator, num_examples: int, num_features: int) -> float | None:
        """Returns 4·m·F·R for each of n_iter + 1 evaluations of the loss and its gradient, half forward and half back.

        A lower estimate: L-BFGS takes further evaluations where a line search needs them.
        """
        return 4.0 * num_examples * num_features * len(estimator.coef_) * (int(estimator.n_iter_.max()) + 1)


class LinearSVMLearner(_Linear[LinearSVMSpec]):
    """A linear support vector machine."""

    def build(self, task: TaskShape, seed: int) -> Estimator:
        from sklearn.svm import LinearSVC, LinearSVR

        machine = LinearSVR if task.objective == "regress" else LinearSVC
        return machine(C=self.spec.inverse_regularization, max_iter=self.spec.max_iterations, random_state=seed)

    def train_flops(self, estimator: Estimator, num_examples: int, num_features: int) -> float | None:
        """Returns 4·m·F·R a sweep of dual coordinate descent (Hsieh et al. 2008): a product and an update an example.

        An upper estimate: `n_iter_` is the largest of the classes', and sweeps shrink to the examples that still
        change. With no fewer examples than columns of coefficients scikit-learn takes a trust-region Newton method for
        classes, whose conjugate-gradient steps it does not count: None. To regress, it always takes the dual.
        """
        sweep = 4.0 * num_examples * num_features * estimator.n_iter_
        if not is_classifier(estimator):
            return sweep
        num_rows, num_columns = estimator.coef_.shape
        return sweep * num_rows if num_examples < num_columns else None


class RidgeLearner(_Linear[RidgeSpec]):
    """Ridge regression, and least squares without regularization."""

    takes_doubles = True  # it divides by the squares of singular values
    classifies = False
    regresses_several = True

    def build(self, task: TaskShape, seed: int) -> Estimator:
        if self.spec.regularization == 0.0:
            return LeastSquares()
        from sklearn.linear_model import Ridge

        return Ridge(alpha=self.spec.regularization)

    def train_flops(self, estimator: Estimator, num_examples: int, num_features: int) -> float | None:
        """Returns p²·q + p³/3 with p the smaller and q the larger of m and F: the normal equations, or their dual.

        Without regularization 2·p²·q + 11·p³ by singular values (Golub & Van Loan, "Matrix Computations", table 5.5.1).
        Several numbers share them; what each takes beside them, 2·m·F, is left out as it is for one. For tokens the
        solver iterates and does not tell how often: None.
        """
        if estimator.coef_.size != num_features * np.size(estimator.intercept_):
            return None
        p, q = sorted((float(num_examples), float(num_features)))
        return p**2 * q + p**3 / 3 if self.spec.regularization else 2 * p**2 * q + 11 * p**3


class RBFSVMLearner(ClassicalLearner[RBFSVMSpec]):
    """A support vector machine with a Gaussian kernel; how many kernel values it computed it does not tell."""

    def build(self, task: TaskShape, seed: int) -> Estimator:
        from sklearn.svm import SVC, SVR

        machine = SVR if task.objective == "regress" else SVC
        return machine(C=self.spec.inverse_regularization, kernel="rbf", gamma="scale")

    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        """Returns the F numbers of each support vector, dual coefficients and intercepts.

        A support vector's numbers are its T ones where rows are one-hot (the stored nonzeros, so as many as token
        codes); there are K − 1 `dual_coefficients` for each, zeros included, and an intercept for each pair of classes.
        """
        return {
            "support_vectors": int(estimator.support_vectors_.size),
            "dual_coefficients": math.prod(estimator.dual_coef_.shape),
            "intercepts": estimator.intercept_.size,
        }


class RandomForestLearner(ClassicalLearner[RandomForestSpec]):
    """A random forest; its work is sorting, comparing and counting, so it has no FLOPs."""

    takes_codes = True
    regresses_several = True

    def build(self, task: TaskShape, seed: int) -> Estimator:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        forest = RandomForestRegressor if task.objective == "regress" else RandomForestClassifier
        return forest(self.spec.num_trees, n_jobs=1, random_state=seed)

    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        """Returns `splits`, a feature and a threshold an inner node, and `leaves`: K − 1 free shares, or M numbers."""
        trees = [member.tree_ for member in estimator.estimators_]
        leaves = sum(int(tree.n_leaves) for tree in trees)
        splits = sum(int(tree.node_count) for tree in trees) - leaves
        num_outputs = len(estimator.classes_) - 1 if is_classifier(estimator) else estimator.n_outputs_
        return {"splits": 2 * splits, "leaves": leaves * num_outputs}


class GradientBoostingLearner(ClassicalLearner[GradientBoostingSpec]):
    """Histogram gradient boosting of trees, whose work is no FLOPs either."""

    takes_codes = True
    is_likely = True

    def build(self, task: TaskShape, seed: int) -> Estimator:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        boosting = HistGradientBoostingRegressor if task.objective == "regress" else HistGradientBoostingClassifier
        return boosting(
            max_iter=self.spec.num_iterations,
            learning_rate=self.spec.learning_rate,
            max_leaf_nodes=self.spec.max_leaves,
            early_stopping=False,  # it would hold a tenth of the m examples back
            random_state=seed,
        )

    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        """Returns `splits` as of a forest, `leaves`, one value for each, over the trees of all classes, and `baseline`.

        A baseline is one number for each tree of an iteration (K, or 1 for two classes). scikit-learn has no public way
        to its trees; where the private one is gone, nothing is returned.
        """
        try:
            trees = [tree for iteration in estimator._predictors for tree in iteration]
            leaves = sum(int(tree.nodes["is_leaf"].sum()) for tree in trees)
        except (AttributeError, KeyError, TypeError, ValueError):
            return {}
        splits = sum(len(tree.nodes) for tree in trees) - leaves
        return {"splits": 2 * splits, "leaves": leaves, "baseline": estimator.n_trees_per_iteration_}


class NaiveBayesLearner(ClassicalLearner[NaiveBayesSpec]):
    """Naive Bayes: Gaussian for numbers, categorical for tokens."""

    takes_codes = True
    takes_doubles = True  # it sums F log-likelihoods, which nearly constant features make huge
    is_likely = True
    regresses = False

    def build(self, task: TaskShape, seed: int) -> Estimator:
        from sklearn.naive_bayes import CategoricalNB, GaussianNB

        if task.vocab_size is None:
            return GaussianNB()
        return CategoricalNB(alpha=self.spec.smoothing, min_categories=task.vocab_size)

    def count_params(self, task: TaskShape) -> dict[str, int]:
        by_feature = 2 if task.vocab_size is None else task.vocab_size - 1
        return {"likelihood": task.num_classes * task.num_features * by_feature, "prior": task.num_classes - 1}

    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        """Returns `likelihood`, a mean and a variance for each class and number, and `prior`, K − 1.

        For tokens the likelihood has V − 1 free shares for each class and token.
        """
        num_classes = len(estimator.classes_)
        if hasattr(estimator, "theta_"):
            likelihood = estimator.theta_.size + estimator.var_.size
        else:
            likelihood = num_classes * int((estimator.n_categories_ - 1).sum())
        return {"likelihood": likelihood, "prior": num_classes - 1}

    def train_flops(self, estimator: Estimator, num_examples: int, num_features: int) -> float | None:
        """Returns one pass: 3·m·F for the sums and the sums of squares of numbers, m·T for counts of tokens."""
        return float(num_examples) * num_features * (3 if hasattr(estimator, "theta_") else 1)


class OwnLearner(ClassicalLearner[EstimatorSpec]):
    """Any class with scikit-learn's interface; what it predicts with is not known but for coefficients."""

    is_likely = True  # where it has probabilities at all

    @property
    def takes_codes(self) -> bool:  # type: ignore[override]
        return self.spec.tokens == "codes"

    def build(self, task: TaskShape, seed: int) -> Estimator:
        make = resolve_function(self.spec.code)
        random = {"random_state": seed} if "random_state" in describe_signature(make) else {}
        try:
            estimator = make(**{**random, **self.spec.settings})
        except Exception as error:  # of the user's code, whatever it is
            said = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"model.settings={dict(self.spec.settings)}: {self.spec.code}: {said}") from error
        if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise InputError(
                f"model.code={self.spec.code!r}: {type(estimator).__name__} has no fit and predict; name an estimator"
            )
        self._check(estimator, task)
        return estimator

    def _check(self, estimator: Estimator, task: TaskShape) -> None:
        from sklearn.base import is_classifier, is_regressor

        learns, what = (is_regressor, "numbers") if task.objective == "regress" else (is_classifier, "classes")
        if not learns(estimator):
            raise InputError(
                f"model.code={self.spec.code!r} does not predict {what}, which the labels of data.source are; choose "
                "another class"
            )

    def effective_params(self, estimator: Estimator) -> dict[str, int]:
        if not hasattr(estimator, "coef_"):
            return {}
        return {"head": int(np.size(estimator.coef_)) + int(np.size(getattr(estimator, "intercept_", ())))}


def learner_of(spec: AnyEstimatorSpec) -> ClassicalLearner[Any]:
    """Returns the learner of a specification. To add one: its specification, its class above, its case here."""
    match spec:
        case LogisticRegressionSpec():
            return LogisticRegressionLearner(spec)
        case LinearSVMSpec():
            return LinearSVMLearner(spec)
        case RBFSVMSpec():
            return RBFSVMLearner(spec)
        case RandomForestSpec():
            return RandomForestLearner(spec)
        case GradientBoostingSpec():
            return GradientBoostingLearner(spec)
        case NaiveBayesSpec():
            return NaiveBayesLearner(spec)
        case RidgeSpec():
            return RidgeLearner(spec)
        case EstimatorSpec():
            return OwnLearner(spec)
        case _:
            assert_never(spec)


def is_classifier(estimator: Estimator) -> bool:
    """Returns whether a fitted estimator predicts classes."""
    return hasattr(estimator, "classes_")


class LeastSquares:
    """Least squares with an intercept: of all best coefficients, those of the smallest norm.

    scikit-learn's own forms stand aside for dense inputs: `Ridge(alpha=0)` does not promise the smallest norm, and
    `LinearRegression` drops directions by a threshold that has changed between releases. With an intercept and no more
    examples than features one direction is nothing but rounding and must be dropped, while those of steep spectra, a
    millionth of the first, must stay.

    Attributes:
      coef_: [F], or [F, M] for M numbers.
      intercept_: the intercept of the prediction, or [M] of them.
    """

    coef_: np.ndarray
    intercept_: float | np.ndarray

    def fit(self, inputs: Any, labels: np.ndarray) -> Self:
        """Returns itself, fitted to [m, F] numbers, dense or sparse, and [m] or [m, M] labels."""
        if scipy.sparse.issparse(inputs):
            from sklearn.linear_model import LinearRegression

            solved = LinearRegression().fit(inputs, labels)  # LSQR from 0, which ends at the smallest norm
            self.coef_, self.intercept_ = solved.coef_.T, solved.intercept_
            return self
        center, middle = inputs.mean(axis=0), labels.mean(axis=0, dtype=np.float64)
        threshold = max(inputs.shape) * np.finfo(np.float64).eps  # of numpy.linalg.matrix_rank
        self.coef_ = scipy.linalg.lstsq(inputs - center, labels - middle, cond=threshold)[0]
        self.intercept_ = middle - center @ self.coef_
        return self

    def predict(self, inputs: Any) -> np.ndarray:
        """Returns [n] or [n, M] numbers."""
        return inputs @ self.coef_ + self.intercept_
