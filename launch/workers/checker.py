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
from scaling.specs.execution import Execution

ANYWHERE = Slot(frozenset(), {})
STDERR = 2


def check_cells(cells: Iterable[Cell], metric: str, execution: Execution | None = None) -> list[str]:
    """Checks that every cell can be trained and will have a metric, so that a sweep does not fail after an hour.

    Args:
      cells: to look at.
      metric: that their records must have.
      execution: of every job; None where each program's is chosen when it is trained.

    Returns:
      warnings, for people.

    Raises:
      InputError: names the first cell's field, value and remedy.
    """
    # JAX is loaded where cells are checked.
    from scaling.training.plan import check_classes, check_execution, check_metric, describe_cell, join_warnings

    warnings: list[str] = []
    for cell, *others in _group(cells):
        describe_cell(cell)
        check_metric(metric, cell)
        if execution is not None:
            check_execution(cell, execution)
        for one in (cell, *others):  # which examples are seen is the seed's
            try:
                warnings += filter(None, [check_classes(one)])
            except InputError as error:  # a plan refuses it; a sweep loses that cell alone
                warnings.append(f"{error}; that cell will fail, and the others are trained")
    return join_warnings(warnings)


def check_cells_by(
    server: ForkServer, cells: Iterable[Cell], metric: str, execution: Execution | None = None
) -> list[str]:
    """Does what `check_cells` does, while this process loads nothing; where it is cheap, devices are counted, too.

    Raises:
      InputError: as `check_cells`.
    """
    cells = tuple(cells)
    # While the server loads.
    alike = [(first.canonical_json(), [cell.seed for cell in (first, *rest)]) for first, *rest in _group(cells)]
    files = {name: str(path) for name, path in given_files().items()}
    how = None if execution is None else execution.canonical_json()
    question = json.dumps({"cells": alike, "metric": metric, "execution": how, "files": files})
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
        return check_cells(cells, metric, execution)
    said = json.loads(answer)
    if said["refused"] is not None:
        raise InputError(said["refused"])
    warnings: list[str] = said["warnings"]
    return warnings


def _group(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Returns the cells in groups of those that differ in nothing but the seed."""
    found: dict[Cell, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.model_copy(update={"seed": 0}), []).append(cell)
    return list(found.values())


def start(words: list[str]) -> None:
    """Answers one question on standard input."""
    del words
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with it
    asked = json.loads(sys.stdin.readline())
    refused, warnings = None, list[str]()
    try:
        for name, path in asked["files"].items():
            load_file(Path(path), name)
        cells = [
            cell.model_copy(update={"seed": seed})
            for cell, seeds in ((parse(Cell, text, "cell"), seeds) for text, seeds in asked["cells"])
            for seed in seeds
        ]
        execution = None if asked["execution"] is None else parse(Execution, asked["execution"], "execution")
        warnings = check_cells(cells, asked["metric"], execution)
        if execution is not None and execution.mesh.num_devices > 1:
            _check_devices(execution)
    except InputError as error:
        refused = str(error)
    except ModuleNotFoundError:  # which whoever asks finds, too, and says
        return
    answer.write(json.dumps({"refused": refused, "warnings": warnings}) + "\n")
    answer.flush()


def _check_devices(execution: Execution) -> None:
    """Checks that this process, which is forked as workers on CPUs are, has as many devices as jobs take."""
    import jax

    from scaling.devices.sharding import check_devices

    check_devices(execution.mesh, jax.devices())
