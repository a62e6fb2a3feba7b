"""Cells to records: estimators one by one, networks as one job; and a job's state from its checkpoints."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from scaling.data.loading import draw_cell, load_source
from scaling.data.source import task_shape
from scaling.learning.step import TrainState
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.cell import Cell, NetworkCell, is_estimator, is_network
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.sharing import Tree, plant
from scaling.store.record import Record
from scaling.tracking import Ended, Tracker
from scaling.training.checkpoints.keeper import Keeper, Keeping
from scaling.training.estimators import train_estimator
from scaling.training.job import train_together
from scaling.training.population import NotTogether
from scaling.training.program import Stacked, get_program
from scaling.training.records import Recorder


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
    follower, records = Ended(tracker or Tracker()), list[Record]()

    def publish(record: Record) -> None:
        records.append(record)
        on_record(record)
        follower.end(record.cell, record)

    def train_job(tree: Tree, execution: Execution) -> None:
        subsets = [draw_cell(leaves[0]) for leaves in tree.cells]
        shape = make_shape(tree.cells[0][0].model, task_shape(subsets[0].source))
        recorder = Recorder(tree, subsets, shape, study_sizes, execution)
        with open_keeper(checkpoints, tree, keeping or Keeping(), heard) as keeper:
            train_together(
                tree,
                shape,
                subsets,
                execution,
                tracker=follower,
                on_measured=lambda cell, measured: publish(recorder.record(cell, measured)),
                keeper=keeper,
                num_workers=reader_workers,
            )

    with follower:
        for cell in filter(is_estimator, cells):
            publish(train_estimator(cell, study_sizes, follower))
        networks = [cell for cell in cells if is_network(cell)]
        if networks:
            tree = plant(networks)
            try:
                train_job(tree, execution)
            except NotTogether:
                for leaves in tree.cells:
                    train_job(plant(leaves), alone(execution))
    return records


@contextlib.contextmanager
def open_keeper(
    checkpoints: epath.Path | None, tree: Tree, keeping: Keeping, heard: Callable[[], bool]
) -> Iterator[Keeper | None]:
    """Yields the keeper of a job's checkpoints, which are removed once the job is done, unless they are to stay.

    Args:
      checkpoints: the folder for those of all jobs; None keeps none.
      tree: the job's cells.
      keeping: how they are kept.
      heard: whether a preemption notice has come.
    """
    if checkpoints is None:
        yield None
        return
    with contextlib.closing(Keeper(checkpoints / tree.name, tree.name, keeping, heard)) as keeper:
        yield keeper
    keeper.finish()


def load_state(cells: Sequence[NetworkCell], checkpoints: epath.Path, execution: Execution = DEFAULT) -> TrainState:
    """Returns the training state that the newest sound checkpoint of a job holds, with the network's variables.

    Args:
      cells: the cells of the job.
      checkpoints: the folder that `train_cells` was given.
      execution: how it was run; another mesh puts the arrays on other devices.

    Raises:
      InputError: there is no checkpoint, or it is of another job or version.
      CorruptCheckpointError: there are checkpoints, and none is sound.
    """
    tree = plant(cells)
    cell, stacked = tree.cells[0][0], None
    if len(tree.cells) > 1:
        stacked = Stacked(inputs=False, labels=False)  # of data, which is not needed
    shape = make_shape(cell.model, task_shape(load_source(cell.data)))
    program = get_program(shape, cell.training, cell.data.augmentation, execution, stacked)
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
