"""A store of which nothing was trained."""

import pytest

from scaling.store.store import Store
from tests.told_runs import make_store


@pytest.fixture
def store(tmp_path) -> Store:
    """A store of which nothing was trained."""
    return make_store(tmp_path / "store")
