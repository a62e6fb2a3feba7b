"""The cells and the study that a store holds, and which of them are missing."""

import pytest

from launch.queue.cells import missing_cells, read_cell, read_study
from scaling.specs.base import InputError
from scaling.specs.study import Series, Study
from scaling.store.attempts import end_attempt, start_attempt
from scaling.store.store import Store
from tests.launch.queue.cells import MLP, seeds


@pytest.fixture
def study() -> Study:
    """Three cells."""
    return Study(name="three", question="?", series=(Series(label="net", cells=tuple(seeds(MLP, 3))),))


@pytest.fixture
def store(study, tmp_path) -> Store:
    """A store of that study."""
    store = Store(tmp_path)
    store.create(study.canonical_json())
    return store


def test_a_study_and_its_cells_are_read_as_they_were_written(store, study):
    assert read_study(store) == study
    store.write_cell(MLP.canonical_json())
    assert read_cell(store, MLP.fingerprint()) == MLP


def test_what_has_no_record_is_missing_whatever_else_became_of_it(store, study, make_record):
    complete, failed, untouched = study.cells
    store.publish(make_record(complete))
    folder = store.cell_path(failed)
    end_attempt(folder, start_attempt(folder), "failed")
    assert list(missing_cells(study, store)) == [failed, untouched]


def test_a_damaged_cell_is_named(store):
    store.write_cell(MLP.canonical_json())
    path = store.cell_path(MLP.fingerprint()) / "cell.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"cell\.json: is not JSON"):
        read_cell(store, MLP.fingerprint())
