"""What the fixed evaluation set says of networks: loss and the task's metrics, of one cell or of a whole population."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import jax
import numpy as np

from scaling.data.feeding.placement import Standard, evaluation_batches
from scaling.data.source import Source
from scaling.devices.processes import fetch
from scaling.learning.metrics import Parts, conclude
from scaling.specs.execution import MeshSpec
from scaling.specs.training import TrainingSpec

if TYPE_CHECKING:  # estimators are judged here, too, and need no network
    from scaling.learning.step import Monitor
    from scaling.models.network import Variables
    from scaling.training.program import Program

# Whose exponential is still a number in floating point.
MOST_NATS = 700.0


class Verdict(NamedTuple):
    """Of one model; `loss` is None where it has none, or none that is finite, and a network's `metrics` then empty."""

    loss: float | None
    metrics: dict[str, float]

    def joined(self, metrics: dict[str, float]) -> Self:
        """Returns the verdict with more metrics; without a loss it has none."""
        return self if self.loss is None else self._replace(metrics=self.metrics | metrics)

    def named(self, prefix: str) -> dict[str, float]:
        """Returns loss and metrics under names with a prefix."""
        values = ({} if self.loss is None else {"loss": self.loss}) | self.metrics
        return {f"{prefix}_{name}": value for name, value in values.items()}


def evaluate_members(
    program: "Program", variables: "Variables", source: Source, standard: Standard, mesh: MeshSpec
) -> list[Verdict]:
    """Returns the verdict on each member of a population, or on the one network that there is.

    Args:
      program: the program of the networks.
      variables: theirs; with a leading axis P in a population.
      source: with the evaluation set.
      standard: how each sees numbers, on the device.
      mesh: the mesh of the program.
    """
    losses, right, total = (np.zeros(1) for _ in range(3))
    measured: list[list[dict[str, Parts]]] = []  # by batch, then by member
    for batch in evaluation_batches(source, mesh.batch_shards, program.layout.put):
        sums, parts = jax.device_get(program.evaluate(variables, standard, batch.inputs, batch.labels, batch.is_real))
        of_loss, of_right, of_total = (np.asarray(each, np.float64) for each in sums)
        is_alone = of_total.ndim == 0
        right, total = right + of_right.reshape(-1), total + of_total.reshape(-1)  # [P]
        losses = losses + of_loss.reshape(len(total), -1)  # [P, 1], or [P, M] of several numbers
        measured.append([parts] if is_alone else [_of_member(parts, member) for member in range(len(total))])
    scales = fetch(standard.label_scale).astype(np.float64).reshape(len(total), -1)  # alike
    means = (losses / total[:, None] / scales**2).mean(axis=1)
    return [
        _verdict(source, *map(float, each)).joined(conclude(program.metrics, of_member))
        for *each, of_member in zip(means, right, total, zip(*measured, strict=True), strict=True)
    ]


def _of_member(parts: dict[str, Parts], member: int) -> dict[str, Parts]:
    return {name: (first[member], second[member]) for name, (first, second) in parts.items()}


def _verdict(source: Source, loss: float, right: float, total: float) -> Verdict:
    if not np.isfinite(loss):
        return Verdict(None, {})
    return Verdict(loss, task_metrics(source, loss, right, total))


def noise_scales(monitor: "Monitor", training: TrainingSpec) -> list[dict[str, float]] | None:
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
    """Returns the metrics that follow from the loss and from how many predictions are right.

    Accuracy and error of classes and of tokens, perplexity of tokens, bits per byte of text, R² and root mean squared
    error of numbers; one that is no number is left out.
    """
    if source.objective == "regress":
        assert source.eval_labels is not None and loss is not None  # noqa: S101  (numbers were predicted)
        variance = np.var(source.eval_labels, axis=0, dtype=np.float64).mean()  # of M numbers the total one over M
        return ({"r2": 1.0 - loss / float(variance)} if variance > 0 else {}) | {"rmse": math.sqrt(loss)}
    metrics = {"accuracy": right / total, "error": (total - right) / total}
    if source.labels is None and loss is not None and loss < MOST_NATS:
        metrics["perplexity"] = math.exp(loss)
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
