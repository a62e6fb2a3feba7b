"""Training losses of a job while it runs: their sums, and means over stretches of the run for its curves."""

import numpy as np

from scaling.specs.base import Json

# Training losses are told as means over so many stretches of the longest run.
CURVE_POINTS = 100


class LossWindow:
    """The losses of a job's members up to where it stands; saves and restores itself, to the bit.

    Dims: P members, S steps of a chunk.

    Attributes:
      sums: [P], float64, of all training losses on the path.

    Args:
      num_members: P.
      num_steps: the number of steps of the longest run.
    """

    def __init__(self, num_members: int, num_steps: int) -> None:
        self._stretch = max(1, num_steps // CURVE_POINTS)
        self.sums = np.zeros(num_members)
        self._since: list[np.ndarray] = []  # losses [P] of the steps since the last point of the curve
        self._sums_at_fork, self._since_at_fork = self.sums, list(self._since)

    def add(self, step: int, losses: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Takes the losses of a chunk, and returns the points of the curve that it completes: (step, means [P]).

        Args:
          step: the last one of the chunk.
          losses: [S, P] of its steps.
        """
        # One after another, so that the sum does not depend on where chunks end.
        self.sums = np.add.accumulate(np.vstack([self.sums, losses]))[-1]
        points = []
        for number, row in enumerate(losses, step - len(losses) + 1):
            self._since.append(row)
            if number % self._stretch == 0:
                points.append((number, np.mean(self._since, axis=0)))
                self._since.clear()
        return points

    def mark_fork(self) -> None:
        """Remembers where the run stands, for the leaves that leave the trunk later."""
        self._sums_at_fork, self._since_at_fork = self.sums, list(self._since)

    def return_to_fork(self) -> None:
        """Goes back to where the trunk was left."""
        self.sums, self._since = self._sums_at_fork, list(self._since_at_fork)

    def state(self) -> Json:
        """Returns what a checkpoint keeps of it."""
        return {
            "sums": _to_text(self.sums),
            "at_fork": _to_text(self._sums_at_fork),
            "window": [*map(_to_text, self._since)],
            "window_at_fork": [*map(_to_text, self._since_at_fork)],
        }

    def restore(self, facts: Json) -> None:
        """Goes back to what a checkpoint has kept."""
        self.sums, self._sums_at_fork = _from_text(facts["sums"]), _from_text(facts["at_fork"])
        self._since, self._since_at_fork = ([*map(_from_text, facts[name])] for name in ("window", "window_at_fork"))


def _to_text(numbers: np.ndarray) -> list[str]:
    """Returns numbers, finite or not, as texts that keep every bit."""
    return [float(number).hex() for number in numbers]


def _from_text(texts: list[str]) -> np.ndarray:
    return np.array([float.fromhex(text) for text in texts])
