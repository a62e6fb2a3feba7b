"""Imports run one way, and light commands stay light."""

import subprocess

import pytest

TRAINING = ("flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "wandb", "ray", "torch")
HEAVY = ("jax", "flax", "optax", "orbax", "sklearn", "tensorflow_datasets", "wandb", "matplotlib", "scipy")


def loaded_modules(python: str, code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


ALL_OF = """
import importlib, pkgutil, {0}
for module in pkgutil.walk_packages({0}.__path__, '{0}.'):
    importlib.import_module(module.name)
"""


def test_scaling_imports_nothing_above_it(python):
    assert not packages(loaded_modules(python, ALL_OF.format("scaling"))) & {"launch", "analysis", "configs"}


def test_analysis_imports_only_specs_and_store_of_scaling_and_no_training_library(python):
    modules = loaded_modules(python, ALL_OF.format("analysis"))
    rooms = {".".join(name.split(".")[:2]) for name in modules if name.startswith("scaling.")}
    assert rooms <= {"scaling.specs", "scaling.store"}
    assert not packages(modules) & {"launch", "configs", *TRAINING}


@pytest.mark.parametrize(
    "module",
    [
        "analysis",
        "analysis.tables.table",
        "analysis.laws.registry",
        "analysis.fitting.fit_law",
        "analysis.figures.fits",
    ],
)
def test_light_modules_of_the_analysis_do_without_jax(python, module):
    assert not packages(loaded_modules(python, f"import {module}")) & {"jax", "sklearn", *TRAINING}


def test_configs_import_scaling_only(python):
    assert not packages(loaded_modules(python, ALL_OF.format("configs"))) & {"launch", "analysis"}


@pytest.mark.parametrize("arguments", [["--help"], ["status", "{store}"], ["plan", "--help"]])
def test_light_commands_load_nothing_heavy(python, arguments, tmp_path):
    (tmp_path / "study.json").write_text('{"fit":{},"metric":"error","name":"x","question":"","series":[]}')
    words = [word.format(store=tmp_path) for word in arguments]
    code = f"""
import contextlib, io
from launch.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    assert main({words!r}) == 0
"""
    assert not packages(loaded_modules(python, code)) & {*HEAVY, "pandas"}


def test_fitting_a_file_loads_no_training_library(python, tmp_path):
    sizes = (100, 300, 1000, 3000, 10_000)
    lines = [
        f"{m},{seed},{(0.1 + 3 * m**-0.5) * (1 + 0.001 * (-1) ** (seed + k))}"
        for k, m in enumerate(sizes)
        for seed in range(3)
    ]
    (tmp_path / "data.csv").write_text("\n".join(["data_unique,seed,loss", *lines]) + "\n")
    words = ["fit", str(tmp_path / "data.csv"), "--bootstrap", "20"]
    code = f"""
import contextlib, io
from launch.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main({words!r}) == 0
assert "alpha" in out.getvalue()
"""
    assert not packages(loaded_modules(python, code)) & {*TRAINING, "sklearn", "matplotlib"}
