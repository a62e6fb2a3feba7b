"""Calls `scaling import` inside the test's process, and makes folders of raw runs."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.commands.import_runs import add_arguments, command
from launch.imports.histories import build_history
from launch.imports.raw import Origin, RawFolder, make_run
from scaling.specs.base import InputError


@dataclasses.dataclass
class Outcome:
    """What a call left: exit status, what it printed, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it printed."""
        return json.loads(self.out)


def parse_call(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scaling import")
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def import_runs(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Returns what `scaling import WORDS…` does; a wrong call is told in one line, as the command line does."""

    def call(*words: Any) -> Outcome:
        options = parse_call([*map(str, words)])
        try:
            status = command(options)
        except InputError as error:
            assert "\n" not in str(error)
            captured = capsys.readouterr()
            return Outcome(2, captured.out, f"{captured.err}scaling: {error}\n")
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


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
