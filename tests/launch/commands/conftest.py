"""The command line in this process and a saved fit of a known law, for the commands that decide by fits."""

import pytest

from analysis.fit_table import fit
from analysis.laws.registry import get_law


@pytest.fixture
def scaling(here):
    """Runs in this process: starting Python anew costs more than a fit."""
    return here


@pytest.fixture(scope="session")
def document():
    """A fit of Chinchilla's law to a sample of its example, with resamples, as `scaling fit --to` saves it."""
    return fit(get_law("chinchilla").sample(levels=6, noise=0.003), "chinchilla", bootstrap=100).model_dump_json()


@pytest.fixture
def saved(scaling, document):
    """The file of that fit."""
    (scaling.folder / "fit.json").write_text(document)
    return "fit.json"
