"""Classical learners, scikit-learn's estimators, as a family like any other: built, fed, counted.

In the counts: m examples, F features (T tokens of a vocabulary of V), K classes.
"""

from typing import Any, get_args

import numpy as np
import scipy.sparse

from scaling.models.families.learners import Estimator, is_classifier, learner_of
from scaling.specs.base import InputError
from scaling.specs.models import AnyEstimatorSpec, EstimatorSpec
from scaling.specs.task import TaskShape

# All but the users' own.
OUR_ESTIMATORS = tuple(cls for cls in get_args(AnyEstimatorSpec) if cls is not EstimatorSpec)


def check_task(spec: AnyEstimatorSpec, task: TaskShape) -> None:
    """Checks that an estimator can learn what a source's task asks.

    Raises:
      InputError: it predicts neither tokens, nor numbers in place of classes, nor classes in place of numbers, nor
        several numbers where it has one.
    """
    learner = learner_of(spec)
    if task.objective not in ("classify", "regress"):
        raise InputError(
            f"model.kind={spec.kind} cannot predict tokens, which data.source asks for (objective {task.objective}); "
            "choose lstm or transformer, or a source with labels"
        )
    if task.objective == "regress" and not learner.regresses:
        raise InputError(
            f"model.kind={spec.kind} predicts classes, but the labels of data.source are numbers; choose "
            f"{_list_kinds('regresses')}"
        )
    if task.objective == "regress" and task.num_classes > 1 and not learner.regresses_several:
        raise InputError(
            f"model.kind={spec.kind} predicts one number, but the labels of data.source are {task.num_classes} each; "
            f"choose {_list_kinds('regresses_several')}"
        )
    if task.objective == "classify" and not learner.classifies:
        raise InputError(
            f"model.kind={spec.kind} predicts numbers, but the labels of data.source are classes; choose "
            f"{_list_kinds('classifies')}"
        )


def _list_kinds(ability: str) -> str:
    """Returns the kinds of estimators that have an ability, in words; those that have no other come first."""
    able = [learner for cls in OUR_ESTIMATORS if getattr(learner := learner_of(cls()), ability)]
    kinds = [learner.spec.kind for learner in sorted(able, key=lambda one: one.classifies and one.regresses)]
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def build(spec: AnyEstimatorSpec, task: TaskShape, seed: int) -> Estimator:
    """Returns an unfitted estimator; all of its randomness comes from the seed.

    Numbers are regressed by the squared error, except by support vector machines, whose loss is the error's size and
    whose C and insensitive tube are in the labels' units: give them labels of deviation one.

    Raises:
      InputError: the estimator cannot learn this task.
    """
    check_task(spec, task)
    return learner_of(spec).build(task, seed)


def encode_inputs(spec: AnyEstimatorSpec, inputs: np.ndarray, task: TaskShape) -> Any:
    """Returns inputs as the estimator wants them.

    Tokens [n, T] become sparse one-hot rows [n, T·V], since their codes have no order that a linear or a kernel method
    could use; trees split the codes themselves, and naive Bayes counts them. Numbers [n, F] pass, to some in double
    precision.
    """
    learner = learner_of(spec)
    if task.vocab_size is None:
        return inputs.astype(np.float64) if learner.takes_doubles else inputs
    if learner.takes_codes:
        return inputs
    num_rows, num_tokens = inputs.shape
    columns = inputs.astype(np.int32) + task.vocab_size * np.arange(num_tokens, dtype=np.int32)
    row_starts = np.arange(0, num_rows * num_tokens + 1, num_tokens)
    ones = np.ones(num_rows * num_tokens, np.float64)
    return scipy.sparse.csr_matrix((ones, columns.ravel(), row_starts), shape=(num_rows, num_tokens * task.vocab_size))


def count_params(spec: AnyEstimatorSpec, task: TaskShape) -> dict[str, int]:
    """Returns parameters by group, as `effective_params` counts them, where they are known before the fit.

    These are linear models and naive Bayes, once every class has been seen. The others grow with the data: nothing.

    Raises:
      InputError: the estimator cannot learn this task.
    """
    check_task(spec, task)
    return learner_of(spec).count_params(task)


def effective_params(spec: AnyEstimatorSpec, estimator: Estimator) -> dict[str, int]:
    """Returns the numbers that a fitted estimator predicts with, by group, over the classes that it has seen."""
    return learner_of(spec).effective_params(estimator)


def train_flops(spec: AnyEstimatorSpec, estimator: Estimator, num_examples: int, num_features: int) -> float | None:
    """Returns an estimate of the FLOPs of a fit, a multiply-add being 2; None where the solver does not tell.

    Args:
      spec: the specification of the estimator.
      estimator: fitted.
      num_examples: m.
      num_features: F or T.
    """
    return learner_of(spec).train_flops(estimator, num_examples, num_features)


def class_logits(estimator: Estimator, inputs: Any, num_classes: int) -> np.ndarray:
    """Returns [n, K] log probabilities of a fitted classifier, float32, or its decision scores where it has none.

    A class that it never saw is the least likely: as a share of 0, whose logarithm is taken at the smallest float32.
    """
    if hasattr(estimator, "predict_proba"):
        least = float(np.log(np.finfo(np.float32).tiny))
        with np.errstate(divide="ignore"):
            scores = np.maximum(np.log(estimator.predict_proba(inputs)), least)
    else:
        scores = estimator.decision_function(inputs)
        scores = np.stack([np.zeros(len(scores)), scores], axis=1) if scores.ndim == 1 else scores
        least = float(scores.min()) - 1.0
    logits = np.full((len(scores), num_classes), least, np.float32)
    logits[:, estimator.classes_] = scores
    return logits


def class_probabilities(spec: AnyEstimatorSpec, estimator: Estimator, inputs: Any) -> np.ndarray | None:
    """Returns [n, K] probabilities of models that are fitted by likelihood, else None.

    A forest's vote shares can be 0, for which the log loss is infinite; support vector machines and regressors have
    none.
    """
    is_likely = learner_of(spec).is_likely and is_classifier(estimator) and hasattr(estimator, "predict_proba")
    return estimator.predict_proba(inputs) if is_likely else None
