"""Jobs that were begun and left are formed again, as they were, or not at all."""

from launch.queue.begun import begun_jobs, note_begun
from launch.queue.queue import Queue
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.specs.sharing import plant
from scaling.store.store import Store
from tests.launch.queue.cells import MLP, changed, seeds


def begin(store: Store, cells: list[Cell], execution: Execution) -> dict[str, Cell]:
    """Leaves a store as a job that was stopped leaves it; returns the cells by fingerprint."""
    for cell in cells:
        store.write_cell(cell.canonical_json())
    note_begun(store.cell_path(plant(cells).leader) / "checkpoints", cells, execution)
    return {cell.fingerprint(): cell for cell in cells}


def test_a_job_with_checkpoints_is_formed_again_and_handed_out_first(tmp_path):
    store, cells, execution = Store(tmp_path), seeds(MLP, 3), Execution(population=3)
    missing = begin(store, cells, execution)
    begun = begun_jobs(missing, store)
    assert begun == [(tuple(cells), execution)]
    longer = changed("training.num_steps=9000")
    assert Queue([longer], begun=begun).take(None).cells == tuple(cells)


def test_a_job_is_not_formed_again_when_a_member_is_complete(tmp_path):
    store, cells = Store(tmp_path), seeds(MLP, 3)
    missing = begin(store, cells, Execution(population=3))
    del missing[cells[1].fingerprint()]
    assert begun_jobs(missing, store) == []


def test_a_tree_is_formed_again_without_the_leaves_that_are_complete(tmp_path):
    leaves = [changed("training.schedule.kind=wsd", f"training.num_steps={steps}") for steps in (20, 40)]
    missing = begin(store := Store(tmp_path), leaves, Execution())
    del missing[leaves[0].fingerprint()]
    assert begun_jobs(missing, store) == [((leaves[1],), Execution())]


def test_a_torn_note_of_a_job_is_passed_over(tmp_path):
    missing = begin(store := Store(tmp_path), [MLP], Execution())
    (tmp_path / "cells" / MLP.fingerprint() / "checkpoints" / "job.json").write_text('{"cells": [')
    assert begun_jobs(missing, store) == []
