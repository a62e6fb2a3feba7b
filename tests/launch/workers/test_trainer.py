"""How jobs are trained into a store: checkpoints are kept where they are worth it, and gone on from."""

import pytest

import scaling.training.calibration
import scaling.training.runner
from launch.coordination.presence import Presence
from launch.options import Options
from launch.queue.begun import begun_jobs
from launch.workers.notices import StopNotices
from launch.workers.trainer import Trainer
from scaling.devices.processes import Preempted
from scaling.specs.execution import Execution
from scaling.store.store import Store
from tests.launch.workers.cells import cells, names


def make_trainer(store: Store, notices: StopNotices, **options) -> Trainer:
    return Trainer(store, notices, Presence(store), Options(**options))


def test_the_same_job_is_offered_again_only_while_it_has_checkpoints(store, monkeypatch):
    def train(given, *arguments, checkpoints, **options):
        assert begun_jobs(dict(zip(names(3), cells(3), strict=True)), store) == [
            (tuple(cells(3)), Execution(population=3))
        ]
        raise Preempted

    monkeypatch.setattr(scaling.training.runner, "train_cells", train)
    with StopNotices() as notices, pytest.raises(Preempted):
        make_trainer(store, notices, checkpoint_steps=1).train(cells(3), Execution(population=3), lambda *_: None)
    monkeypatch.undo()
    with StopNotices() as notices:
        make_trainer(store, notices, checkpoint_steps=1).train(cells(3), Execution(population=3), lambda *_: None)
    assert not list(store.path.glob("cells/*/checkpoints"))


def test_short_jobs_keep_no_checkpoints_unless_some_are_there(store, monkeypatch):
    kept = []

    def train(given, *arguments, checkpoints, **options):
        kept.append(checkpoints)

    monkeypatch.setattr(scaling.training.runner, "train_cells", train)
    folder = store.cell_path(names(1)[0]) / "checkpoints"
    with StopNotices() as notices:
        for seconds, is_there in ((600.0, False), (0.01, False), (600.0, True), (0.0, True)):
            if is_there:
                folder.mkdir()
            trainer = make_trainer(store, notices, checkpoint_seconds=seconds)
            trainer.train(cells(1), Execution(), lambda *_: None)
    assert kept == [None, folder, folder, None]
