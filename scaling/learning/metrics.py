"""Metrics as values: functions of outputs and targets, of this package or a user's, and their sums over examples.

Dims: B batch, T tokens, K classes, M numbers, V vocabulary, N predictions that count.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.specs.base import InputError
from scaling.specs.code import resolve
from scaling.specs.metrics import BUILT_IN, OF_TRAINING, Direction, MetricFacts, is_reference
from scaling.specs.task import TaskShape
from scaling.store.columns import CONTRACT, is_part


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a task: its mean over the evaluation set is a column of the table.

    Attributes:
      name: of the column.
      function: (outputs, targets) → values, traced by JAX. Outputs are logits, [B, K] or [B, T, V], with targets
        [B] or [B, T], or predicted numbers, [B] or [B, M], in the labels' units with targets alike. Values are one a
        prediction, [B] or [B, T]; of M numbers [B] or [B, M]. scikit-learn's estimators give log probabilities, those
        without any their decision scores, as logits.
      unit: empty for a number without one.
      direction: whether `lower` or `higher` is better.
      reduce: (values [N, …], weights [N]) → number, NumPy, of all predictions that count, where a metric is no mean;
        the function may then return several numbers a prediction, as further dims. None for the weighted mean.
    """

    name: str
    function: Callable[[Any, Any], Any]
    unit: str = ""
    direction: Direction = "lower"
    reduce: Callable[[np.ndarray, np.ndarray], float] | None = None

    @property
    def facts(self) -> MetricFacts:
        """What tables and reports know of it."""
        return MetricFacts(name=self.name, unit=self.unit, direction=self.direction)


# --- of this package ------------------------------------------------------------------------------------------------


def is_among_five(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns 1 where the target is among the five classes of the largest logits, else 0; like the targets."""
    _, best = jax.lax.top_k(outputs, 5)  # [..., 5]
    return (best == targets[..., None]).any(axis=-1).astype(jnp.float32)


def margins(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns [B, 2]: by how much the logit of class 1 is above that of class 0, and the class."""
    return jnp.stack([outputs[:, 1] - outputs[:, 0], targets.astype(jnp.float32)], axis=-1)


def area_under_curve(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the area under the ROC curve: how often an example of class 1 scores above one of class 0, ties half.

    >>> area_under_curve(np.array([[0.1, 0], [0.4, 0], [0.35, 1], [0.8, 1]]), np.ones(4))
    0.75
    """
    scores, is_one = values[:, 0], values[:, 1] > 0
    _, ranks = np.unique(scores, return_inverse=True)
    ones, zeros = (np.bincount(ranks, weights * chosen) for chosen in (is_one, ~is_one))
    below = np.cumsum(zeros) - zeros
    pairs = float(ones.sum()) * float(zeros.sum())
    return float((ones * (below + zeros / 2)).sum() / pairs) if pairs else float("nan")


def _built_in(
    name: str,
    function: Callable[[Any, Any], Any],
    reduce: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> Metric:
    known = BUILT_IN[name]
    return Metric(name, function, known.unit, known.direction, reduce)


# Those that records have only where they are asked for; the others follow from the loss and from how many are right.
ASKED = {
    metric.name: metric
    for metric in (
        _built_in("top5_accuracy", is_among_five),
        _built_in("top5_error", lambda outputs, targets: 1.0 - is_among_five(outputs, targets)),
        _built_in("auc", margins, area_under_curve),
    )
}


# --- from names to metrics ------------------------------------------------------------------------------------------


def resolve_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Returns the metrics to measure that names of `data.metrics` ask for; imports what is a user's.

    Raises:
      InputError: a reference names no metric, or one whose name is taken.
    """
    found: dict[str, Metric] = {}
    for name in names:
        metric = _resolve(name) if is_reference(name) else ASKED.get(name)
        if metric is None:
            continue  # every record of such a task has it
        if metric.name in found:
            raise InputError(f"data.metrics={name!r}: two metrics are called {metric.name!r}; give one another name")
        found[metric.name] = metric
    return tuple(found.values())


def _resolve(reference: str) -> Metric:
    metric = resolve(reference)
    where = f"data.metrics={reference!r}"
    if not isinstance(metric, Metric):
        raise InputError(f"{where} is {type(metric).__name__}; name a scaling.learning.metrics.Metric")
    try:
        name = metric.facts.name
    except ValueError:
        raise InputError(
            f"{where}: name={metric.name!r}, unit={metric.unit!r}, direction={metric.direction!r}; the name must be "
            "letters, digits and _, the unit a text, and the direction 'lower' or 'higher'"
        ) from None
    if name in {*BUILT_IN, *CONTRACT, *OF_TRAINING} or is_part(name):
        raise InputError(f"{where} is called {name!r}, which is another column of the table; give it another name")
    return metric


def check_functions(metrics: Sequence[Metric], task: TaskShape) -> None:
    """Checks that metrics can be computed from what a task's models put out.

    Raises:
      InputError: a function fails, or returns something else than values of the predictions.
    """
    for metric in metrics:
        _check_function(metric, task)


@functools.lru_cache(maxsize=256)  # a study's cells have the same ones
def _check_function(metric: Metric, task: TaskShape) -> None:
    outputs, targets = _describe_predictions(task)
    where = f"data.metrics: {metric.name!r}"
    shapes = f"outputs {list(outputs.shape)} and targets {list(targets.shape)}"
    try:
        values = jax.eval_shape(metric.function, outputs, targets)
    except Exception as error:  # noqa: BLE001  (a user's code)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{where} cannot be computed from {shapes} ({said}); mend its function") from None
    shape = getattr(values, "shape", None)
    if metric.reduce is None:
        allowed = {targets.shape, targets.shape[:1] if task.objective == "regress" else targets.shape}
        if shape not in allowed:
            raise InputError(
                f"{where} returns values of shape {shape} from {shapes}; return one a prediction, or give the metric a "
                "reduce of its own"
            )
        return
    leading = len(targets.shape) if task.predicts_tokens else 1
    if shape is None or shape[:leading] != targets.shape[:leading]:
        raise InputError(f"{where} returns values of shape {shape} from {shapes}; let its dims begin as the targets'")


def _describe_predictions(task: TaskShape) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns the shapes of the outputs and targets of three examples."""
    if task.objective == "regress":
        numbers = jax.ShapeDtypeStruct((3, *task.label_dims), jnp.float32)
        return numbers, numbers
    places = (3, task.num_features) if task.predicts_tokens else (3,)
    return jax.ShapeDtypeStruct((*places, task.num_classes), jnp.float32), jax.ShapeDtypeStruct(places, jnp.int32)


# --- from predictions to numbers ------------------------------------------------------------------------------------

# What a metric leaves behind of a batch, or of every member of a population: two sums, or all values and weights.
Parts = tuple[Any, Any]


def measure(metrics: Sequence[Metric], outputs: Any, targets: Any, weights: Any) -> dict[str, Parts]:
    """Returns what metrics need of a batch, by name: weighted sum and sum of weights, or values and weights.

    Args:
      metrics: to measure.
      outputs: as `Metric.function` takes them.
      targets: alike.
      weights: [B] or [B, T]: how much each prediction counts.
    """
    found = {}
    for metric in metrics:
        values = metric.function(outputs, targets)
        if metric.reduce is not None:
            found[metric.name] = (values, weights)
            continue
        each = jnp.broadcast_to(weights.reshape(*weights.shape, *(1,) * (values.ndim - weights.ndim)), values.shape)
        found[metric.name] = (jnp.where(each > 0, values * each, 0.0).sum(), each.sum())
    return found


def conclude(metrics: Sequence[Metric], batches: Sequence[Mapping[str, Parts]]) -> dict[str, float]:
    """Returns the metrics of an evaluation set from what its batches left; those that are not finite are left out."""
    numbers = {}
    for metric in metrics:
        parts = [tuple(np.asarray(part, np.float64) for part in batch[metric.name]) for batch in batches]
        if metric.reduce is None:
            total, count = (sum(each) for each in zip(*parts, strict=True))
            numbers[metric.name] = float(total / count) if count else float("nan")
            continue
        values, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
        counts = weights > 0  # [n] or [n, T]; what is left has one dim of predictions
        numbers[metric.name] = float(metric.reduce(values[counts], weights[counts]))
    return {name: number for name, number in numbers.items() if np.isfinite(number)}
