"""What a cell will cost, and what stands against it, before it runs."""

from collections.abc import Sequence

from scaling.data.loading import check_data, load_source
from scaling.data.order.classes import holds_two_classes, size_of_two_classes
from scaling.data.source import task_shape
from scaling.learning.metrics import check_functions, resolve_metrics
from scaling.specs.base import InputError, Json
from scaling.specs.cell import Cell, EstimatorCell, NetworkCell, is_network, narrow
from scaling.specs.data import count_unique
from scaling.specs.execution import Execution
from scaling.specs.metrics import suggest_metric, task_columns
from scaling.specs.models import EstimatorSpec
from scaling.specs.study import spread_columns
from scaling.specs.task import TaskShape
from scaling.specs.training import CodeOptimizerSpec
from scaling.store.columns import CONVENTION, TOTAL


def check_metric(metric: str, cell: Cell) -> None:
    """Checks that a cell's record will have the column that a study's laws are fitted to.

    Raises:
      InputError: it will not, or the cell's metrics cannot be had.
    """
    columns = metric_columns(cell)
    if metric not in columns:
        raise InputError(
            f"metric={metric!r} is no column of {cell.model.kind} on {cell.data.source.kind} ({cell.fingerprint()}); "
            f"{suggest_metric(metric, columns)}"
        )


def metric_columns(cell: Cell) -> tuple[str, ...]:
    """Returns the columns of loss and metrics that a cell's record will have.

    Raises:
      InputError: its data is missing, or a metric is not there.
    """
    source, metrics = load_source(cell.data), resolve_metrics(cell.data.metrics)
    is_text = source.bytes_per_token is not None
    columns = dict.fromkeys(task_columns(cell.data.metrics, task_shape(source), is_text=is_text))
    columns |= dict.fromkeys(metric.name for metric in metrics)
    narrowed = narrow(cell)
    if not is_network(narrowed) and source.objective == "classify":
        from scaling.models.families.learners import learner_of

        if not learner_of(narrowed.model).is_likely:
            del columns["loss"]  # it has no probabilities
    return spread_columns(cell, tuple(columns))


def check_classes(cell: Cell) -> str | None:
    """Returns a warning where a network would see examples of one class only; None where a cell sees two.

    An estimator refuses to be fitted to them. A network takes them, and what it then errs belongs to the mean over
    draws of so few examples: leaving such draws out would make it look better than it is.

    Raises:
      InputError: an estimator would be fitted to examples of one class, or the data is missing.
    """
    source = load_source(cell.data)
    if holds_two_classes(cell.data, source, cell.seed):
        return None
    data, least = cell.data, size_of_two_classes(cell.data, source, cell.seed)
    if least is None:
        remedy = "no larger subset holds another one; choose another source, or other labels"
    else:
        can_balance = data.order != "balanced" and data.size >= source.num_classes and not data.duplication
        remedy = f"choose data.size of at least {least}{', or data.order=' + repr('balanced') if can_balance else ''}"
    drawn = (
        f"data.size={data.size}: the first {data.size} examples of {source.name} (data.order={data.order!r}, "
        f"seed={cell.seed}) hold one class only"
    )
    if is_network(narrow(cell)):
        return f"{drawn}, so that {cell.model.kind} learns to name that class; {remedy}"
    raise InputError(f"{drawn}, which {cell.model.kind} cannot fit; {remedy}")


def join_warnings(warnings: Sequence[str]) -> list[str]:
    """Returns one line for the warnings of all cells: the first, and how many cells are alike; none for none.

    >>> join_warnings(["data.size=1 …", "data.size=2 …"])
    ['data.size=1 … (and 1 more cell alike)']
    """
    others = len(warnings) - 1
    alike = f" (and {others} more cell{'s' if others > 1 else ''} alike)" if others > 0 else ""
    return [warnings[0] + alike] if warnings else []


def check_execution(cell: Cell, execution: Execution) -> None:
    """Checks that a network can be trained as an execution asks, whatever devices there are; estimators know none.

    Raises:
      InputError: its batch, its heads or the members of a population cannot be divided so, or the data is missing.
    """
    narrowed = narrow(cell)
    if not is_network(narrowed):
        return
    from scaling.devices.sharding import check_division, check_population
    from scaling.learning.step import check_learner
    from scaling.models.registry import make_shape

    shape = make_shape(narrowed.model, task_shape(load_source(cell.data)))
    check_population(execution)
    check_division(shape, narrowed.training.batch_size, execution)
    check_learner(shape, narrowed.training, execution)


def describe_cell(cell: Cell) -> Json:
    """Returns a cell's `num_params`, `data_unique`, `data_seen` and `train_flops` before it runs.

    Those that are not counted are None. N is counted as the model says; where that is not the total, `num_params_total`
    and `num_params_convention` are there too. Data is counted in its `data_unit`, examples or tokens, as the record
    will have it; `example_tokens` is how many of these an example is.

    Raises:
      InputError: the data is missing or does not allow this cell, or no model of the asked size exists.
    """
    source = load_source(cell.data)
    check_data(cell.data, source)
    task = task_shape(source)
    check_functions(resolve_metrics(cell.data.metrics), task)
    narrowed = narrow(cell)
    # Each kind loads what it needs: a study of estimators no Flax, one of networks no SciPy.
    if is_network(narrowed):
        counts = _count_network(narrowed, task, source.example_tokens)
    else:
        counts = _count_estimator(narrowed, task)
    return counts | {
        "data_unique": count_unique(cell.data.size, cell.data.duplication) * source.example_tokens,
        "data_unit": "tokens" if task.predicts_tokens else "examples",
        "example_tokens": source.example_tokens,
    }


def _count_estimator(cell: EstimatorCell, task: TaskShape) -> Json:
    from scaling.models.families import classical

    params = classical.count_params(cell.model, task)
    if isinstance(cell.model, EstimatorSpec):
        classical.build(cell.model, task, cell.seed)  # code of the user's, of which nothing else is known
    return {"num_params": sum(params.values()) or None, "data_seen": cell.data.size, "train_flops": None}


def _count_network(cell: NetworkCell, task: TaskShape, example_tokens: int) -> Json:
    from scaling.learning.pretraining import check_pretraining, pretraining_flops
    from scaling.learning.step import check_learner
    from scaling.models.counting.flops import count_flops
    from scaling.models.counting.params import count_by_convention, count_params
    from scaling.models.registry import make_shape

    training = cell.training
    shape = make_shape(cell.model, task)
    check_learner(shape, training)
    if isinstance(training.optimizer, CodeOptimizerSpec):
        from scaling.learning.optim import check_own_rule

        check_own_rule(training.optimizer)
    if training.pretraining is not None:
        check_pretraining(shape)
    convention, total = cell.model.convention, sum(count_params(shape).values())
    counts: Json = {"num_params": total}
    if convention != "total":
        counts = {"num_params": count_by_convention(shape, convention), CONVENTION: convention, TOTAL: total}
    seen = training.num_steps * training.batch_size * example_tokens
    return {
        **counts,
        "data_seen": seen,
        "train_flops": pretraining_flops(shape, training) + seen * sum(count_flops(shape).train.values()),
    }
