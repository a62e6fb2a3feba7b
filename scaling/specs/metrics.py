"""Metrics as data: names, units, which direction is better, and which tasks have them; nothing is computed here."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from scaling.specs.base import InputError, Spec, suggest
from scaling.specs.task import TaskShape

Direction = Literal["lower", "higher"]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]


class MetricFacts(Spec):
    """What is known of a metric without computing it.

    Attributes:
      name: of its column in the table.
      unit: empty for a number without one.
      direction: whether `lower` or `higher` is better.
    """

    name: MetricName
    unit: str = ""
    direction: Direction = "lower"


class BuiltIn(MetricFacts):
    """A metric of this package.

    Attributes:
      needs: what a task must have, in words that a refusal ends with; empty for every task.
      is_asked: whether records have it only where `data.metrics` names it.
      takes_logarithms: whether it is positive, as the objectives on logarithms need it.
    """

    needs: Literal["", "classes", "two classes", "more than five classes", "tokens", "text", "numbers"] = ""
    is_asked: bool = False
    takes_logarithms: bool = True


BUILT_IN = {
    metric.name: metric
    for metric in (
        BuiltIn(name="loss", unit="nats, or squared labels"),
        BuiltIn(name="error", unit="share of predictions", needs="classes"),
        BuiltIn(name="accuracy", unit="share of predictions", direction="higher", needs="classes"),
        BuiltIn(name="top5_error", unit="share of predictions", needs="more than five classes", is_asked=True),
        BuiltIn(
            name="top5_accuracy",
            unit="share of predictions",
            direction="higher",
            needs="more than five classes",
            is_asked=True,
        ),
        BuiltIn(name="auc", direction="higher", needs="two classes", is_asked=True),
        BuiltIn(name="perplexity", needs="tokens"),
        BuiltIn(name="bits_per_byte", unit="bits per byte", needs="text"),
        BuiltIn(name="r2", direction="higher", needs="numbers", takes_logarithms=False),
        BuiltIn(name="rmse", unit="labels", needs="numbers"),
    )
}
# Metrics beside the task's: the mean training loss since the last evaluation, and the gradient noise scale.
OF_TRAINING = {"train_loss": MetricFacts(name="train_loss"), "noise_scale": MetricFacts(name="noise_scale")}
# Before the metrics of averaged weights.
AVERAGED = "ema"


def is_reference(metric: str) -> bool:
    """Returns whether a metric of `data.metrics` is code of a user, `"name:attribute"`."""
    return ":" in metric


def has_metric(metric: BuiltIn, task: TaskShape, *, is_text: bool) -> bool:
    """Returns whether a task has a metric.

    Args:
      metric: of this package.
      task: what a model must fit.
      is_text: whether its tokens are of text, whose bytes are counted.
    """
    has_classes = task.objective == "classify"
    match metric.needs:
        case "classes":
            return has_classes or task.predicts_tokens
        case "two classes":
            return has_classes and task.num_classes == 2
        case "more than five classes":
            return (has_classes or task.predicts_tokens) and task.num_classes > 5
        case "tokens":
            return task.predicts_tokens
        case "text":
            return is_text and task.objective == "next_token"
        case "numbers":
            return task.objective == "regress"
        case _:
            return True


def task_columns(metrics: Sequence[str], task: TaskShape, *, is_text: bool) -> tuple[str, ...]:
    """Returns the columns that records of a task have: what every such record has, and what was asked for."""
    return tuple(
        name
        for name, metric in BUILT_IN.items()
        if has_metric(metric, task, is_text=is_text) and (not metric.is_asked or name in metrics)
    )


def check_metrics(metrics: Sequence[str], task: TaskShape, *, is_text: bool, where: str) -> None:
    """Checks that a task has the metrics of this package that are asked for; a user's are for who can import them.

    Raises:
      InputError: it has one not.
    """
    for name in metrics:
        if name in BUILT_IN and not has_metric(BUILT_IN[name], task, is_text=is_text):
            there = [each for each in BUILT_IN if has_metric(BUILT_IN[each], task, is_text=is_text)]
            raise InputError(
                f"data.metrics={name!r} is for {BUILT_IN[name].needs}, which {where} does not have; leave it out, or "
                f"choose among {', '.join(there)}"
            )


def facts_of(column: str, known: Iterable[MetricFacts] = ()) -> MetricFacts | None:
    """Returns what is known of a column of the table that is a metric, also under the prefix of an evaluation set.

    Args:
      column: its name.
      known: metrics beside those of this package, as records have them.

    >>> facts_of("ood_top5_accuracy").direction
    'higher'
    """
    named = {**BUILT_IN, **OF_TRAINING, **{each.name: each for each in known}}
    found = [name for name in named if column == name or column.endswith(f"_{name}")]
    return named[max(found, key=len)] if found else None


def is_lower_better(column: str, known: Iterable[MetricFacts] = ()) -> bool:
    """Returns whether smaller values of a column are better; so it is of what nothing is known of.

    >>> is_lower_better("ema_loss"), is_lower_better("accuracy")
    (True, False)
    """
    facts = facts_of(column, known)
    return facts is None or facts.direction == "lower"


def check_objective(column: str, objective: str, remedy: str) -> None:
    """Checks that a column can be fitted by an objective on logarithms, if the objective is one.

    Raises:
      InputError: its values may be 0 or below.
    """
    facts = facts_of(column)
    if objective != "mse" and isinstance(facts, BuiltIn) and not facts.takes_logarithms:
        raise InputError(
            f"metric={column!r} may be 0 or below, but fit.objective={objective!r} acts on logarithms; {remedy}"
        )


def suggest_metric(name: str, columns: Iterable[str]) -> str:
    """Returns the remedy for a metric that a cell will not have."""
    base = facts_of(name)
    if isinstance(base, BuiltIn) and base.is_asked and base.name == name:
        return f"add it to data.metrics, or {suggest(name, columns)}"
    return suggest(name, columns)
