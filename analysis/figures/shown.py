"""Figures that a notebook shows as pictures, whether or not pyplot was imported there."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.figures.style import DPI, STYLE


class ShownFigure(Figure):
    """A figure of matplotlib that is the last value of a notebook's cell as a picture."""

    def draw(self, renderer: RendererBase) -> None:
        """Draws the figure; where that is only to place its parts, before a file is written, places them."""
        engine = self.get_layout_engine()
        if self.canvas.is_saving() and isinstance(engine, ConstrainedLayoutEngine):  # whose own draw has none
            engine.execute(self)
        else:
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Returns the figure as PNG, with the width and height that it is shown at, in pixels."""
        file = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(file, dpi=DPI, format="png")
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}
