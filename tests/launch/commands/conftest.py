"""A saved fit of a known law, and a store where nothing is done yet, for the commands that read them."""

from pathlib import Path

import pytest

from analysis.fit_table import fit
from analysis.laws.registry import get_law
from scaling.store.store import Store


@pytest.fixture(scope="session")
def document():
    """A fit of Chinchilla's law to a sample of its example, with resamples, as `scaling fit --to` saves it."""
    return fit(get_law("chinchilla").sample(levels=6, noise=0.003), "chinchilla", bootstrap=100).model_dump_json()


@pytest.fixture
def saved(here, document):
    """The file of that fit."""
    (here.folder / "fit.json").write_text(document)
    return "fit.json"


@pytest.fixture
def store(trained, tmp_path) -> Store:
    """A store of the toy study, all of it to be done."""
    store = Store(tmp_path / "store")
    study = (Path(trained) / "study.json").read_text()
    store.create(study.strip())
    for path in Path(trained).glob("cells/*/cell.json"):
        store.write_cell(path.read_text())
    return store
