"""Cells to records: estimators one by one, networks as one job."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from scaling.specs.cell import Cell, is_estimator, is_network
from scaling.specs.execution import DEFAULT, Execution
from scaling.store.record import Record
from scaling.tracking import Ended, Tracker

if TYPE_CHECKING:
    from scaling.training.checkpoints.keeper import Keeping


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
    keeping: "Keeping | None" = None,
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

    # Each kind loads what it needs where it is trained: an estimator no Flax, a network no SciPy.
    with follower:
        for cell in filter(is_estimator, cells):
            from scaling.training.estimators import train_estimator

            publish(train_estimator(cell, study_sizes, follower))
        if networks := [cell for cell in cells if is_network(cell)]:
            from scaling.training.networks import train_networks

            train_networks(
                networks, study_sizes, execution, follower, publish, checkpoints, keeping, heard, reader_workers
            )
    return records
