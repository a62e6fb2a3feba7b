"""Calls `scaling import` inside the test's process, as the command line does."""

import argparse
import dataclasses
import json
from typing import Any

import pytest

from launch.commands.import_runs import add_arguments, command
from launch.exits import WRONG_CALL
from scaling.specs.base import InputError


@dataclasses.dataclass
class Call:
    """What a call left: exit status, what it printed, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it printed."""
        return json.loads(self.out)


def call_import(capsys: pytest.CaptureFixture[str], *words: Any) -> Call:
    """Returns what `scaling import WORDS…` does; a wrong call is told in one line, as the command line does."""
    parser = argparse.ArgumentParser(prog="scaling import")
    add_arguments(parser)
    try:
        status = command(parser.parse_args([*map(str, words)]))
    except InputError as error:
        assert "\n" not in str(error)
        captured = capsys.readouterr()
        return Call(WRONG_CALL, captured.out, f"{captured.err}scaling: {error}\n")
    captured = capsys.readouterr()
    return Call(status, captured.out, captured.err)
