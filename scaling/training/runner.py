"""Cells to records: jobs of networks, one estimator at a time, and what a cell will cost before it runs."""

import contextlib
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from etils import epath

from scaling.data.loading import draw_cell, load_source
from scaling.data.source import task_shape
from scaling.learning.step import TrainState
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.models import NetworkSpec
from scaling.specs.sharing import plant
from scaling.store.record import Record, SubsetManifest
from scaling.tracking import Ended, Tracker
from scaling.training.checkpoints.keeper import Keeper, Keeping
from scaling.training.estimators import train_estimator
from scaling.training.job import train_together
from scaling.training.leaf import Measured
from scaling.training.population import NotTogether
from scaling.training.program import Stacked, get_program
from scaling.training.records import make_manifest, network_record


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
                records.append(train_estimator(cell, study_sizes, told))
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
        return make_manifest(tree.cells[member][0], subsets[member], study_sizes)  # its leaves have one subset

    def keep(cell: Cell, measured: Measured) -> None:
        member = next(number for number, leaves in enumerate(tree.cells) if cell in leaves)
        records.append(network_record(cell, shape, subsets[member].source, manifest(member), measured, execution))
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
