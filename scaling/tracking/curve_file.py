"""Keeps a cell's `curve.jsonl` while it trains: one JSON line a point, appended."""

import json
from collections.abc import Callable, Sequence

from etils import epath

from scaling.specs.base import canonical_json
from scaling.store.curves import FILE
from scaling.store.files import append_line, write_atomically
from scaling.tracking.tracker import Point, Tracker


class CurveFile(Tracker):
    """Appends one JSON line a point to each cell's `curve.jsonl`.

    Args:
      folder_of: from a cell's fingerprint to its folder.
    """

    def __init__(self, folder_of: Callable[[str], epath.Path]) -> None:
        self._folder_of = folder_of

    def begin(self, cell: str, step: int) -> None:
        """Starts the file, or keeps the lines up to a step."""
        path = self._folder_of(cell) / FILE
        lines = path.read_text().splitlines() if step and path.exists() else []
        kept = [line for line in lines if 0 < _step_of(line) <= step]
        write_atomically(path, "".join(line + "\n" for line in kept), is_lasting=bool(kept))

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """Appends the points."""
        append_line(self._folder_of(cell) / FILE, "\n".join(canonical_json(dict(point)) for point in points))


def _step_of(line: str) -> int:
    """Returns the step that a line tells of; 0 for a line that a killed writer left torn."""
    try:
        return int(json.loads(line)["step"] or 0)
    except (ValueError, KeyError, TypeError):
        return 0
