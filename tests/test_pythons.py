"""The Pythons of a machine are found wherever they are kept, and only those that can be used."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pythons

PROGRAM = Path(pythons.__file__)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without Pythons: a folder of its path, and a home."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable, _, _ in pythons.KEPT:
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def put(folder: Path, name: str, version: str, *, is_own: bool = True, lacks: tuple[str, ...] = ()) -> str:
    """Puts something that answers like a Python into a folder, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    said = {"version": pythons.parts(version), "is_own": is_own, "path": str(path), "lacks": lacks}
    path.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    path.chmod(0o755)
    return str(path)


def test_each_release_is_found_once_newest_first(machine):
    middle = put(machine / "bin", "python3", "3.11.9")
    old = put(machine / "bin", "python3.11", "3.11.10")
    put(machine / "home/.pyenv/versions/3.11.9/bin", "python3", "3.11.9")
    new = put(machine / "home/.local/share/uv/python/cpython-3.13.1/bin", "python3.13", "3.13.1")
    assert list(pythons.find().items()) == [("3.13.1", new), ("3.11.10", old), ("3.11.9", middle)]


def test_a_version_manager_may_keep_its_own_elsewhere(machine, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(machine / "else where"))
    path = put(machine / "else where/versions/3.12.4/bin", "python3.12", "3.12.4")
    assert pythons.find() == {"3.12.4": path}


def test_what_cannot_be_used_is_passed_over(machine, capsys):
    put(machine / "bin", "python3.12", "3.12.4", is_own=False)
    put(machine / "bin", "python3.13", "3.13.0", lacks=("venv", "ensurepip"))
    put(machine / "bin", "python3", "3.10.1")
    (machine / "bin" / "python3.14").write_text("#!/bin/sh\necho 'not chosen' >&2; exit 127\n")
    (machine / "bin" / "python3.14").chmod(0o755)
    (machine / "bin" / "python3.11").write_text("#!/nowhere\n")
    (machine / "bin" / "python3.11").chmod(0o755)
    assert pythons.find() == {}
    assert capsys.readouterr().err == f"{machine}/bin/python3.13 is Python 3.13.0 without venv and ensurepip\n"


def test_one_that_is_real_says_what_it_is(machine):
    (machine / "bin").mkdir()
    (machine / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
    assert list(pythons.find()) == [platform.python_version()]


@pytest.mark.parametrize(
    ("words", "own", "expected"),
    [
        ([], (3, 12), ["3.14.0", "3.13.1", "3.13.0", "3.12.4"]),
        (["newest"], (3, 12), ["python3.14"]),
        (["newest"], (3, 14), ["python3.13"]),
        (["3.13"], (3, 12), ["python3.13"]),
        (["3.13.0"], (3, 12), ["python3"]),
    ],
)
def test_what_is_asked_for_is_printed(machine, capsys, words, own, expected):
    for name, version in zip(
        ("python3.14", "python3.13", "python3", "python3.12"), ("3.14.0", "3.13.1", "3.13.0", "3.12.4"), strict=True
    ):
        put(machine / "bin", name, version)
    pythons.main(words, own)
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == expected


def test_without_another_version_nothing_is_the_newest(machine, capsys):
    put(machine / "bin", "python3.12", "3.12.4")
    pythons.main(["newest"], (3, 12))
    assert capsys.readouterr().out.strip() == ""


def test_one_that_is_not_here_is_refused_with_those_that_are(machine):
    put(machine / "bin", "python3.12", "3.12.4")
    for wanted in ("3.1", "3.13", "python"):
        done = subprocess.run(
            [sys.executable, PROGRAM, wanted], env=dict(os.environ), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr == f"Python {wanted} is not among those that were found here: 3.12.4\n"
