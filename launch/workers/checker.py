"""A look at cells before any of them is trained, by a process that has loaded what that takes."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from launch.workers.forks import ForkServer, start_process
from launch.workers.slots import Slot
from scaling.specs.base import InputError, parse
from scaling.specs.cell import Cell
from scaling.specs.code import given_files, load_file

ANYWHERE = Slot(frozenset(), {})
STDERR = 2


def check_cells(cells: Iterable[Cell], metric: str) -> None:
    """Checks that every cell can be trained and will have a metric, so that a sweep does not fail after an hour.

    Raises:
      InputError: names the first cell's field, value and remedy.
    """
    from scaling.training.plan import check_metric, describe_cell  # JAX is loaded where cells are checked

    for cell in _distinct(cells):
        describe_cell(cell)
        check_metric(metric, cell)


def check_cells_by(server: ForkServer, cells: Iterable[Cell], metric: str) -> None:
    """Does what `check_cells` does, while this process loads nothing.

    Raises:
      InputError: as `check_cells`.
    """
    cells = tuple(cells)
    texts = [cell.canonical_json() for cell in _distinct(cells)]  # while the server loads
    files = {name: str(path) for name, path in given_files().items()}
    question = json.dumps({"cells": texts, "metric": metric, "files": files})
    process = start_process(__name__, (), ANYWHERE, STDERR, server)
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(question + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
    if not answer.endswith("\n"):  # it has raised something else, which this process then does, too
        check_cells(cells, metric)
    elif (refused := json.loads(answer)["refused"]) is not None:
        raise InputError(refused)


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Returns, of the cells that differ in nothing but the seed, the first."""
    found: dict[Cell, Cell] = {}
    for cell in cells:
        found.setdefault(cell.model_copy(update={"seed": 0}), cell)
    return list(found.values())


def start(words: list[str]) -> None:
    """Answers one question on standard input."""
    del words
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with it
    asked = json.loads(sys.stdin.readline())
    refused = None
    try:
        for name, path in asked["files"].items():
            load_file(Path(path), name)
        check_cells([parse(Cell, text, "cell") for text in asked["cells"]], asked["metric"])
    except InputError as error:
        refused = str(error)
    answer.write(json.dumps({"refused": refused}) + "\n")
    answer.flush()
