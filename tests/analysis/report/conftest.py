"""A store with known laws, and what the report makes of it."""

from collections.abc import Iterator

import pytest

from analysis.report import trust
from analysis.report.make import Report, make_report
from analysis.report.subject import ReportOptions
from scaling.store.store import Store
from tests.analysis.report.stores import make_store


@pytest.fixture(scope="module", autouse=True)
def _coarse_profiles() -> Iterator[None]:
    """Profiles of few values: they take most of a report's time, and are looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "POINTS", 2)
        patch.setattr(trust, "PRECISION", 0.5)
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("report") / "store")


@pytest.fixture(scope="session")
def report(store) -> Report:
    return make_report(str(store.path), options=ReportOptions(resamples=200))
