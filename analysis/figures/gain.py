"""The figure of what a candidate saves: how many times as much the baseline needs for the same loss."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from analysis.figures.style import HUES, STYLE, WIDTH, tidy_log_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.decisions.gain import Gain

HIGHEST = 30.0  # times the median gain, above which an upper end is cut off


def plot_gain(gain: Gain) -> Figure:
    """Returns the gain against what the candidate spends, with its 95 % band, in the words of what the curves are of.

    Dashes where one of the two was not observed; the point is the offset at the reference budget.
    """
    from analysis.figures.shown import ShownFigure

    frame, axis = gain.table, gain.axis
    spent = frame[axis.column]
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color="#888888", lw=0.9, zorder=1)
        axes.fill_between(spent, frame["low"], frame["high"], color=HUES[0], alpha=0.18, lw=0, zorder=1)
        axes.plot(spent, frame["gain"], color=HUES[0], lw=1.2, ls=(0, (4, 3)), zorder=2)
        inside = frame[frame["observed"]]
        axes.plot(inside[axis.column], inside["gain"], color=HUES[0], lw=2, zorder=2)
        axes.plot(gain.reference, gain.offset.estimate, "o", color=HUES[1], ms=7, mec="white", zorder=3)
        axes.set(xscale="log", yscale="log", xlabel=f"{axis.name} of {gain.candidate}")
        axes.set_ylabel(f"{axis.noun} that {gain.base} needs\nfor the same result, as a multiple")
        shown = frame[["low", "high", "gain"]].to_numpy()
        shown = shown[np.isfinite(shown) & (shown > 0)]
        highest = HIGHEST * float(frame["gain"].median())
        axes.set_ylim(min(shown.min(initial=1.0), 1) / 1.1, min(max(shown.max(initial=1.0), 1), highest) * 1.1)
        tidy_log_axis(axes.xaxis, *axes.get_xlim())
        tidy_log_axis(axes.yaxis, *axes.get_ylim())
        notes = [*str(gain).split("; "), ", ".join(notice.code for notice in gain.notices)]
        lines = [line for note in notes for line in textwrap.wrap(note, WIDTH)]
        axes.set_title("\n".join(lines), loc="left", fontsize=9.5)
    return figure
