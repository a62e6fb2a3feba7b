"""Who follows a run while it goes: evaluations and training losses, to a cell's `curve.jsonl` or elsewhere."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from scaling.files import append_line, write_atomically
from scaling.record import Evaluation
from scaling.spec import canonical_json


class Tracker:
    """Is told what becomes of cells, by fingerprint; does nothing itself."""

    def begin(self, cell: str, step: int) -> None:
        """A cell starts, at step 0, or goes on from a checkpoint: what was told of later steps did not happen."""

    def evaluated(self, cell: str, evaluation: Evaluation) -> None:
        """A cell was evaluated."""

    def trained(self, cell: str, points: Sequence[Mapping[str, Any]]) -> None:
        """A cell did some steps; each point has its `step`, and metrics of the steps before it."""

    def note(self, cell: str, words: str) -> None:
        """Something happened that a person should know."""


class CurveFile(Tracker):
    """Appends one JSON line an event to each cell's `curve.jsonl`.

    Args:
      folder_of: from a cell's fingerprint to its folder.
    """

    def __init__(self, folder_of: Callable[[str], epath.Path]) -> None:
        self._folder_of = folder_of

    def begin(self, cell: str, step: int) -> None:
        """Starts the file, or keeps the lines up to a step."""
        path = self._path(cell)
        lines = path.read_text().splitlines() if step and path.exists() else []
        kept = [line for line in lines if 0 < _step_of(line) <= step]
        write_atomically(path, "".join(line + "\n" for line in kept))

    def evaluated(self, cell: str, evaluation: Evaluation) -> None:
        """Appends an evaluation."""
        append_line(self._path(cell), evaluation.canonical_json())

    def trained(self, cell: str, points: Sequence[Mapping[str, Any]]) -> None:
        """Appends the points."""
        append_line(self._path(cell), "\n".join(canonical_json(dict(point)) for point in points))

    def _path(self, cell: str) -> epath.Path:
        return self._folder_of(cell) / "curve.jsonl"


def _step_of(line: str) -> int:
    """Returns the step that a line tells of; 0 for a line that a killed writer left torn."""
    try:
        return int(json.loads(line)["step"] or 0)
    except (ValueError, KeyError, TypeError):
        return 0
