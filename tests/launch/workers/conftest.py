"""A store with small cells for workers."""

import pytest

from scaling.store.store import Store
from tests.launch.workers.cells import cells


@pytest.fixture
def store(tmp_path) -> Store:
    """A store with three cells of one program."""
    store = Store(tmp_path / "store")
    store.create('{"fit":{},"metric":"error","name":"x","question":"","series":[]}')
    for cell in cells(3):
        store.write_cell(cell.canonical_json())
    return store
