"""The folder of raw runs: one source's, and whatever a run is called or suffers, it is named."""

import pytest

from launch.imports.raw import Origin, RawFolder
from scaling.specs.base import InputError
from scaling.store.record import CorruptStoreError
from tests.launch.imports.tables_of import curve


def test_a_folder_belongs_to_one_source_and_is_no_store(folder, tmp_path):
    folder.claim(Origin(kind="test", address="here", study="ladder"))
    with pytest.raises(InputError, match="holds runs of test here; choose another folder"):
        folder.claim(Origin(kind="test", address="there", study="ladder"))
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(InputError, match="is a study's store"):
        RawFolder(tmp_path).claim(Origin(kind="test", address="here", study="ladder"))


def test_a_damaged_run_is_named_with_what_to_do(folder, add_run):
    add_run("a", curve([1]))
    path = folder.folder_of("a") / "run.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(CorruptStoreError, match=r"corrupt run: .*run\.json.*delete that file, and the same command"):
        list(folder.runs())


def test_names_that_are_no_file_names_are_kept_apart(folder, add_run):
    names = ["a/b", "a_b", "..", "ü", "a" * 200, "run-x", ".hidden"]
    for name in names:
        add_run(name, summary={"loss": 1.0})
    assert sorted(run.id for run in folder.runs()) == sorted(names)
    assert {folder.version_of(name) for name in names} == {"1"}
    assert all(path.parent == folder.path / "runs" for path in (folder.path / "runs").iterdir())
