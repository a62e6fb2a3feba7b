"""A sweep's events in one file, as they come: `tail -f STORE/events.jsonl`, or read it with anything."""

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.specs.base import canonical_json
from scaling.store.record import Record
from scaling.store.store import Store
from scaling.tracking.tracker import Point, Tracker, is_evaluation

FILE = "events.jsonl"


class EventsFile(Tracker):
    """Appends one JSON line an event to the `events.jsonl` of a store on this machine, with the time and the cell.

    A line has `time`, `cell`, `event` and what belongs to it: `begin` its `step`; `evaluation` and `train` their point;
    `end` the `status` and, where the cell is complete, its `num_params`, `step`, `train_flops`, `loss` and metrics.
    Unlike `curve.jsonl` it is never rewritten: steps that are done again after a preemption are there again, after
    another `begin`. All workers of a sweep may write at once.
    """

    def __init__(self, store: Store) -> None:
        self._path = Path(os.fspath(store.path)) / FILE

    def begin(self, cell: str, step: int) -> None:
        """Appends a line."""
        self._write(cell, [{"event": "begin", "step": step}])

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """Appends a line for each point."""
        self._write(cell, [{"event": "evaluation" if is_evaluation(point) else "train", **point} for point in points])

    def end(self, cell: str, record: Record | None) -> None:
        """Appends a line."""
        event: dict[str, Any] = {"event": "end", "status": "interrupted" if record is None else record.status}
        if record is not None:
            event |= {"num_params": record.num_params, **record.evaluations[-1].model_dump(mode="json")}
        self._write(cell, [event])

    def _write(self, cell: str, events: Sequence[dict[str, Any]]) -> None:
        time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        text = "".join(canonical_json({"time": time, "cell": cell, **event}) + "\n" for event in events)
        # One call of the system, which appends all of it behind what others have written.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
