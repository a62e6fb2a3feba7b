"""Figures of the compute-optimal frontier: the envelope of training curves, and what all approaches say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from analysis.errors import suggest_name
from analysis.figures.decisions import GREY, MARGIN, draw_trend, title_trend
from analysis.figures.style import HUES, MARKERS, NAMES, STYLE, make_shades, tidy_log_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.decisions.approaches import Approach, Approaches
    from analysis.decisions.envelope import Envelope
    from analysis.laws.law import Array

POINTS = 60  # of the frontier of a law
QUANTITIES = {"num_params": "best model size N*", "data_seen": "best training data D*"}
DODGE = 0.018  # by which the bars of approaches stand beside each other at the budget, as a share of the axis


def plot_envelope(envelope: Envelope, table: pd.DataFrame, *, by: str = "cell", target: str = "loss") -> Figure:
    """Returns the training curves over compute with their hull, and the hull's sizes against compute with their line.

    Corners of the smallest and of the largest size are hollow: nothing smaller or larger competed with them.

    Args:
      envelope: What `fit_envelope` made of the table.
      table: Every evaluation.
      by: Column that names the curve of a row.
      target: The target of the envelope.

    Raises:
      AnalysisError: on a missing column.
    """
    from matplotlib.colors import LogNorm

    from analysis.decisions.trends import is_exponent_identified
    from analysis.figures.shown import ShownFigure
    from analysis.tables.table import select_rows

    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    names = ["train_flops", "num_params", target]
    rows = select_rows(table, names, positive=names, only_final=False)[0].sort_values("train_flops")
    points, shades = envelope.points, make_shades()
    norm = LogNorm(rows["num_params"].min(), rows["num_params"].max() * 1.0001)
    inner, edge = points[~points["is_edge"]], points[points["is_edge"]]
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(10.4, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for _, curve in rows.groupby(by, sort=False):
            colour = shades(norm(curve["num_params"].iloc[0]))
            left.plot(curve["train_flops"], curve[target], color=colour, lw=0.8, alpha=0.8, zorder=2)
        left.plot(points["train_flops"], points["loss"], color=HUES[1], lw=1.4, zorder=3, label="convex hull")
        if is_exponent_identified(envelope.size.exponent):
            draw_trend(right, envelope.size, inner["train_flops"].to_numpy())
        for axes, column in ((left, "loss"), (right, "num_params")):
            for part, face, name in ((inner, HUES[1], "its corners"), (edge, "white", "of the ends of the sizes")):
                axes.plot(
                    part["train_flops"], part[column], "o", mfc=face, mec=HUES[1], ms=5.5, mew=1.1, zorder=4, label=name
                )
        left.set(xscale="log", yscale="log", xlabel=NAMES["train_flops"], ylabel=NAMES.get(target, target))
        right.set(xscale="log", yscale="log", xlabel=NAMES["train_flops"], ylabel="size that is lowest N*")
        for axes in (left, right):
            tidy_log_axis(axes.xaxis, *axes.get_xlim())
            tidy_log_axis(axes.yaxis, *axes.get_ylim())
        figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower left", ncols=3)
        left.set_title(f"{rows[by].nunique()} training curves, darker for larger N", loc="left", fontsize=9.5)
        right.set_title(title_trend(envelope.size, envelope.warnings), loc="left", fontsize=9.5)
    return figure


def plot_approaches(approaches: Approaches) -> Figure:
    """Returns N* and D* against compute by every approach: its points, its line, its 95 % at the budget.

    Lines are dashed where an approach saw no budgets. One whose exponent means nothing has points and no line.
    """
    from analysis.figures.shown import ShownFigure

    looks = {
        item.name: (HUES[number % len(HUES)], MARKERS[number % len(MARKERS)])
        for number, item in enumerate(approaches.found)
    }
    ends = [*(end for item in approaches.found for end in item.ranges), approaches.flops]
    step, middle = DODGE * np.log(max(ends) * MARGIN / min(ends)), (len(looks) - 1) / 2
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(10.4, 5.2), layout="constrained")
        both = figure.subplots(1, 2)
        for axes, quantity in zip(both, QUANTITIES, strict=True):
            axes.axvline(approaches.flops, color=GREY, lw=0.9, zorder=1)
            for number, item in enumerate(approaches.found):
                place = approaches.flops * float(np.exp(step * (number - middle)))
                _draw_approach(axes, approaches, item, quantity, looks[item.name], place)
            axes.set(xscale="log", yscale="log", xlabel=NAMES["train_flops"], ylabel=QUANTITIES[quantity])
            tidy_log_axis(axes.xaxis, *axes.get_xlim())
            tidy_log_axis(axes.yaxis, *axes.get_ylim())
        figure.legend(*both[0].get_legend_handles_labels(), frameon=False, loc="outside lower left", ncols=2)
        gap = "" if approaches.size_ratio is None else f"; N* differs {approaches.size_ratio:.3g} times"
        both[0].set_title(f"95 % at {approaches.flops:.3g} FLOPs{gap}", loc="left", fontsize=9.5)
    return figure


def _draw_approach(
    axes: Axes, approaches: Approaches, item: Approach, quantity: str, look: tuple[str, str], place: float
) -> None:
    """Draws the points, the line and the interval of one approach."""
    from analysis.decisions.trends import is_exponent_identified, is_size_identified

    (colour, marker), of_size = look, quantity == "num_params"
    weak = ", weak" if item.status == "weak" else ""
    label = f"{item.name}: a {item.show()[0]}{weak}" if of_size else None
    axes.plot([], [], marker, ls="-", color=colour, ms=5, label=label)
    points = _find_points(approaches, item.name)
    if points is not None:
        axes.plot(points["train_flops"], points[quantity], marker, color=colour, ms=4.5, mew=0, alpha=0.75, zorder=3)
    exponent, level = (item.size_exponent, item.num_params) if of_size else (item.data_exponent, item.data_seen)
    if not item.is_blind and is_exponent_identified(exponent):
        ends = min(item.ranges[0], approaches.flops) / MARGIN, max(item.ranges[1], approaches.flops) * MARGIN
        grid = np.geomspace(*ends, POINTS)
        values = _trace(approaches, item.name, quantity, grid)
        seen = (grid >= item.ranges[0]) & (grid <= item.ranges[1])
        axes.plot(grid, values, color=colour, lw=1.0, ls=(0, (4, 3)), zorder=2)
        axes.plot(grid[seen], values[seen], color=colour, lw=1.8, zorder=2)
    if not item.is_blind and is_size_identified(level):
        axes.plot([place, place], level.ends, color=colour, lw=1.6, zorder=4)
        axes.plot(place, level.value, marker, color=colour, ms=6.5, mec="white", mew=0.7, zorder=5)


def _find_points(approaches: Approaches, name: str) -> pd.DataFrame | None:
    if name in approaches.isoflops:
        return approaches.isoflops[name].points
    if name == "envelope" and approaches.envelope is not None:
        return approaches.envelope.points[~approaches.envelope.points["is_edge"]]
    return None


def _trace(approaches: Approaches, name: str, quantity: str, flops: Array) -> Array:
    """Returns N* or D* `[n]` of an approach at budgets."""
    from analysis.decisions.optimum import trace_frontier

    lines = approaches.envelope if name == "envelope" else approaches.isoflops.get(name)
    if lines is not None:
        trend = lines.size if quantity == "num_params" else lines.data
        return np.array([trend.at(float(one)).value for one in flops])
    if approaches.fit is None:
        return np.full(len(flops), np.nan)
    return trace_frontier(approaches.fit, flops)[quantity].to_numpy(dtype=float)
