"""A gang takes a store's jobs one after another, all its devices at each, and leaves to others what they have."""

import pytest

import scaling.training.runner
from launch.coordination.leases import Leases
from launch.coordination.presence import Observer, Presence
from launch.options import Options
from launch.workers.gang import work_together
from launch.workers.notices import StopNotices
from launch.workers.trainer import Trainer
from scaling.specs.study import resolve_study
from scaling.store.outline import cell_labels
from scaling.store.store import Store


@pytest.fixture
def store(study_file, tmp_path) -> Store:
    """A store of one network and one linear model."""
    store = Store(tmp_path / "store")
    study = resolve_study(str(study_file), ("data.size=100", "num_seeds=1", "num_steps=20"))
    store.create(study.canonical_json())
    return store


def work(store: Store, **options) -> int:
    with StopNotices() as notices, Presence(store, "launch") as presence:
        trainer = Trainer(store, notices, presence, Options(**options), "launch")
        return work_together(store, trainer, None, is_first=True)


def test_every_cell_is_trained_on_all_devices(store):
    assert work(store) == 0
    records = store.records()
    assert len(records) == 2
    assert sorted(record.num_devices for record in records.values()) == [1, 2]  # an estimator has no use for more


def test_cells_that_others_have_are_left_to_them(store):
    with Presence(store) as other:
        leases = Leases(store, Observer(store))
        names = list(cell_labels(store.study))
        leases.claim(names[0], other.worker)
        assert work(store) == 0
        assert list(store.records()) == names[1:]


def test_a_cell_that_fails_is_tried_as_often_as_is_allowed(store, monkeypatch):
    tried = []

    def train(given, *arguments, **options):
        tried.extend(given)
        raise RuntimeError("no luck")

    monkeypatch.setattr(scaling.training.runner, "train_cells", train)
    assert work(store, retries=2) == 1
    assert sorted(map(tried.count, set(tried))) == [3, 3]
