"""A store with known laws, and what the report finds in it."""

import pytest

from analysis.report.findings import find_all
from scaling.store.store import Store
from tests.analysis.report.stores import make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("report") / "store")


@pytest.fixture(scope="session")
def findings(store):
    return find_all(store, resamples=200)
