"""A study with code of its own, from its file to its fits, as a stranger types it."""

import json
import re

from scaling.specs.code import load_file
from scaling.store.store import Store

STUDY = '''"""Does a network of one's own learn?"""

from own_parts import Net

from analysis import Law
from scaling.models.families.module import from_module
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.fits import FitSpec
from scaling.specs.study import Series, Study
from scaling.specs.training import AdamSpec, TrainingSpec

square_root = Law(
    name="square_root", formula="y = E + A x^-1/2", source="this file", variables=("data_unique",),
    linear=("E", "A"), nonlinear={}, terms=lambda x: (1.0, x**-0.5),
)


def make(width, task, rngs):
    return Net(width, task, rngs)


def study() -> Study:
    def cell(size: int) -> Cell:
        training = TrainingSpec(optimizer=AdamSpec(peak_lr=3e-3), num_steps=40, batch_size=32, num_evaluations=1)
        data = DataSpec(source=DigitsSource(), size=size, evaluation_size=300)
        return Cell(model=from_module(make, num_params=3_000), data=data, training=training)

    series = Series(label="own", cells=tuple(map(cell, (50, 100, 200, 400))))
    fit = FitSpec(law="own_study:square_root")
    return Study(name="own", question=__doc__, metric="loss", fit=fit, series=(series,))
'''

PARTS = """from flax import nnx


class Net(nnx.Module):
    def __init__(self, width, task, rngs):
        self.first = nnx.Linear(task.num_features, width, rngs=rngs)
        self.last = nnx.Linear(width, task.num_classes, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x.reshape(len(x), -1))))
"""

DECOYS = (
    "launch", "scaling", "analysis", "configs", "jax", "numpy", "random", "json", "pandas", "flax", "pydantic",
    "sklearn", "scipy",
)  # fmt: skip


def test_a_study_with_code_of_its_own_is_trained_and_fitted_among_decoys(scaling, here, tmp_path):
    (tmp_path / "own_study.py").write_text(STUDY)
    (tmp_path / "own_parts.py").write_text(PARTS)
    for name in DECOYS:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the working directory was imported')\n")
    planned = scaling("plan", "own_study.py", "--json")
    assert planned.returncode == 0, planned.stderr
    assert abs(json.loads(planned.stdout)["cells"][0]["num_params"] / 3_000 - 1) < 0.03
    done = scaling("run", "own_study.py", "--store", "store", "--workers", "1")
    assert done.returncode == 0, done.stderr
    records = Store.open(tmp_path / "store").records().values()
    assert len(records) == 4
    (kept,) = (tmp_path / "store" / "code").iterdir()
    hashes = json.loads((kept / "code.json").read_text())
    assert set(hashes) == {"own_study.py", "own_parts.py"}
    assert all(record.code == hashes for record in records)

    # Nothing of a store is run: its table and its state can be read, its fits with other laws, its own with its file.
    for words in (("table", "store"), ("status", "store"), ("fit", "store", "--law", "power", "--bootstrap", "0")):
        assert here(*words).returncode == 0
    refused = scaling("fit", "store")
    assert refused.returncode == 2
    assert re.search(r"'own_study:square_root' is code that this process was not given; .*--study FILE", refused.stderr)
    fitted = scaling("fit", "store", "--study", "own_study.py", "--bootstrap", "20", "--to", "fit.json")
    assert fitted.returncode == 0, fitted.stderr
    assert "y = E + A x^-1/2" in fitted.stdout
    predicted = scaling("predict", "fit.json", "--at", "data_unique=800", "--study", "own_study.py")
    assert predicted.returncode == 0, predicted.stderr


def test_a_cell_of_code_is_trained_by_hand_with_its_file(scaling, tmp_path):
    (tmp_path / "own_study.py").write_text(STUDY)
    (tmp_path / "own_parts.py").write_text(PARTS)
    study = load_file(tmp_path / "own_study.py").study()
    path = tmp_path / "cell.json"
    path.write_text(next(iter(study.cells.values())).canonical_json())
    lost = scaling("cell", path, "--store", "alone")
    assert lost.returncode == 1
    assert "'own_study:make' is code that this process was not given" in lost.stderr
    done = scaling("cell", path, "--store", "alone", "--study", "own_study.py")
    assert done.returncode == 0, done.stderr
