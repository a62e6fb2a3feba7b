"""The face of the package: a notebook finds every name there, and none costs anything before it is used."""

import importlib
import json
import pkgutil
import subprocess

import pytest

import analysis


@pytest.mark.parametrize("name", sorted(analysis.FACE))
def test_every_name_of_the_face_is_the_one_of_its_module(name):
    module = importlib.import_module(f"analysis.{analysis.FACE[name]}")
    assert getattr(analysis, name) is getattr(module, name)
    assert name in dir(analysis)


def test_other_names_are_unknown_and_modules_stay_modules():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = analysis.fitt
    assert importlib.import_module("analysis.laws") is analysis.laws
    assert not set(analysis.FACE) & {module.name for module in pkgutil.iter_modules(analysis.__path__)}


def test_importing_the_package_loads_nothing_else(python):
    code = (
        "import sys; old = set(sys.modules); import analysis, json; print(json.dumps(sorted(set(sys.modules) - old)))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"numpy", "pandas", "scipy", "jax", "matplotlib", "pydantic", "scaling"}
