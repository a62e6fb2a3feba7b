"""Users' code in a store: what is shipped, what is refused, and that nothing but the named content is ever run."""

import json
import subprocess
import sys

import pytest
from etils import epath

from scaling.specs.base import InputError
from scaling.specs.code import load_file
from scaling.store.code import code_versions, keep_code, pack, take_code, use_code


def write(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_file_is_packed_with_what_it_imports_beside_it_and_nothing_else(tmp_path):
    write(
        tmp_path,
        shipped_a="import json\nimport jax\nfrom shipped_b import f\n\n\ndef make():\n    import shipped_lab.nets\n",
        shipped_b="from shipped_c import g\nf = g\n",
        shipped_c="g = len\n",
        unused="raise RuntimeError\n",
        shipped_lab__nets="from . import parts\nfrom .parts import width\n",
        shipped_lab__parts="width = 3\n",
        shipped_lab__other="raise RuntimeError\n",
    )
    (tmp_path / "shipped_lab" / "__init__.py").write_text("")
    load_file(tmp_path / "shipped_a.py")
    bundle = pack(["shipped_a:make", "optax:adam"])
    assert set(bundle.hashes) == {
        "shipped_a.py", "shipped_b.py", "shipped_c.py",
        "shipped_lab/__init__.py", "shipped_lab/nets.py", "shipped_lab/parts.py",
    }  # fmt: skip
    assert code_versions(["shipped_a:make"]) == bundle.hashes
    before = bundle.sha256
    (tmp_path / "shipped_c.py").write_text("g = sum\n")
    assert pack(["shipped_a:make"]).sha256 != before


def test_what_cannot_be_shipped_is_refused_with_its_line(tmp_path, monkeypatch):
    from importlib.machinery import EXTENSION_SUFFIXES

    elsewhere = write(tmp_path / "elsewhere", not_installed="x = 1\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    study = write(
        tmp_path / "study", refused_one="import os\nimport not_installed\n", refused_two="import compiled_x\n"
    )
    (study / f"compiled_x{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    sys.modules.pop("not_installed", None)
    load_file(study / "refused_one.py")
    with pytest.raises(InputError, match=r"refused_one\.py, line 2: imports 'not_installed' from .*beside the study"):
        pack(["refused_one:x"])
    from scaling.specs.code import give_files

    give_files({"refused_two": study / "refused_two.py"})
    with pytest.raises(InputError, match="line 1: imports 'compiled_x', a compiled module beside it"):
        pack(["refused_two:x"])


def test_code_of_nobody_cannot_be_packed():
    with pytest.raises(InputError, match=r"code 'never_given': .*--study FILE"):
        pack(["never_given:make"])


RUN = """
import sys, json
from pathlib import Path
from etils import epath
from scaling.specs.code import resolve
from scaling.store.code import code_versions, take_code
take_code(epath.Path(sys.argv[1]), sys.argv[2])
print(json.dumps([resolve("main_one:value"), code_versions(["main_one:value"])]))
"""


def run_shipped(store, sha256, cwd):
    command = [sys.executable, "-c", RUN, str(store), sha256]  # without -P: the working directory is searched first
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_runs_what_was_shipped_whatever_lies_in_its_working_directory(tmp_path):
    study = write(tmp_path / "study", main_one="from helper_one import value\n", helper_one="value = 'shipped'\n")
    load_file(study / "main_one.py")
    bundle = pack(["main_one:value"])
    store = epath.Path(tmp_path / "store")
    sha256 = keep_code(store, bundle)
    write(study, main_one="from helper_one import value\n", helper_one="value = 'changed since'\n")
    value, versions = run_shipped(store, sha256, study)
    assert value == "shipped"
    assert versions == bundle.hashes


@pytest.mark.parametrize("harm", ["content", "added", "outside"])
def test_other_content_than_the_hash_says_is_never_run(tmp_path, harm):
    study = write(tmp_path / "study", **{f"harmed_{harm}": "value = 1\n"})
    load_file(study / f"harmed_{harm}.py")
    store = epath.Path(tmp_path / "store")
    sha256 = keep_code(store, pack([f"harmed_{harm}:value"]))
    folder = store / "code" / sha256
    manifest = json.loads((folder / "code.json").read_text())
    if harm == "content":
        (folder / f"harmed_{harm}.py").write_text("value = 2\n")
    else:
        path = "more.py" if harm == "added" else "../../evil.py"
        (folder / path).write_text("value = 2\n")
        (folder / "code.json").write_text(json.dumps(manifest | {path: manifest[f"harmed_{harm}.py"]}))
    target = tmp_path / "target"
    target.mkdir()
    if harm == "outside":  # passed over: only names of modules are read
        use_code(store, sha256, target)
        assert sorted(path.name for path in target.rglob("*")) == ["harmed_outside.py"]
    else:
        with pytest.raises(InputError, match="holds other code than its name says"):
            use_code(store, sha256, target)
        assert not list(target.iterdir())


def test_a_store_without_the_code_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read .*start the launch again"):
        take_code(epath.Path(tmp_path), "ab" * 32)
