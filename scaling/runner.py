"""One cell, from its specification to its record."""

import functools
import importlib.metadata
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.cell import Cell, TrainingSpec
from scaling.data.sources import Source, check_size, load_source
from scaling.data.subsets import digest_prefixes, draw_order
from scaling.flops import EVERY_TERM, FLOPS_VERSION, count_flops
from scaling.models import Shape, TaskShape, classical, make_shape
from scaling.models.specs import NetworkSpec
from scaling.params import count_params
from scaling.pretraining import check_pretraining, count_pretraining_flops
from scaling.record import Evaluation, Record, SubsetManifest
from scaling.train import DeviceData, get_program, run_steps

# Examples evaluated in one call: bounds memory, and one compilation serves the whole evaluation set.
EVALUATION_BATCH = 5_000


def train_cell(
    cell: Cell, study_sizes: Iterable[int] = (), on_evaluation: Callable[[Evaluation], None] | None = None
) -> Record:
    """Returns the record of a cell after training it here and now.

    Args:
      cell: what to train.
      study_sizes: subset sizes of the whole study; the record keeps a digest at each up to m, which proves nesting.
      on_evaluation: called with every evaluation as it is made.

    Raises:
      InputError: the data is missing or does not allow this cell.
    """
    started = time.monotonic()
    source = load_source(cell.data)
    check_size(cell.data, source)
    data = cell.data
    indices = draw_order(source.labels, source.num_classes, data.order, cell.seed, data.size)
    task = task_shape(source)
    report = on_evaluation or (lambda evaluation: None)
    if cell.training is not None:
        measured = _train_by_gradient(cell, cell.training, source, indices, task, report)
    else:
        measured = _fit_estimator(cell, source, indices, task, report)
    evaluations = measured["evaluations"]
    return Record(
        cell=cell.fingerprint(),
        family=cell.model.kind,
        seed=cell.seed,
        data_unit="examples",
        data_unique=data.size,
        epochs=evaluations[-1].data_seen / data.size,
        flops_version=FLOPS_VERSION,
        train_flops_spent=evaluations[-1].train_flops,
        wall_seconds=time.monotonic() - started,
        data=_manifest(cell, source, indices, study_sizes),
        environment=_environment(),
        **measured,
    )


def task_shape(source: Source) -> TaskShape:
    """Returns what a model must fit to learn from a source."""
    return TaskShape(source.inputs.shape[1], source.vocab_size, source.num_classes, source.image_shape)


def describe_cell(cell: Cell) -> dict[str, Any]:
    """Returns a cell's `num_params`, `data_seen` and `train_flops` before it runs; None where they are not counted.

    Raises:
      InputError: the data is missing or does not allow this cell, or no model of the asked size exists.
    """
    source = load_source(cell.data)
    check_size(cell.data, source)
    task = task_shape(source)
    if cell.training is None:
        params = classical.count_params(cell.model, task)
        return {"num_params": sum(params.values()) or None, "data_seen": cell.data.size, "train_flops": None}
    assert isinstance(cell.model, NetworkSpec)  # noqa: S101  (a cell with training holds a network)
    shape = make_shape(cell.model, task)
    seen = cell.training.num_steps * cell.training.batch_size
    if cell.training.pretraining is not None:
        check_pretraining(shape)
    return {
        "num_params": sum(count_params(shape).values()),
        "data_seen": seen,
        "train_flops": _pretraining_flops(shape, cell.training) + seen * sum(count_flops(shape).train.values()),
    }


def _pretraining_flops(shape: Shape, training: TrainingSpec) -> float:
    spec = training.pretraining
    return 0.0 if spec is None else count_pretraining_flops(shape, spec, training.batch_size)


def _train_by_gradient(
    cell: Cell,
    training: TrainingSpec,
    source: Source,
    indices: np.ndarray,
    task: TaskShape,
    report: Callable[[Evaluation], None],
) -> dict[str, Any]:
    assert isinstance(cell.model, NetworkSpec)  # noqa: S101  (a cell with training holds a network)
    shape = make_shape(cell.model, task)
    program = get_program(shape, training)
    shift, scale = _standardize(source, indices)
    inputs, labels, eval_batches = _to_device(cell.data.model_dump_json(include={"source", "evaluation_size"}), source)
    order = np.zeros(source.size, np.int32)
    order[: len(indices)] = indices
    data = DeviceData(inputs, labels, jnp.asarray(order), jnp.asarray(shift), jnp.asarray(scale))
    flops, pretraining_flops = count_flops(shape).train, _pretraining_flops(shape, training)
    evaluations: list[Evaluation] = []
    diverged = False
    for step, variables, finite in run_steps(program, training, cell.data.size, cell.seed, data):
        sums = [program.evaluate(variables, *batch, data.shift, data.scale) for batch in eval_batches]
        loss = sum(float(batch_loss) for batch_loss, _, _ in sums) / len(source.eval_labels)
        correct = sum(int(batch_correct) for _, batch_correct, _ in sums)
        diverged = not (finite and np.isfinite(loss))
        seen = step * training.batch_size
        evaluation = Evaluation(
            step=step,
            data_seen=seen,
            train_flops=pretraining_flops + seen * sum(flops.values()),
            loss=None if diverged else loss,
            metrics={} if diverged else _accuracy(correct, source),
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
    }


def _fit_estimator(
    cell: Cell, source: Source, indices: np.ndarray, task: TaskShape, report: Callable[[Evaluation], None]
) -> dict[str, Any]:
    from sklearn.exceptions import ConvergenceWarning

    shift, scale = _standardize(source, indices)

    def prepared(inputs: np.ndarray) -> Any:
        numbers = inputs if source.vocab_size is not None else (inputs.astype(np.float32) - shift) * scale
        return classical.encode_inputs(cell.model, numbers, task)

    labels = source.labels[indices]
    if len(np.unique(labels)) < 2:
        raise ValueError(f"the first {len(labels)} examples hold one class only, which {cell.model.kind} cannot fit")
    estimator = classical.build(cell.model, task, cell.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(prepared(source.inputs[indices]), labels)
    eval_inputs = prepared(source.eval_inputs)
    predicted = estimator.predict(eval_inputs)
    probabilities = classical.class_probabilities(cell.model, estimator, eval_inputs)
    params = classical.effective_params(cell.model, estimator)
    train_flops = classical.train_flops(cell.model, estimator, len(indices), task.num_features)
    evaluation = Evaluation(
        step=None,
        data_seen=len(indices),
        train_flops=train_flops,
        loss=_log_loss(probabilities, estimator.classes_, source),
        metrics=_accuracy(int((predicted == source.eval_labels).sum()), source),
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


def _accuracy(correct: int, source: Source) -> dict[str, float]:
    total = len(source.eval_labels)
    return {"accuracy": correct / total, "error": (total - correct) / total}


def _log_loss(probabilities: np.ndarray | None, classes: np.ndarray, source: Source) -> float | None:
    """Returns the mean negative log-likelihood; None without probabilities, or when a class was never seen."""
    if probabilities is None or not np.isin(source.eval_labels, classes).all():
        return None
    columns = np.searchsorted(classes, source.eval_labels)
    likelihoods = probabilities[np.arange(len(columns)), columns]
    return float(-np.log(likelihoods).mean()) if (likelihoods > 0).all() else None


def _standardize(source: Source, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shift and scale of numeric inputs, [F] float32 each, seen on the subset alone; empty for tokens."""
    if source.vocab_size is not None:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    num_features = source.inputs.shape[1]
    if source.scaling == "unit":
        return np.zeros(num_features, np.float32), np.full(num_features, source.unit, np.float32)
    seen = source.inputs[indices].astype(np.float64)
    deviation = seen.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros(num_features), where=deviation > 0)
    return seen.mean(axis=0).astype(np.float32), scale.astype(np.float32)


_on_device: dict[str, Any] = {}


def _to_device(key: str, source: Source) -> tuple[jax.Array, jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """Returns the pool and the evaluation batches on the device; the last source stays there for the next cell."""
    if key not in _on_device:
        _on_device.clear()
        batches = [
            (
                jnp.asarray(source.eval_inputs[start : start + EVALUATION_BATCH]),
                jnp.asarray(source.eval_labels[start : start + EVALUATION_BATCH]),
            )
            for start in range(0, len(source.eval_labels), EVALUATION_BATCH)
        ]
        _on_device[key] = jnp.asarray(source.inputs), jnp.asarray(source.labels), batches
    return _on_device[key]


def _manifest(cell: Cell, source: Source, indices: np.ndarray, study_sizes: Iterable[int]) -> SubsetManifest:
    counts = np.bincount(source.labels[indices], minlength=source.num_classes)
    return SubsetManifest(
        source=source.name,
        source_sha256=source.sha256,
        order=cell.data.order,
        seed=cell.seed,
        size=cell.data.size,
        digests=digest_prefixes(indices, {*study_sizes, cell.data.size}),
        class_counts=tuple(counts.tolist()),
        evaluation_size=len(source.eval_labels),
        evaluation_sha256=source.eval_sha256,
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
