"""Networks of one job, from their cells to their records; and a job's state from its checkpoints."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from scaling.data.loading import draw_cell, load_source
from scaling.data.source import task_shape
from scaling.learning.step import TrainState
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.cell import NetworkCell
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.sharing import Tree, plant
from scaling.store.record import Record
from scaling.tracking import Tracker
from scaling.training.job import train_together
from scaling.training.population import NotTogether
from scaling.training.program import Stacked, get_program
from scaling.training.recorder import Recorder

if TYPE_CHECKING:  # Orbax is loaded where there are checkpoints
    from scaling.training.checkpoints.keeper import Keeper, Keeping


def train_networks(
    cells: Sequence[NetworkCell],
    study_sizes: Collection[int],
    execution: Execution,
    tracker: Tracker,
    publish: Callable[[Record], None],
    checkpoints: epath.Path | None,
    keeping: "Keeping | None",
    heard: Callable[[], bool],
    reader_workers: int,
) -> None:
    """Trains networks as one job, or, where their data has no room side by side, one after another.

    Args:
      cells: that share a program.
      study_sizes: subset sizes of the whole study.
      execution: how to run.
      tracker: is told what happens on the way.
      publish: receives each record as soon as it is complete.
      checkpoints: the folder for checkpoints; None keeps none.
      keeping: how they are kept.
      heard: whether a preemption notice has come.
      reader_workers: processes that read streamed data; 0 for threads of this one.

    Raises:
      InputError: the data is missing or does not allow a cell, or the execution does not fit it.
      Preempted: a notice has come, and the job is saved.
    """

    def train(tree: Tree, execution: Execution) -> None:
        subsets = [draw_cell(leaves[0]) for leaves in tree.cells]
        shape = make_shape(tree.cells[0][0].model, task_shape(subsets[0].source))
        recorder = Recorder(tree, subsets, shape, study_sizes, execution)
        with open_keeper(checkpoints, tree, keeping, heard) as keeper:
            train_together(
                tree,
                shape,
                subsets,
                execution,
                tracker=tracker,
                on_measured=lambda cell, measured: publish(recorder.record(cell, measured)),
                keeper=keeper,
                num_workers=reader_workers,
            )

    tree = plant(cells)
    try:
        train(tree, execution)
    except NotTogether:
        for leaves in tree.cells:
            train(plant(leaves), execution.alone())


@contextlib.contextmanager
def open_keeper(
    checkpoints: epath.Path | None, tree: Tree, keeping: "Keeping | None", heard: Callable[[], bool]
) -> "Iterator[Keeper | None]":
    """Yields the keeper of a job's checkpoints, which are removed once the job is done, unless they are to stay.

    Args:
      checkpoints: the folder for those of all jobs; None keeps none.
      tree: the job's cells.
      keeping: how they are kept; None for as usual.
      heard: whether a preemption notice has come.
    """
    if checkpoints is None:
        yield None
        return
    from scaling.training.checkpoints.keeper import Keeper, Keeping

    with contextlib.closing(Keeper(checkpoints / tree.name, tree.name, keeping or Keeping(), heard)) as keeper:
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
    from scaling.training.checkpoints.keeper import Keeper, Keeping

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
