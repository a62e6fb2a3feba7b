"""What a store holds, for tests of commands."""

import itertools
from pathlib import Path

import numpy as np

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.study import Series, Study
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.store import Store
from tests.analysis.report.stores import make_record


def names(store: Store) -> list[str]:
    """Returns the fingerprints of a store's cells."""
    return sorted(path.parent.name for path in store.path.glob("cells/*/cell.json"))


def make_ideas(path: Path) -> Store:
    """Returns the store of a study whose networks differ in activation, depth and m, of 0.05 + A m^-0.5 each.

    A is 2 with ReLUs and 4 with sigmoids, so that these need four times the data, whatever the depth is.
    """
    generator, cells, records = np.random.default_rng(0), [], []
    for activation, scale in (("relu", 2.0), ("sigmoid", 4.0)):
        for depth, m, seed in itertools.product((1, 2), (100, 200, 400, 800, 1600), (0, 1)):
            model = MLPSpec(width=16, depth=depth, activation=activation)
            training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), num_steps=10)
            cells.append(Cell(model=model, data=DataSpec(source=DigitsSource(), size=m), training=training, seed=seed))
            error = (0.05 + scale * m**-0.5) * np.exp(generator.normal(0, 0.003))
            records.append(make_record(cells[-1], float(error)))
    study = Study(name="ideas", question="?", metric="error", series=(Series(label="mlp", cells=tuple(cells)),))
    store = Store(path)
    store.create(study.canonical_json())
    for record in records:
        store.publish(record)
    return store
