"""The toy study as an undisturbed run of this machine leaves it, which every engine must equal."""

import pytest

from scaling.store.store import Store
from tests.launch.engines.contract import SETTINGS, rows_of


@pytest.fixture(scope="session")
def reference(command_in, toy_study, tmp_path_factory) -> list[dict]:
    """The rows of the contract's study."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "toy.py").write_text(toy_study)
    settings = [word for assignment in SETTINGS for word in ("--set", assignment)]
    words = ("run", "toy.py", "--store", "store", "--workers", 1, "--execution", "population=1", *settings)
    done = command_in(folder)(*words)
    assert done.returncode == 0, done.stderr
    return rows_of(Store.open(folder / "store"))


@pytest.fixture
def buckets():
    """A stand-in for Cloud Storage, as which gs:// is known while it runs."""
    from tests.launch.engines.gcs_server import GcsServer  # skips where gcsfs is missing

    with GcsServer() as server:
        yield server


@pytest.fixture
def store(buckets) -> Store:
    """A store of a study without cells in a bucket."""
    found = Store("gs://bucket/store")
    found.create('{"fit":{},"metric":"error","name":"My study","question":"?","series":[]}')
    return found
