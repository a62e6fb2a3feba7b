"""Figures that a notebook shows as pictures, whether or not pyplot was imported there."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures.style import DPI, STYLE


class ShownFigure(Figure):
    """A figure of matplotlib that is the last value of a notebook's cell as a picture."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Returns the figure as PNG, with the width and height that it is shown at, in pixels."""
        file = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(file, dpi=DPI, format="png")
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}
