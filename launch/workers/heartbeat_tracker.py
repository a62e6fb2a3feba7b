"""A tracker that lets a worker's heartbeat say how far its cells are, and how fast."""

import functools
from collections.abc import Sequence

from launch.coordination.presence import Presence
from launch.queue.cells import read_cell
from scaling.store.store import Store
from scaling.tracking.tracker import Point, Tracker


class Following(Tracker):
    """Hands steps and rates to a heartbeat.

    Args:
      presence: whose heartbeat it is.
      store: with the cells.
    """

    def __init__(self, presence: Presence, store: Store) -> None:
        self._presence = presence

        @functools.lru_cache(maxsize=4096)
        def num_steps(cell: str) -> int:
            training = read_cell(store, cell).training
            return 0 if training is None else training.num_steps

        self._num_steps = num_steps

    def begin(self, cell: str, step: int) -> None:
        """Says where a cell begins."""
        self._presence.tell({cell: (step, self._num_steps(cell))}, None)

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """Says how far a cell is."""
        last = points[-1]
        if last.get("step") is not None:
            self._presence.tell({cell: (last["step"], self._num_steps(cell))}, last.get("steps_per_second"))
