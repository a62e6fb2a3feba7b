"""What code a launch runs is known: the commit, and what differs from it."""

import subprocess

from launch.coordination.launches import begin_launch, read_launches
from launch.coordination.provenance import code_warnings, describe_code


def git(folder, *words):
    identity = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_a_difference_from_the_commit_is_told_and_kept(tmp_path, bare_store):
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init")
    (folder / "a.py").write_text("x = 1\n")
    git(folder, "add", "a.py")
    git(folder, "commit", "-m", "a")
    (clean,) = describe_code([folder / "a.py", folder])
    assert clean.code.is_committed
    assert len(clean.code.commit) == 40
    assert code_warnings([clean]) == []
    (folder / "a.py").write_text("x = 2\n")
    (folder / "b.py").write_text("")
    changed = describe_code([folder])
    (warning,) = code_warnings(changed)
    assert "code has changes that are not committed (1 files differ, 1 Python files unknown to git)" in warning
    launch = begin_launch(bare_store, "local", changed)
    assert next(read_launches(bare_store)).code == launch.code
    assert "+x = 2" in (bare_store.path / "launches" / launch.name / "code.diff").read_text()


def test_what_is_in_no_checkout_is_no_code(tmp_path):
    assert describe_code([tmp_path]) == ()
