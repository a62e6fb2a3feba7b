"""The figure of best settings: every sweep with its parabola, and how the best of each grows with size."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.figures.style import HUES, MARKERS, NAMES, STYLE, format_size, make_shades, tidy_log_axis
from analysis.tables.sweeps import is_numeric, number_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.decisions.settings import BestSettings
    from analysis.laws.law import Array

HEADROOM = 0.35  # how far beyond what parabolas see the left axis goes, as a share of it: cliffs would fill it
LETTERS = 66  # of a line above one of the two
LISTED = 8  # sweeps that a legend names


def plot_best_settings(found: BestSettings, table: pd.DataFrame | None = None) -> Figure:
    """Returns the sweeps with their parabolas on the left, and the best setting against size on the right.

    A best setting that is only the best of those tried is hollow. Bars are 95 % intervals as far as settings were
    tried. A trend in several columns is drawn over the first of them, and optima are moved along it to common values of
    the others.

    Args:
      found: What `find_best_settings` made of the table.
      table: The same table, to show its runs as dots beside the means.
    """
    from analysis.figures.shown import ShownFigure

    colours = _colour(found)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(10.4, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        if table is not None:
            _plot_runs(left, found, table)
        _plot_sweeps(left, found, colours)
        _plot_trends(right, found, colours)
        tidy_log_axis(left.xaxis, *left.get_xlim())
        tidy_log_axis(right.yaxis, *right.get_ylim())
        inside = int((~found.points["is_edge"]).sum())
        left.set_title(
            f"{inside} of {len(found.points)} sweeps have their best {found.setting} inside", loc="left", fontsize=9.5
        )
        lines = [line for trend in found.trends[:3] for line in wrap(str(trend), LETTERS)]
        right.set_title("\n".join(lines), loc="left", fontsize=9)
    return figure


def _colour(found: BestSettings) -> list[Any]:
    """Returns a colour for each sweep: shades from the smallest to the largest, or hues where groups are no sizes."""
    count = len(found.points)
    if not any(is_numeric(found.points[name]) for name in found.by):
        return [HUES[place % len(HUES)] for place in range(count)]
    shades = make_shades()
    return [shades(place / max(1, count - 1)) for place in range(count)]


def _plot_runs(axes: Axes, found: BestSettings, table: pd.DataFrame) -> None:
    from analysis.tables.table import select_rows

    rows = select_rows(table, [found.setting, found.target], positive=[found.setting])[0]
    axes.plot(rows[found.setting], rows[found.target], "o", color="#999999", ms=2.5, mew=0, alpha=0.5, zorder=1)


def _plot_sweeps(axes: Axes, found: BestSettings, colours: list[Any]) -> None:
    points, tried = found.points, found.sweeps
    groups = np.split(np.arange(len(tried)), np.cumsum(points["settings"])[:-1])
    seen = []
    for place, (colour, here) in enumerate(zip(colours, groups, strict=True)):
        row, sweep = points.iloc[place], tried.iloc[here]
        curve = found.curve(place)
        name = ", ".join(_show(row[key]) for key in found.by) or "all runs"
        axes.plot(
            sweep[found.setting], sweep[found.target], "o", color=colour, ms=3.5, mew=0, zorder=3,
            label=name if len(points) <= LISTED else None, ls="-" if curve is None else "", lw=0.7,
        )  # fmt: skip
        if curve is not None:
            axes.plot(*curve, color=colour, lw=1.3, zorder=2)
        is_edge = bool(row["is_edge"])
        axes.plot(
            row["best"], row[found.target], "*", ms=11, mew=1.0 if is_edge else 0.7, zorder=4,
            mfc="none" if is_edge else HUES[1], mec=HUES[1] if is_edge else "white",
        )  # fmt: skip
        shown = sweep[found.target][sweep["used"]] if curve is not None else sweep[found.target]
        seen.append((float(shown.min()), float(shown.max())) if curve is not None else (row[found.target],) * 2)
    low, high = min(end[0] for end in seen), max(end[1] for end in seen)
    room = HEADROOM * (high - low) or 0.1 * abs(high) or 1.0
    lowest, highest = axes.get_ylim()
    axes.set_xscale("log")
    axes.set_ylim(max(lowest, low - room), min(highest, high + room))
    axes.set(xlabel=NAMES.get(found.setting, found.setting), ylabel=NAMES.get(found.target, found.target))
    if len(points) <= LISTED:
        axes.legend(frameon=False, fontsize=8.5, title=", ".join(found.by), title_fontsize=8.5)


def _plot_trends(axes: Axes, found: BestSettings, colours: list[Any]) -> None:
    points = found.points
    sizes = [name for name in found.by if is_numeric(points[name]) and (points[name] > 0).all()]
    across = next((name for trend in found.trends for name in trend.exponents), sizes[0] if sizes else None)
    x = points[across].to_numpy(dtype=float) if across else np.arange(len(points), dtype=float)
    moved, common = _move(found, across)
    where = [name for name in found.by if found.trends and name in found.trends[0].where]
    marks = number_points(points, where) % len(MARKERS)
    for place, (_, row) in enumerate(points.iterrows()):
        if not np.isnan(row["low"]):
            ends = max(row["low"], row["tried_low"]), min(row["high"], row["tried_high"])
            axes.plot([x[place]] * 2, moved[place] * np.array(ends), color="#222222", lw=1, zorder=2)
        axes.plot(
            x[place], moved[place] * row["best"], MARKERS[marks[place]], color=colours[place], ms=7, zorder=3,
            mfc="white" if row["is_edge"] else colours[place], mec=colours[place],
        )  # fmt: skip
    at = ", ".join(f"{NAMES.get(name, name)} = {_show(value)}" for name, value in common.items())
    axes.set(
        yscale="log", ylabel=f"best {NAMES.get(found.setting, found.setting)}" + (f", moved to {at}" if at else "")
    )
    if across is None:
        axes.set_xticks(x, [", ".join(_show(row[key]) for key in found.by) for _, row in points.iterrows()])
        return
    for trend in found.trends:
        if across in trend.exponents:
            grid = np.geomspace(*trend.ranges[across], 40)
            others = {name: value for name, value in common.items() if name in trend.exponents}
            line = [trend.at(**{across: float(size), **others}) for size in grid]
            axes.plot(grid, [one.value for one in line], color=HUES[1], lw=1.4, zorder=1)
            if line[0].low is not None:
                band = np.array([[one.low, one.high] for one in line], dtype=float)
                axes.fill_between(grid, *band.T, color=HUES[1], alpha=0.18, lw=0, zorder=0)
    axes.set(xscale="log", xlabel=NAMES.get(across, across))
    axes.tick_params(axis="x", labelsize=8.5)
    tidy_log_axis(axes.xaxis, *axes.get_xlim())


def _move(found: BestSettings, across: str | None) -> tuple[Array, dict[str, float]]:
    """Returns what brings every optimum to common values of a trend's other columns, as a factor, and these values."""
    factor, common = np.ones(len(found.points)), {}
    for trend in found.trends:
        own = np.ones(len(factor), dtype=bool)
        for name, value in trend.where.items():
            own &= (found.points[name] == value).to_numpy()
        for name, exponent in trend.exponents.items():
            if name != across:
                values = found.points[name].to_numpy(dtype=float)
                common[name] = float(np.exp(np.log(values).mean()))
                factor[own] *= (common[name] / values[own]) ** exponent.value
    return factor, common


def _show(value: Any) -> str:
    return format_size(float(f"{value:.3g}")) if isinstance(value, int | float | np.number) else str(value)
