"""A store of the toy study, on disk and on something that behaves like Cloud Storage."""

import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from scaling.store.store import Store
from tests.scaling.store.toy_study import CELLS, STUDY


@pytest.fixture(params=["local", "object store"])
def store(request, tmp_path, monkeypatch):
    """An empty store of the toy study, on disk and on something that behaves like Cloud Storage."""
    path = tmp_path / "store"
    if request.param == "object store":
        bucket = MemoryFileSystem(skip_instance_cache=True)
        monkeypatch.setattr(bucket, "protocol", ("gs", "gcs"))
        monkeypatch.setattr(MemoryFileSystem, "store", {})
        monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
        monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: bucket)
        path = epath.Path("gs://bucket/store")
    made = Store(path)
    made.create(STUDY.canonical_json())
    for cell in CELLS:
        made.write_cell(cell.canonical_json())
    return made
