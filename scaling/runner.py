"""One cell, from its specification to its record."""

import dataclasses
import functools
import importlib.metadata
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling.cell import Cell, TrainingSpec
from scaling.data.placement import StreamedData, evaluation_batches, place_subset, read_all
from scaling.data.source import Source
from scaling.data.sources import check_data, load_source
from scaling.data.specs import DataSpec, count_unique
from scaling.data.subsets import Subset, digest_prefixes, draw_subset
from scaling.flops import EVERY_TERM, FLOPS_VERSION, count_flops
from scaling.models import Shape, TaskShape, classical, make_shape
from scaling.models.specs import NetworkSpec
from scaling.params import count_params
from scaling.pretraining import check_pretraining, count_pretraining_flops
from scaling.record import Evaluation, Record, SubsetManifest
from scaling.train import get_program, run_steps

# Examples that the mean and the deviation of inputs are taken over, at most.
STATISTICS_EXAMPLES = 100_000


def train_cell(
    cell: Cell,
    study_sizes: Iterable[int] = (),
    on_evaluation: Callable[[Evaluation], None] | None = None,
    reader_workers: int = 0,
) -> Record:
    """Returns the record of a cell after training it here and now.

    Args:
      cell: what to train.
      study_sizes: subset sizes of the whole study; the record keeps a digest at each up to m, which proves nesting.
      on_evaluation: called with every evaluation as it is made.
      reader_workers: processes that read data which does not fit on the device; 0 for threads of this one.

    Raises:
      InputError: the data is missing or does not allow this cell.
    """
    started = time.monotonic()
    data = cell.data
    source = load_source(data)
    check_data(data, source)
    subset = draw_subset(data, source, cell.seed)
    task = task_shape(source)
    report = on_evaluation or (lambda evaluation: None)
    if cell.training is not None:
        measured = _train_by_gradient(cell, cell.training, subset, task, report, reader_workers)
    else:
        measured = _fit_estimator(cell, subset, task, report)
    evaluations = measured["evaluations"]
    data_unique = subset.num_unique * source.example_tokens
    return Record(
        cell=cell.fingerprint(),
        family=cell.model.kind,
        seed=cell.seed,
        data_unit="tokens" if task.predicts_tokens else "examples",
        data_unique=data_unique,
        epochs=evaluations[-1].data_seen / data_unique,
        flops_version=FLOPS_VERSION,
        train_flops_spent=evaluations[-1].train_flops,
        wall_seconds=time.monotonic() - started,
        data=_manifest(cell, subset, study_sizes),
        environment=_environment(),
        **measured,
    )


def task_shape(source: Source) -> TaskShape:
    """Returns what a model must fit to learn from a source."""
    num_features = source.example_tokens if source.labels is None else source.inputs.shape[1]
    return TaskShape(num_features, source.vocab_size, source.num_classes, source.image_shape, source.objective)


def describe_cell(cell: Cell) -> dict[str, Any]:
    """Returns a cell's `num_params`, `data_unique`, `data_seen` and `train_flops` before it runs.

    Those that are not counted are None. Examples or tokens are counted, whichever the record will have.

    Raises:
      InputError: the data is missing or does not allow this cell, or no model of the asked size exists.
    """
    source = load_source(cell.data)
    check_data(cell.data, source)
    task = task_shape(source)
    data_unique = count_unique(cell.data.size, cell.data.duplication) * source.example_tokens
    if cell.training is None:
        params = classical.count_params(cell.model, task)
        return {
            "num_params": sum(params.values()) or None,
            "data_unique": data_unique,
            "data_seen": cell.data.size,
            "train_flops": None,
        }
    assert isinstance(cell.model, NetworkSpec)  # noqa: S101  (a cell with training holds a network)
    shape = make_shape(cell.model, task)
    seen = cell.training.num_steps * cell.training.batch_size * source.example_tokens
    if cell.training.pretraining is not None:
        check_pretraining(shape)
    return {
        "num_params": sum(count_params(shape).values()),
        "data_unique": data_unique,
        "data_seen": seen,
        "train_flops": _pretraining_flops(shape, cell.training) + seen * sum(count_flops(shape).train.values()),
    }


def _pretraining_flops(shape: Shape, training: TrainingSpec) -> float:
    spec = training.pretraining
    return 0.0 if spec is None else count_pretraining_flops(shape, spec, training.batch_size)


def _train_by_gradient(
    cell: Cell,
    training: TrainingSpec,
    subset: Subset,
    task: TaskShape,
    report: Callable[[Evaluation], None],
    reader_workers: int,
) -> dict[str, Any]:
    assert isinstance(cell.model, NetworkSpec)  # noqa: S101  (a cell with training holds a network)
    source = subset.source
    shape = make_shape(cell.model, task)
    program = get_program(shape, training, cell.data.augmentation)
    subset, target = _standardize_targets(subset)
    data = place_subset(
        subset,
        *_standardize(cell.data, subset),
        batch_size=training.batch_size,
        seed=cell.seed,
        augmentation=cell.data.augmentation,
        num_workers=reader_workers,
    )
    flops, pretraining_flops = count_flops(shape).train, _pretraining_flops(shape, training)
    evaluations: list[Evaluation] = []
    diverged = False
    for step, variables, finite in run_steps(program, training, cell.data.size, cell.seed, data):
        sums = np.zeros(3)
        for batch in evaluation_batches(source):
            labels = target.apply(batch.labels)
            found = program.evaluate(variables, batch.inputs, labels, batch.is_real, data.shift, data.scale)
            sums += np.array(jax.device_get(found), np.float64)
        loss = sums[0] / sums[2] * target.deviation**2
        diverged = not (finite and np.isfinite(loss))
        seen = step * training.batch_size * source.example_tokens
        evaluation = Evaluation(
            step=step,
            data_seen=seen,
            train_flops=pretraining_flops + seen * sum(flops.values()),
            loss=None if diverged else float(loss),
            metrics={} if diverged else _metrics(source, float(loss), float(sums[1]), float(sums[2])),
        )
        evaluations.append(evaluation)
        report(evaluation)
        if diverged:
            break
    params = count_params(shape)
    device = jax.devices()[0]
    return {
        "status": "diverged" if diverged else "ok",
        "num_params": sum(params.values()),
        "params": params,
        "flops": {
            term: count * evaluations[-1].data_seen for term, count in count_flops(shape, EVERY_TERM).train.items()
        }
        | ({"pretraining": pretraining_flops} if pretraining_flops else {}),
        "evaluations": tuple(evaluations),
        "peak_lr": training.optimizer.peak_lr,
        "batch_size": training.batch_size,
        "device_kind": device.device_kind,
        "num_devices": 1,
        "waiting_seconds": data.waiting_seconds if isinstance(data, StreamedData) else None,
    }


def _fit_estimator(cell: Cell, subset: Subset, task: TaskShape, report: Callable[[Evaluation], None]) -> dict[str, Any]:
    from sklearn.exceptions import ConvergenceWarning

    classical.check_task(cell.model, task)
    source = subset.source
    subset, target = _standardize_targets(subset)
    shift, scale = _standardize(cell.data, subset)

    def prepared(inputs: np.ndarray) -> Any:
        numbers = inputs if source.vocab_size is not None else (inputs.astype(np.float32) - shift) * scale
        return classical.encode_inputs(cell.model, numbers, task)

    inputs, labels = read_all(subset)
    assert labels is not None  # noqa: S101  (check_task)
    if task.objective == "classify" and len(np.unique(labels)) < 2:
        raise ValueError(f"the first {len(labels)} examples hold one class only, which {cell.model.kind} cannot fit")
    estimator = classical.build(cell.model, task, cell.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(prepared(inputs), labels)
    eval_inputs = prepared(source.eval_inputs[:])
    predicted = estimator.predict(eval_inputs)
    loss: float | None
    if task.objective == "regress":
        loss = float(np.square(target.undo(predicted) - source.eval_labels).mean())
        metrics = _metrics(source, loss, 0.0, source.evaluation_size)
    else:
        probabilities = classical.class_probabilities(cell.model, estimator, eval_inputs)
        loss = _log_loss(probabilities, estimator.classes_, source)
        metrics = _metrics(source, loss, float((predicted == source.eval_labels).sum()), source.evaluation_size)
    params = classical.effective_params(cell.model, estimator)
    train_flops = classical.train_flops(cell.model, estimator, subset.size, task.num_features)
    evaluation = Evaluation(
        step=None,
        data_seen=subset.size,
        train_flops=train_flops,
        loss=loss,
        metrics=metrics,
    )
    report(evaluation)
    return {
        "status": "ok",
        "num_params": sum(params.values()) or None,
        "params": params,
        "flops": {} if train_flops is None else {"fit": train_flops},
        "evaluations": (evaluation,),
        "peak_lr": None,
        "batch_size": None,
        "device_kind": "cpu",
        "num_devices": 1,
        "warnings": tuple(sorted({" ".join(str(warning.message).split()) for warning in caught})),
    }


class Target(NamedTuple):
    """The mean and the deviation of a subset's numeric labels, which networks and estimators learn scaled by them."""

    mean: float = 0.0
    deviation: float = 1.0

    def apply(self, labels: Any) -> Any:
        """Returns scaled labels; classes stay what they are."""
        return labels if self == Target() else (labels - self.mean) / self.deviation

    def undo(self, predictions: np.ndarray) -> np.ndarray:
        """Returns predictions in the labels' own unit."""
        return predictions * self.deviation + self.mean


def _standardize_targets(subset: Subset) -> tuple[Subset, Target]:
    """Returns a subset whose numeric labels have mean 0 and deviation 1 over its examples, and what they were."""
    if subset.source.objective != "regress" or subset.labels is None:
        return subset, Target()
    seen = subset.labels[subset.order[:]].astype(np.float64)
    target = Target(float(seen.mean()), float(seen.std()) or 1.0)
    return dataclasses.replace(subset, labels=target.apply(subset.labels).astype(np.float32)), target


def _metrics(source: Source, loss: float | None, right: float, total: float) -> dict[str, float]:
    """Returns the task's metrics: accuracy and error of classes and of tokens, bits per byte of text, R² of numbers."""
    if source.objective == "regress":
        assert source.eval_labels is not None and loss is not None  # noqa: S101  (numbers were predicted)
        return {"r2": 1.0 - loss / float(np.var(source.eval_labels, dtype=np.float64))}
    metrics = {"accuracy": right / total, "error": (total - right) / total}
    if source.bytes_per_token is not None and source.objective == "next_token" and loss is not None:
        metrics["bits_per_byte"] = loss / np.log(2.0) / source.bytes_per_token
    return metrics


def _log_loss(probabilities: np.ndarray | None, classes: np.ndarray, source: Source) -> float | None:
    """Returns the mean negative log-likelihood; None without probabilities, or when a class was never seen."""
    labels = source.eval_labels
    if probabilities is None or labels is None or not np.isin(labels, classes).all():
        return None
    columns = np.searchsorted(classes, labels)
    likelihoods = probabilities[np.arange(len(columns)), columns]
    return float(-np.log(likelihoods).mean()) if (likelihoods > 0).all() else None


def _standardize(data: DataSpec, subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shift and scale of numeric inputs, [F] float32 each, seen on the subset alone; empty for tokens.

    The statistics of a large subset are those of its first STATISTICS_EXAMPLES.
    """
    source = subset.source
    if source.vocab_size is not None:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    num_features = source.inputs.shape[1]
    if source.scaling == "unit" and not data.normalize:
        return np.zeros(num_features, np.float32), np.full(num_features, source.unit, np.float32)
    seen = subset.read(slice(0, min(subset.size, STATISTICS_EXAMPLES)))[0].astype(np.float64)
    if data.normalize:
        assert source.image_shape is not None  # noqa: S101  (check_data)
        channels = seen.reshape(-1, source.image_shape[-1])
        places = num_features // source.image_shape[-1]
        mean, deviation = np.tile(channels.mean(axis=0), places), np.tile(channels.std(axis=0), places)
    else:
        mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros(num_features), where=deviation > 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _manifest(cell: Cell, subset: Subset, study_sizes: Iterable[int]) -> SubsetManifest:
    source = subset.source
    return SubsetManifest(
        source=source.name,
        source_sha256=source.sha256,
        order=cell.data.order,
        seed=cell.seed,
        size=cell.data.size,
        digests=digest_prefixes(subset.identities(), {*study_sizes, cell.data.size}),
        class_counts=subset.class_counts(),
        evaluation_size=source.evaluation_size,
        evaluation_sha256=source.eval_sha256,
        num_unique=subset.num_unique,
        label_noise=cell.data.label_noise,
        num_noisy=subset.num_noisy(),
        duplication=cell.data.duplication,
        in_evaluation=subset.num_in_evaluation(),
        facts=source.facts,
    )


@functools.cache
def _environment() -> dict[str, str]:
    packages = ("scaling", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "platform": platform.machine(),
        "threads": str(threads),
        **{package: importlib.metadata.version(package) for package in packages},
    }
