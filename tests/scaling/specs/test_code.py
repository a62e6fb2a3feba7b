"""Tests of what users bring, by name."""

import copy
import sys

import pytest

from scaling.specs import code
from scaling.specs.base import InputError
from scaling.specs.code import FrozenSettings, load_file, name_code, resolve


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_that_was_given_is_found_by_its_name_and_may_import_what_is_beside_it(tmp_path):
    write(tmp_path, "helpers_beside.py", "def make():\n    return 'made beside'\n")
    path = write(tmp_path, "mine_here.py", "from helpers_beside import make\n\n\ndef study():\n    return make()\n")
    load_file(path)
    assert resolve("mine_here:study")() == "made beside"
    assert name_code(sys.modules["helpers_beside"].make) == "helpers_beside:make"
    assert resolve("helpers_beside:make") is sys.modules["helpers_beside"].make


def test_a_file_called_like_an_installed_module_hides_nothing(tmp_path):
    import random

    path = write(tmp_path, "random.py", "def make():\n    return 4\n")
    assert load_file(path) is not random
    assert sys.modules["random"] is random
    assert resolve("random:make")() == 4
    assert name_code(resolve("random:make")) == "random:make"


def test_modules_beside_another_study_are_not_taken_for_those_beside_this_one(tmp_path):
    for folder in ("one", "two"):
        write(tmp_path / folder, "beside_each.py", f"WHERE = '{folder}'\n")
        path = write(tmp_path / folder, "study_of_each.py", "from beside_each import WHERE\n")
        where = load_file(path).WHERE
        assert where == folder


def test_a_file_is_executed_again_only_if_it_has_changed(tmp_path):
    path = write(tmp_path, "changing.py", "thing = object()\n")
    first = load_file(path).thing
    assert load_file(path).thing is first
    write(tmp_path, "changing.py", "thing = 'another'\n")
    assert load_file(path).thing == "another"


def test_a_crash_while_a_file_is_executed_leaves_nothing_behind(tmp_path):
    path = write(tmp_path, "crashing.py", "raise RuntimeError('no')\n")
    with pytest.raises(RuntimeError, match="no"):
        load_file(path)
    assert "crashing" not in sys.modules


def test_code_of_nobody_is_refused_with_what_to_give():
    with pytest.raises(InputError, match=r"'nowhere:make' is code that this process was not given.*--study FILE"):
        resolve("nowhere:make")
    with pytest.raises(InputError, match=r"optax has no 'lyon'; did you mean 'lion'\?"):
        resolve("optax:lyon")
    with pytest.raises(InputError, match=r"No module named 'sklearn\.nothing'"):
        resolve("sklearn.nothing:Forest")


def test_an_installed_package_offers_modules_by_entry_points(monkeypatch):
    class Point:
        name, value = "pack", "json"

        @staticmethod
        def load():
            return __import__("json")

    monkeypatch.setattr(code.importlib.metadata, "entry_points", lambda group: [Point] if group == "scaling" else [])
    import json

    assert resolve("pack:dumps") is json.dumps
    assert name_code(json.dumps) == "pack:dumps"


def test_what_another_process_could_not_find_has_no_name():
    with pytest.raises(InputError, match="define it there"):
        name_code(lambda width: width)


def test_settings_are_a_value():
    settings = FrozenSettings({"depth": 2, "gated": True})
    assert hash(settings) == hash(FrozenSettings({"gated": True, "depth": 2}))
    assert copy.deepcopy(settings) == settings
    with pytest.raises(TypeError, match="frozen"):
        settings["depth"] = 3
