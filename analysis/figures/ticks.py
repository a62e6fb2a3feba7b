"""The small ticks of a logarithmic axis: those that are seen alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import LogLocator

EDGE = 1e-6  # beside the ends of a view, within which a tick is still drawn


class SeenMinors(LogLocator):
    """Small ticks of the decades in view.

    Matplotlib's own reach two decades further. Nobody sees those, but making ticks is most of what drawing an axis
    takes.
    """

    def __init__(self) -> None:
        super().__init__(subs=None)

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Returns where the ticks of a view are."""
        places = np.asarray(super().tick_values(vmin, vmax))
        low, high = sorted((vmin, vmax))
        return places[(places >= low * (1 - EDGE)) & (places <= high * (1 + EDGE))].tolist()
