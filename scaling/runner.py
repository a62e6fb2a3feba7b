"""Cells to records: jobs of networks, one estimator at a time, and what a cell will cost before it runs."""

import contextlib
import functools
import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from scaling.checkpoints.keeper import Keeper, Keeping
from scaling.data.feeding.placement import read_all
from scaling.data.feeding.standard import standard_of, undo_labels
from scaling.data.loading import check_data, draw_cell, load_source
from scaling.data.order.subsets import Subset, digest_prefixes
from scaling.data.source import Source, task_shape
from scaling.devices.processes import visible_cores
from scaling.evaluate import log_loss, task_metrics
from scaling.job import train_together
from scaling.leaf import Measured
from scaling.models.counting.flops import EVERY_TERM, FLOPS_VERSION, count_flops
from scaling.models.counting.params import count_params
from scaling.models.families import classical
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.population import NotTogether
from scaling.pretraining import check_pretraining, count_pretraining_flops
from scaling.program import Stacked, get_program
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import count_unique
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.models import NetworkSpec
from scaling.specs.sharing import plant
from scaling.specs.task import TaskShape
from scaling.specs.training import TrainingSpec
from scaling.step import TrainState, check_learner
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.tracking import Ended, Tracker


def train_cell(cell: Cell, study_sizes: Collection[int] = (), **options: Any) -> Record:
    """Returns the record of a cell after training it here and now; takes the options of `train_cells`.

    Raises:
      InputError: the data is missing or does not allow this cell.
    """
    (record,) = train_cells([cell], study_sizes, **options)
    return record


def train_cells(
    cells: Sequence[Cell],
    study_sizes: Collection[int] = (),
    *,
    execution: Execution = DEFAULT,
    tracker: Tracker | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
    checkpoints: epath.Path | None = None,
    keeping: Keeping | None = None,
    heard: Callable[[], bool] = lambda: False,
    reader_workers: int = 0,
) -> list[Record]:
    """Returns the records of cells after training them here and now, as one job.

    Args:
      cells: one; or several that share a program, the members of a population and the leaves of their branch trees.
      study_sizes: subset sizes of the whole study; a record keeps a digest at each up to m, which proves nesting.
      execution: how to run.
      tracker: is told of evaluations and training losses as they come, and of the end of every cell that began.
      on_record: receives each record as soon as it is complete.
      checkpoints: the folder for the job's checkpoints; None keeps none.
      keeping: how they are kept.
      heard: whether a preemption notice has come.
      reader_workers: processes that read data which does not fit on the device; 0 for threads of this one.

    Raises:
      InputError: the data is missing or does not allow a cell, or the execution does not fit it.
      Preempted: a notice has come, and the job is saved.
    """
    told = Ended(tracker or Tracker())
    if cells[0].training is None:
        records = []
        with told:
            for cell in cells:
                records.append(_train_estimator(cell, study_sizes, told))
                on_record(records[-1])
                told.end(cell.fingerprint(), records[-1])
        return records
    tree = plant(cells)
    subsets = [draw_cell(member[0]) for member in tree.cells]
    task = task_shape(subsets[0].source)
    model = cells[0].model
    assert isinstance(model, NetworkSpec)  # noqa: S101  (a cell with training holds a network)
    shape = make_shape(model, task)
    records = []

    @functools.cache
    def manifest(member: int) -> SubsetManifest:
        return _manifest(tree.cells[member][0], subsets[member], study_sizes)  # its leaves have one subset

    def keep(cell: Cell, measured: Measured) -> None:
        member = next(number for number, leaves in enumerate(tree.cells) if cell in leaves)
        records.append(_network_record(cell, shape, subsets[member].source, manifest(member), measured, execution))
        on_record(records[-1])
        told.end(cell.fingerprint(), records[-1])

    keeper = None
    if checkpoints is not None:
        keeper = Keeper(checkpoints / tree.name, tree.name, keeping or Keeping(), heard)
    try:
        with told:
            train_together(
                tree,
                shape,
                subsets,
                execution,
                tracker=told,
                on_measured=keep,
                keeper=keeper,
                num_workers=reader_workers,
            )
    except NotTogether:
        each = [
            train_cells(
                member,
                study_sizes,
                execution=alone(execution),
                tracker=tracker,
                on_record=on_record,
                checkpoints=checkpoints,
                keeping=keeping,
                heard=heard,
                reader_workers=reader_workers,
            )
            for member in tree.cells
        ]
        return [record for found in each for record in found]
    finally:
        if keeper is not None:
            keeper.close()
    if keeper is not None:
        keeper.finish()
    return records


def load_state(cells: Sequence[Cell], checkpoints: epath.Path, execution: Execution = DEFAULT) -> TrainState:
    """Returns the training state that the newest sound checkpoint of a job holds, with the network's variables.

    Args:
      cells: of the job.
      checkpoints: the folder that `train_cells` was given.
      execution: how it was run; another mesh puts the arrays on other devices.

    Raises:
      InputError: there is no checkpoint, or it is of another job or version.
      CorruptCheckpointError: there are checkpoints, and none is sound.
    """
    tree = plant(cells)
    model, training = cells[0].model, tree.trainings[0]
    assert isinstance(model, NetworkSpec)  # noqa: S101  (a cell with training holds a network)
    stacked = None if len(tree.cells) == 1 else Stacked(inputs=False, labels=False)  # of data, which is not needed
    shape = make_shape(model, task_shape(load_source(cells[0].data)))
    program = get_program(shape, training, cells[0].data.augmentation, execution, stacked)
    seeds = np.zeros(() if stacked is None else len(tree.cells), np.uint32)
    with contextlib.closing(Keeper(checkpoints / tree.name, tree.name, Keeping(), lambda: False)) as keeper:
        kept = keeper.restore(program.abstract_state(seeds))
    if kept is None:
        raise InputError(f"{checkpoints / tree.name} holds no checkpoint of this job; train it with checkpoints kept")
    return kept.place.state


def alone(execution: Execution) -> Execution:
    """Returns the execution of one cell by itself."""
    mesh = execution.mesh.model_copy(update={"population": 1})
    return execution.model_copy(update={"population": 1, "mesh": mesh})


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
    check_learner(shape, cell.training)
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


def _network_record(
    cell: Cell, shape: Shape, source: Source, data: SubsetManifest, measured: Measured, execution: Execution
) -> Record:
    training = cell.training
    assert training is not None  # noqa: S101  (networks have it)
    last, pretraining_flops = measured.evaluations[-1], _pretraining_flops(shape, training)
    params, step_examples = count_params(shape), training.batch_size * source.example_tokens
    flops = {term: count * last.data_seen for term, count in count_flops(shape, EVERY_TERM).train.items()}
    spent = measured.spent_steps * step_examples * sum(count_flops(shape).train.values())
    is_first = measured.spent_steps == last.step  # a later leaf does not pay for what came before its fork
    return Record(
        **_common(cell, source, data, shape.task, last),
        status="diverged" if measured.status == "diverged" else "ok",
        trunk=measured.trunk,
        num_params=sum(params.values()),
        params=params,
        flops=flops | ({"pretraining": pretraining_flops} if pretraining_flops else {}),
        train_flops_spent=spent + (pretraining_flops if is_first else 0.0),
        evaluations=measured.evaluations,
        peak_lr=training.optimizer.peak_lr,
        batch_size=training.batch_size,
        wall_seconds=measured.wall_seconds,
        train_seconds=measured.train_seconds,
        waiting_seconds=measured.waiting_seconds,
        device_kind=jax.devices()[0].device_kind,
        num_devices=execution.mesh.num_devices,
        mfu=measured.mfu,
        steps_to_target=measured.steps_to_target,
        loss_spikes=measured.loss_spikes,
        execution=execution.model_dump(mode="json", exclude_defaults=True),
        num_resumes=measured.num_resumes,
        warnings=measured.notices,
    )


def _common(cell: Cell, source: Source, data: SubsetManifest, task: TaskShape, last: Evaluation) -> dict[str, Any]:
    """Returns the fields that records of networks and of estimators have in common."""
    data_unique = count_unique(data.size, data.duplication) * source.example_tokens
    return {
        "cell": cell.fingerprint(),
        "family": cell.model.kind,
        "seed": cell.seed,
        "data_unit": "tokens" if task.predicts_tokens else "examples",
        "data_unique": data_unique,
        "epochs": last.data_seen / data_unique,
        "flops_version": FLOPS_VERSION,
        "data": data,
        "environment": _environment(),
    }


def _train_estimator(cell: Cell, study_sizes: Collection[int], tracker: Tracker) -> Record:
    from sklearn.exceptions import ConvergenceWarning

    began, subset = time.monotonic(), draw_cell(cell)
    source, task = subset.source, task_shape(subset.source)
    classical.check_task(cell.model, task)
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
        loss = float(np.square(undo_labels(predicted, standard) - source.eval_labels).mean())
        metrics = task_metrics(source, loss, 0.0, source.evaluation_size)
    else:
        probabilities = classical.class_probabilities(cell.model, estimator, eval_inputs)
        loss = log_loss(probabilities, estimator.classes_, source)
        metrics = task_metrics(source, loss, float((predicted == source.eval_labels).sum()), source.evaluation_size)
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
        **_common(cell, source, _manifest(cell, subset, study_sizes), task, evaluation),
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


def _manifest(cell: Cell, subset: Subset, study_sizes: Collection[int]) -> SubsetManifest:
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
    return {
        "python": platform.python_version(),
        "platform": platform.machine(),
        "threads": str(visible_cores()),
        **{package: importlib.metadata.version(package) for package in packages},
    }
