"""Who launches which code: the commit, and what differs from it."""

import getpass
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from scaling.specs.base import Spec


class Code(Spec):
    """A git checkout.

    Attributes:
      folder: its name.
      commit: that it is at.
      num_changed: tracked files that differ from it.
      untracked: Python files that git does not know.
    """

    folder: str
    commit: str
    num_changed: int = 0
    untracked: tuple[str, ...] = ()

    @property
    def is_committed(self) -> bool:
        """Whether the commit is all there is to know."""
        return not (self.num_changed or self.untracked)


class Checkout(NamedTuple):
    """A checkout, and what `git diff HEAD` gives there: nothing where everything is committed."""

    code: Code
    diff: str


def describe_code(paths: Iterable[Path]) -> tuple[Checkout, ...]:
    """Returns the checkouts that some paths are in; none for those that are in none, or where there is no git."""
    found: dict[str, Checkout] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        top = _git(folder, "rev-parse", "--show-toplevel").strip()
        commit = _git(folder, "rev-parse", "HEAD").strip()
        if top and commit and top not in found:
            untracked = _git(Path(top), "ls-files", "--others", "--exclude-standard", "--", "*.py").split("\n")
            diff = _git(Path(top), "diff", "HEAD", "--no-color", "--no-ext-diff", "--binary")
            num_changed = sum(line.startswith("diff --git ") for line in diff.splitlines())
            code = Code(
                folder=Path(top).name, commit=commit, num_changed=num_changed, untracked=tuple(filter(None, untracked))
            )
            found[top] = Checkout(code, diff)
    return tuple(found.values())


def code_warnings(checkouts: Iterable[Checkout]) -> list[str]:
    """Returns a line for every checkout whose commit does not say everything."""
    return [
        f"{one.folder} has changes that are not committed ({_count(one)}); the launch keeps the difference from "
        f"{one.commit[:12]}"
        for one, _ in checkouts
        if not one.is_committed
    ]


def _count(code: Code) -> str:
    untracked = f", {len(code.untracked)} Python files unknown to git" if code.untracked else ""
    return f"{code.num_changed} files differ{untracked}"


def _git(folder: Path, *words: str) -> str:
    """Returns what a git command prints; nothing where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def user_name() -> str:
    """Returns who asks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, in a container
        return "nobody"
