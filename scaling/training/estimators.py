"""Cells of scikit-learn's estimators, from a cell to its record."""

import time
import warnings
from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np

from scaling.data.feeding.placement import read_all
from scaling.data.feeding.standard import standard_of, undo_labels
from scaling.data.loading import draw_cell, load_sets
from scaling.data.source import Source, task_shape
from scaling.learning.metrics import conclude, measure, resolve_metrics
from scaling.models.families import classical
from scaling.specs.cell import EstimatorCell
from scaling.store.record import Evaluation, Record
from scaling.tracking import Tracker
from scaling.training.evaluate import Verdict, log_loss, task_metrics
from scaling.training.plan import check_classes
from scaling.training.records import common_fields, make_manifest


def train_estimator(cell: EstimatorCell, study_sizes: Collection[int], tracker: Tracker) -> Record:
    """Returns the record of an estimator's cell after fitting it here and now.

    Args:
      cell: to fit.
      study_sizes: subset sizes of the whole study.
      tracker: is told when it begins, and of its evaluation.

    Raises:
      InputError: the data is missing or does not allow this cell.
    """
    from sklearn.exceptions import ConvergenceWarning

    began, subset = time.monotonic(), draw_cell(cell)
    source, task = subset.source, task_shape(subset.source)
    classical.check_task(cell.model, task)
    check_classes(cell)
    standard = standard_of(cell.data, subset)
    tracker.begin(cell.fingerprint(), 0)

    def prepared(inputs: np.ndarray) -> Any:
        numbers = (
            inputs if source.vocab_size is not None else (inputs.astype(np.float32) - standard.shift) * standard.scale
        )
        return classical.encode_inputs(cell.model, numbers, task)

    inputs, labels = read_all(subset)
    assert labels is not None  # noqa: S101  (check_task)
    if task.objective == "regress":
        labels = (labels - standard.label_shift) * standard.label_scale
    estimator = classical.build(cell.model, task, cell.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(prepared(inputs), labels)
    asked = resolve_metrics(cell.data.metrics)

    def judge(source: Source) -> Verdict:
        eval_inputs, labels = prepared(source.eval_inputs[:]), source.eval_labels
        predicted = estimator.predict(eval_inputs)
        if task.objective == "regress":
            numbers = undo_labels(predicted, standard)
            loss: float | None = float(np.square(numbers - labels).mean())
            right = 0.0
        else:
            probabilities = classical.class_probabilities(cell.model, estimator, eval_inputs)
            loss, right = log_loss(probabilities, estimator.classes_, source), float((predicted == labels).sum())
        metrics = task_metrics(source, loss, right, source.evaluation_size)
        if asked:
            if task.objective == "regress":
                outputs = numbers.astype(np.float32)
            else:
                outputs = classical.class_logits(estimator, eval_inputs, task.num_classes)
            weights = jnp.ones(source.evaluation_size, jnp.float32)
            metrics |= conclude(asked, [measure(asked, jnp.asarray(outputs), jnp.asarray(labels), weights)])
        return Verdict(loss, metrics)

    loss, metrics = judge(source)
    for name, other in load_sets(cell.data).items():
        metrics |= judge(other).named(name)
    params = classical.effective_params(cell.model, estimator)
    train_flops = classical.train_flops(cell.model, estimator, subset.size, task.num_features)
    evaluation = Evaluation(
        step=None,
        data_seen=subset.size,
        train_flops=train_flops,
        loss=loss,
        metrics=metrics,
    )
    tracker.log(cell.fingerprint(), [evaluation.model_dump(mode="json")])
    return Record(
        **common_fields(cell, source, make_manifest(cell, subset, study_sizes), task, evaluation),
        status="ok",
        num_params=sum(params.values()) or None,
        params=params,
        flops={} if train_flops is None else {"fit": train_flops},
        train_flops_spent=train_flops,
        evaluations=(evaluation,),
        peak_lr=None,
        batch_size=None,
        wall_seconds=time.monotonic() - began,
        device_kind="cpu",
        num_devices=1,
        warnings=tuple(sorted({" ".join(str(warning.message).split()) for warning in caught})),
    )
