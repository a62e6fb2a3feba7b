"""The ledger of runs that go on: a cell's `curve.jsonl`, one JSON line a point, and how to read it."""

import json

from etils import epath

from scaling.specs.base import Json

FILE = "curve.jsonl"


def read_curve(folder: epath.Path) -> list[Json]:
    """Returns the points of a cell's folder in order; none before it begins, and without a torn last line."""
    path = folder / FILE
    points = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            point = json.loads(line)
        except ValueError:
            continue
        if isinstance(point, dict) and "step" in point:
            points.append(point)
    return points
