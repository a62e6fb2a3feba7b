"""What the fixed evaluation set says of networks: loss and the task's metrics, of one cell or of a whole population."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from scaling.data.feeding.placement import Standard, evaluation_batches
from scaling.data.source import Source
from scaling.devices.processes import fetch
from scaling.learning.step import Monitor
from scaling.models.network import Variables
from scaling.specs.execution import MeshSpec
from scaling.specs.training import TrainingSpec
from scaling.training.program import Program


class Verdict(NamedTuple):
    """Of one network; `loss` is None where it is not finite, and `metrics` then empty."""

    loss: float | None
    metrics: dict[str, float]

    def joined(self, metrics: dict[str, float]) -> Self:
        """Returns the verdict with more metrics; without a loss it has none."""
        return self if self.loss is None else self._replace(metrics=self.metrics | metrics)

    def named(self, prefix: str) -> dict[str, float]:
        """Returns loss and metrics under names with a prefix."""
        values = {} if self.loss is None else {"loss": self.loss, **self.metrics}
        return {f"{prefix}_{name}": value for name, value in values.items()}


def evaluate_members(
    program: Program, variables: Variables, source: Source, standard: Standard, mesh: MeshSpec
) -> list[Verdict]:
    """Returns the verdict on each member of a population, or on the one network that there is.

    Args:
      program: the program of the networks.
      variables: theirs; with a leading axis P in a population.
      source: with the evaluation set.
      standard: how each sees numbers, on the device.
      mesh: the mesh of the program.
    """
    sums: Any = 0.0
    for batch in evaluation_batches(source, mesh.batch_shards, program.layout.put):
        batch_sums = jax.device_get(program.evaluate(variables, standard, batch.inputs, batch.labels, batch.is_real))
        sums = sums + np.stack([np.atleast_1d(each).astype(np.float64) for each in batch_sums])  # [3, P]
    scales = np.atleast_1d(fetch(standard.label_scale).astype(np.float64))
    return [
        _verdict(source, float(loss / total / scale**2), float(right), float(total))
        for (loss, right, total), scale in zip(sums.T, scales, strict=True)
    ]


def _verdict(source: Source, loss: float, right: float, total: float) -> Verdict:
    if not np.isfinite(loss):
        return Verdict(None, {})
    return Verdict(loss, task_metrics(source, loss, right, total))


def noise_scales(monitor: Monitor, training: TrainingSpec) -> list[dict[str, float]] | None:
    """Returns the gradient noise scale of each member in examples as `noise_scale`, where its estimates are positive.

    None where the training does not measure it (McCandlish et al. 2018).
    """
    if training.noise_scale_parts is None:
        return None
    noise, signal = (np.atleast_1d(fetch(terms)) for terms in (monitor.noise, monitor.signal))  # [P]
    is_known = (noise > 0) & (signal > 0)
    scales = training.batch_size * noise / np.where(is_known, signal, 1.0)
    return [
        {"noise_scale": float(scale)} if known and np.isfinite(scale) else {}
        for scale, known in zip(scales, is_known, strict=True)
    ]


def task_metrics(source: Source, loss: float | None, right: float, total: float) -> dict[str, float]:
    """Returns the task's metrics: accuracy and error of classes and of tokens, bits per byte of text, R² of numbers."""
    if source.objective == "regress":
        assert source.eval_labels is not None and loss is not None  # noqa: S101  (numbers were predicted)
        return {"r2": 1.0 - loss / float(np.var(source.eval_labels, dtype=np.float64))}
    metrics = {"accuracy": right / total, "error": (total - right) / total}
    if source.bytes_per_token is not None and source.objective == "next_token" and loss is not None:
        metrics["bits_per_byte"] = loss / np.log(2.0) / source.bytes_per_token
    return metrics


def log_loss(probabilities: np.ndarray | None, classes: Sequence[int], source: Source) -> float | None:
    """Returns an estimator's mean negative log-likelihood; None without probabilities, or for a class it never saw."""
    labels = source.eval_labels
    if probabilities is None or labels is None or not np.isin(labels, classes).all():
        return None
    columns = np.searchsorted(classes, labels)
    likelihoods = probabilities[np.arange(len(columns)), columns]
    return float(-np.log(likelihoods).mean()) if (likelihoods > 0).all() else None
