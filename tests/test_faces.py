"""What `scaling` and `launch` offer by name: all that a study needs, seen by tools, and loaded when first used."""

import ast
import importlib
import inspect
import pkgutil

import pytest

import launch
import scaling
import scaling.specs
from scaling.specs.base import Spec
from tests.places import ROOT
from tests.test_arrows import loaded_modules


def public_specs():
    for found in pkgutil.walk_packages(scaling.specs.__path__, "scaling.specs."):
        module = importlib.import_module(found.name)
        for name, value in inspect.getmembers(module, inspect.isclass):
            own = value.__module__ == module.__name__ and issubclass(value, Spec)
            if own and not name.startswith("_"):
                yield name, value


def test_every_specification_is_in_the_face():
    specs = {name: spec for name, spec in public_specs() if spec.model_fields or spec is Spec}  # others are of parts
    assert len(specs) > 50
    assert {
        name for name, value in specs.items() if scaling.FACE.get(name) != value.__module__[len("scaling.") :]
    } == set()


@pytest.mark.parametrize("package", [scaling, launch])
def test_every_name_is_what_its_module_has_and_is_listed(package):
    for name, module in package.FACE.items():
        assert getattr(package, name) is getattr(importlib.import_module(f"{package.__name__}.{module}"), name)
    assert set(package.FACE) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("package", [scaling, launch])
def test_type_checkers_see_the_same_names(package):
    tree = ast.parse((ROOT / package.__name__ / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {name.name: line.module for line in block.body for name in line.names}
    assert seen == {name: f"{package.__name__}.{module}" for name, module in package.FACE.items()}


@pytest.mark.parametrize("package", ["scaling", "launch"])
def test_importing_it_loads_nothing_of_it(python, package):
    modules = loaded_modules(python, f"import {package}; dir({package})")
    assert {name for name in modules if name.startswith(f"{package}.")} == set()
    assert not {"jax", "numpy", "pydantic", "pandas"} & modules


def test_a_study_written_from_the_face_loads_no_jax(python):
    assert "jax" not in loaded_modules(python, "from scaling import Cell, MLPSpec, Study, ladder")
