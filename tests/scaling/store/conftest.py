"""A store of the toy study, on disk and on something that behaves like Cloud Storage."""

import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from scaling.store.store import Store
from tests.scaling.store.toy_study import CELLS, STUDY


@pytest.fixture
def memory(monkeypatch):
    """Something that behaves like an object store, as which gs:// is known."""
    bucket = MemoryFileSystem(skip_instance_cache=True)
    monkeypatch.setattr(bucket, "protocol", ("gs", "gcs"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: bucket)
    return epath.Path("gs://bucket/store")


@pytest.fixture
def buckets():
    """A stand-in for Cloud Storage, as which gs:// is known while it runs."""
    from tests.launch.engines.gcs_server import GcsServer  # skips where gcsfs is missing

    with GcsServer() as server:
        yield server


@pytest.fixture(params=["local", "object store"])
def store(request, tmp_path):
    """An empty store of the toy study, on disk and on something that behaves like Cloud Storage."""
    path = tmp_path / "store" if request.param == "local" else request.getfixturevalue("memory")
    made = Store(path)
    made.create(STUDY.canonical_json())
    for cell in CELLS:
        made.write_cell(cell.canonical_json())
    return made
