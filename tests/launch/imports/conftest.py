"""`scaling import` inside the test's process, and folders of raw runs."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.imports.histories import build_history
from launch.imports.raw import Origin, RawFolder, make_run
from tests.launch.import_calls import Call, call_import


@pytest.fixture
def import_runs(capsys: pytest.CaptureFixture[str]) -> Callable[..., Call]:
    """What `scaling import WORDS…` does."""
    return functools.partial(call_import, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> RawFolder:
    """An empty folder of raw runs."""
    made = RawFolder(tmp_path / "store")
    made.claim(Origin(kind="test", address="here", study="ladder"))
    return made


@pytest.fixture
def add_run(folder: RawFolder) -> Callable[..., None]:
    """Returns what adds a run with its history's rows to the folder."""

    def add(name: str, rows: list[dict[str, Any]] | None = None, state: str | None = "finished", **parts: Any) -> None:
        run = make_run(name, "1", state, **parts)
        folder.save(run, build_history(rows) if rows else None)

    return add
