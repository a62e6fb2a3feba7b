"""Imports run one way, and light commands stay light."""

import json
import subprocess

import pytest

TRAINING = ("flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "wandb", "ray", "torch")
HEAVY = ("jax", "flax", "optax", "orbax", "sklearn", "tensorflow_datasets", "wandb", "matplotlib", "scipy")


def modules_after(python: str, *steps: str) -> list[set[str]]:
    """Returns what one new interpreter has loaded after each of several pieces of code: also what came before it."""
    script = f"""
import json, sys
for step in {steps!r}:
    exec(step, {{}})
    print(json.dumps(list(sys.modules)))
"""
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def loaded_modules(python: str, code: str) -> set[str]:
    (modules,) = modules_after(python, code)
    return modules


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


ALL_OF = """
import importlib, pkgutil, {0}
for module in pkgutil.walk_packages({0}.__path__, '{0}.'):
    importlib.import_module(module.name)
"""


# An interpreter takes longer to start than most of these claims to check: those which forbid the same go into one, in
# which a piece of code that loads too much is blamed together with those after it.


@pytest.fixture(scope="module")
def houses(python) -> list[set[str]]:
    """What is loaded with all of `scaling`, and then with all of `configs`."""
    return modules_after(python, ALL_OF.format("scaling"), ALL_OF.format("configs"))


def test_scaling_imports_nothing_above_it(houses):
    assert not packages(houses[0]) & {"launch", "analysis", "configs"}


def test_configs_import_scaling_only(houses):
    assert not packages(houses[1]) & {"launch", "analysis"}


LIGHT = [
    "analysis",
    "analysis.tables.table",
    "analysis.laws.registry",
    "analysis.fitting.fit_law",
    "analysis.figures.fits",
]


@pytest.fixture(scope="module")
def analyses(python) -> dict[str, set[str]]:
    """What is loaded with each light module of the analysis, and in the end with all of it."""
    modules = modules_after(python, *(f"import {module}" for module in LIGHT), ALL_OF.format("analysis"))
    return dict(zip([*LIGHT, "all"], modules, strict=True))


def test_analysis_imports_only_specs_and_store_of_scaling_and_no_training_library(analyses):
    rooms = {".".join(name.split(".")[:2]) for name in analyses["all"] if name.startswith("scaling.")}
    assert rooms <= {"scaling.specs", "scaling.store"}
    assert not packages(analyses["all"]) & {"launch", "configs", *TRAINING}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_of_the_analysis_do_without_jax(analyses, module):
    assert module in analyses[module]
    assert not packages(analyses[module]) & {"jax", "sklearn", *TRAINING}


COMMAND = """
import contextlib, io
from launch.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
    assert main({words!r}) == 0
assert {said!r} in out.getvalue()
"""


@pytest.fixture(scope="module")
def commands(python, tmp_path_factory) -> dict[str, set[str]]:
    """What is loaded with the command line after each of several commands."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "study.json").write_text('{"fit":{},"metric":"error","name":"x","question":"","series":[]}')
    sizes = (100, 300, 1000, 3000, 10_000)
    lines = [
        f"{m},{seed},{(0.1 + 3 * m**-0.5) * (1 + 0.001 * (-1) ** (seed + k))}"
        for k, m in enumerate(sizes)
        for seed in range(3)
    ]
    (folder / "data.csv").write_text("\n".join(["data_unique,seed,loss", *lines]) + "\n")
    asked = {
        "--help": (["--help"], "usage"),
        "status": (["status", str(folder)], ""),
        "plan --help": (["plan", "--help"], "usage"),
        "fit": (["fit", str(folder / "data.csv"), "--bootstrap", "20"], "alpha"),
    }
    code = [COMMAND.format(words=words, said=said) for words, said in asked.values()]
    return dict(zip(asked, modules_after(python, *code), strict=True))


@pytest.mark.parametrize("command", ["--help", "status", "plan --help"])
def test_light_commands_load_nothing_heavy(commands, command):
    assert not packages(commands[command]) & {*HEAVY, "pandas"}


def test_fitting_a_file_loads_no_training_library(commands):
    assert not packages(commands["fit"]) & {*TRAINING, "sklearn", "matplotlib"}
