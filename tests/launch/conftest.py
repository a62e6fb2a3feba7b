"""A toy study that trains in seconds, and the command line to run it."""

import contextlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launch.cli import main
from scaling.store.cache import lock_folder
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.store.store import Store
from tests.places import ROOT

STUDY = """
from scaling.specs.cell import *
from scaling.specs.data import *
from scaling.specs.models import *
from scaling.specs.study import *
from scaling.specs.schedules import *
from scaling.specs.training import *

def study(num_seeds: int = 2, num_steps: int = 50) -> Study:
    def data(m):
        return DataSpec(source=DigitsSource(), size=m, evaluation_size=400)

    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=num_steps)
    linear = tuple(
        Cell(model=LogisticRegressionSpec(), data=data(m), seed=s) for m in (50, 100, 200) for s in range(num_seeds)
    )
    mlp = tuple(
        Cell(model=MLPSpec(num_params=3000), data=data(m), training=training, seed=s)
        for m in (50, 100, 200)
        for s in range(num_seeds)
    )
    return Study(name="toy", question="?", metric="error",
                 series=(Series(label="linear", cells=linear), Series(label="mlp", cells=mlp)))
"""


@pytest.fixture(scope="session")
def toy_study() -> str:
    """The text of the toy study."""
    return STUDY


@pytest.fixture
def study_file(tmp_path) -> Path:
    """The toy study as a file."""
    path = tmp_path / "toy.py"
    path.write_text(STUDY)
    return path


class Command:
    """Runs `scaling …` in a folder of its own."""

    def __init__(self, python: str, folder: Path) -> None:
        self.prefix, self.folder = [python, "-P", "-m", "launch.cli"], folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        command = [*self.prefix, *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=self.environment
        )

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Starts a command and does not wait."""
        return subprocess.Popen(
            [*self.prefix, *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder, env=self.environment,
        )  # fmt: skip

    def json(self, *words: object) -> dict:
        """Returns the document that a command prints with --json."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


class Here(Command):
    """Runs `scaling …` in this process, which has imported everything already."""

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(word) for word in words])
            except SystemExit as stop:  # how argparse refuses
                code = int(stop.code or 0)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture
def here(python, tmp_path) -> Here:
    """The command line without a process of its own, for commands that only read and fit."""
    return Here(python, tmp_path)


@pytest.fixture(scope="session")
def here_in(python):
    """Makes the same in a folder, for what several tests look at."""
    return lambda folder: Here(python, folder)


@pytest.fixture
def scaling(python, tmp_path) -> Command:
    """The command line."""
    return Command(python, tmp_path)


@pytest.fixture(scope="session")
def command_in(python):
    """Makes the command line in a folder."""
    return lambda folder: Command(python, folder)


@pytest.fixture(scope="session")
def trained(python, tmp_path_factory):
    """The toy study, run once for all tests that look at it, whichever process of the tests runs them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with lock_folder(folder):
        if not (folder / "is_done").exists():
            folder.mkdir(exist_ok=True)
            (folder / "toy.py").write_text(STUDY)
            done = Command(python, folder)("run", "toy.py", "--store", "store", "--workers", 2)
            assert done.returncode == 0, done.stderr
            assert "12 of 12 cells complete" in done.stdout
            (folder / "is_done").touch()
    return folder / "store"


@pytest.fixture
def finished(scaling, trained):
    """A complete store of the toy study that a test may spoil."""
    shutil.copytree(trained, scaling.folder / "store")
    return Store.open(scaling.folder / "store")


@pytest.fixture
def bare_store(tmp_path) -> Store:
    """A store of a study without cells."""
    store = Store(tmp_path / "bare")
    store.create('{"fit":{},"metric":"error","name":"bare","question":"","series":[]}')
    return store


@pytest.fixture
def make_record():
    """Makes a small record of a cell, by fingerprint."""

    def make(cell: str, **changes) -> Record:
        data = SubsetManifest(
            source="digits", source_sha256="0", order="independent", seed=0, size=10, digests={}, class_counts=(),
            evaluation_size=5, evaluation_sha256="1",
        )  # fmt: skip
        values = {
            "cell": cell, "family": "mlp", "seed": 0, "status": "ok", "num_params": 1, "params": {},
            "data_unit": "examples", "data_unique": 10, "epochs": 1.0, "flops": {}, "flops_version": 1,
            "train_flops_spent": None, "peak_lr": None, "batch_size": None, "wall_seconds": 1.0, "device_kind": "cpu",
            "num_devices": 1, "data": data, "environment": {},
            "evaluations": (Evaluation(step=1, data_seen=10, train_flops=None, loss=1.0, metrics={}),),
        }  # fmt: skip
        return Record(**{**values, **changes})

    return make
