"""Figures of fits; a figure shows numbers that the analysis has computed and computes none itself."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.errors import AnalysisError
from analysis.figures.style import HUES, STYLE, WIDTH, make_shades, name_axis, tidy_log_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from analysis.fitting.fit import Fit


LINES = 7  # levels of the second variable for which a curve is drawn
POINTS = 160  # of a drawn curve


def plot_fit(fit: Fit, table: pd.DataFrame | None = None) -> Figure:
    """Returns a figure of a fit: the law over its points, and what it leaves of them below.

    A law of one variable is a curve with its 95 % band (where the fit holds resamples); one of two variables is a curve
    for each of several levels of the first variable, against the second; beyond two, points stand against predictions.
    Where the table reaches beyond the points that were fitted, curves go on as dashes.

    Args:
      fit: Any fit.
      table: Points in the fit's columns; rows of another label, or not finite, are not shown.

    Raises:
      AnalysisError: if the law has more than two variables, or none that is a plain column, and no table is given.
    """
    from analysis.figures.shown import ShownFigure

    rows = None if table is None else usable_rows(fit, table)
    few = len(fit.columns) <= 2 and len(fit.ranges) == len(fit.columns)
    if rows is None and not few:
        raise AnalysisError(f"fit of law={fit.law} in {fit.columns!r} has no curve to draw by itself; give the table")
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(7.6, 6.6 if rows is not None else 5.0), layout="constrained")
        if rows is None:
            top, below = figure.subplots(), None
        else:
            top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        if not few:
            _draw_predicted(fit, rows, top, below)
        elif len(fit.columns) == 1:
            _draw_curve(fit, rows, top, below)
        else:
            _draw_family(fit, rows, top, below)
        top.set_title(describe_fit(fit), loc="left", fontsize=9.5)
    return figure


def usable_rows(fit: Fit, table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the fit's series that can be shown beside it.

    Raises:
      AnalysisError: if there are none, or a column is missing.
    """
    from analysis.tables.runs import fill_names
    from analysis.tables.table import select_rows

    if fit.label is not None:
        # the series may be named by `label`, or by whatever column the fit was made by
        names = [name for name in ("label", "family", *table.columns) if name in table.columns]
        for name in names:
            same = fill_names(table, name)[name].astype(str) == fit.label
            if same.any():
                table = table[same]
                break
    target, positive = name_target(fit), list(fit.ranges)
    rows, left_out, _ = select_rows(table, [*fit.columns, target], positive=positive + [target] * fit.objective.is_log)
    if rows.empty:
        reasons = ", ".join(f"{count} where {reason}" for reason, count in left_out.items()) or "it is empty"
        raise AnalysisError(f"table has no row to show beside the fit ({reasons}); give the table that was fitted")
    return rows


def name_target(fit: Fit) -> str:
    """Returns the fitted column's name."""
    return fit.target or fit.form.target


def describe_fit(fit: Fit) -> str:
    """Returns formula and estimates with their intervals in a few lines, and that the fit is weak where it is."""
    parts = []
    for name, value in fit.params.items():
        low, high = fit.ci95.get(name, (None, None))
        parts.append(f"{name} {value:.4g}" + (f" [{low:.4g}, {high:.4g}]" if None not in (low, high) else ""))
    parts += [f"{name} {value:.4g} (held)" for name, value in fit.held.items()]
    half = len(parts) if len(parts) <= 3 else (len(parts) + 1) // 2
    lines = ["   ".join(parts[:half]), "   ".join(parts[half:])]
    codes = sorted({notice.code for notice in fit.warnings if notice.is_weak})
    state = "" if fit.status == "ok" else f", {fit.status}: {', '.join(codes)}"
    series = f"{fit.label}: " if fit.label else ""
    head = textwrap.wrap(f"{series}{fit.form.formula} (n = {fit.n}{state})", WIDTH)
    return "\n".join([*head, *filter(None, lines)])


def _draw_curve(fit: Fit, rows: pd.DataFrame | None, top: Axes, below: Axes | None) -> None:
    name, target = fit.columns[0], name_target(fit)
    low, high = _reach(fit, rows, name)
    grid = np.geomspace(low, high, POINTS)
    _draw_line(fit, top, {name: grid}, name, HUES[0])
    if fit.draws:
        from analysis.uncertainty.predictions import predict_interval

        band = predict_interval(fit, {name: grid})
        top.fill_between(grid, band["low"], band["high"], color=HUES[0], alpha=0.18, lw=0, zorder=1)
    if rows is not None:
        top.plot(rows[name], rows[target], "o", color="#222222", ms=4, alpha=0.65, mew=0, zorder=3)
        _draw_residuals(fit, rows, rows[name], below, "#222222")
    _finish(fit, top, below, name)


def _draw_family(fit: Fit, rows: pd.DataFrame | None, top: Axes, below: Axes | None) -> None:
    from matplotlib.colors import LogNorm

    level, across = fit.columns
    ends = _reach(fit, rows, level)
    norm, shades = LogNorm(*ends), make_shades()
    found = np.unique(rows[level]) if rows is not None else np.array([])
    levels = found if 0 < len(found) <= LINES else np.geomspace(*ends, LINES)
    for value in levels:
        low, high = _reach(fit, rows, across)
        if rows is not None and len(levels) > 1:  # a curve is drawn where points of about its level are
            near = rows.loc[abs(np.log(rows[level] / value)) <= 0.75 * np.log(levels[1] / levels[0]), across]
            low, high = (near.min() / 1.3, near.max() * 1.3) if len(near) else (low, high)
        grid = np.geomspace(low, high, POINTS)
        _draw_line(fit, top, {level: np.full(POINTS, value), across: grid}, across, shades(norm(value)))
    axes = [top] if below is None else [top, below]
    if rows is not None:
        colours = shades(norm(rows[level].to_numpy(dtype=float)))
        top.scatter(rows[across], rows[name_target(fit)], c=colours, s=16, lw=0, zorder=3)
        _draw_residuals(fit, rows, rows[across], below, colours)
    bar = top.figure.colorbar(mpl.cm.ScalarMappable(norm, shades), ax=axes, pad=0.02, aspect=40)
    bar.set_label(name_axis(fit, level))
    bar.outline.set_visible(False)
    for value in levels:
        bar.ax.axhline(value, color="white", lw=1)
    tidy_log_axis(bar.ax.yaxis, *ends)
    _finish(fit, top, below, across)


def _draw_predicted(fit: Fit, rows: pd.DataFrame | None, top: Axes, below: Axes | None) -> None:
    assert rows is not None  # plot_fit has asked for the table  # noqa: S101
    target, fitted = name_target(fit), _predict(fit, rows)
    both = np.concatenate([fitted, rows[target].to_numpy(dtype=float)])
    ends = both.min(), both.max()
    top.plot(ends, ends, color=HUES[0], lw=1.4, zorder=2)
    top.plot(fitted, rows[target], "o", color="#222222", ms=4, alpha=0.65, mew=0, zorder=3)
    _draw_residuals(fit, rows, fitted, below, "#222222")
    _finish(fit, top, below, None)


def _draw_line(fit: Fit, axes: Axes, columns: dict[str, NDArray[Any]], across: str, colour: Any) -> None:
    """Draws the law, dashed outside the range that was fitted."""
    grid, fitted = columns[across], fit.predict(columns)
    low, high = fit.ranges[across]
    inside = (grid >= low * 0.999) & (grid <= high * 1.001)
    axes.plot(grid, fitted, color=colour, lw=1.1, ls=(0, (4, 3)), zorder=2)
    axes.plot(grid[inside], fitted[inside], color=colour, lw=1.7, zorder=2)


def _draw_residuals(fit: Fit, rows: pd.DataFrame, x: Any, axes: Axes | None, colours: Any) -> None:
    if axes is None:
        return
    y, fitted = rows[name_target(fit)].to_numpy(dtype=float), _predict(fit, rows)
    rest = 100 * (y / fitted - 1) if fit.objective.is_log else y - fitted
    axes.axhline(0, color="#888888", lw=0.9, zorder=1)
    axes.scatter(x, rest, c=colours, s=11, lw=0, alpha=0.8, zorder=3)
    axes.set_ylabel("above the law (%)" if fit.objective.is_log else "above the law")
    reach = 1.15 * float(np.abs(rest).max()) or 1.0
    axes.set_ylim(-reach, reach)


def _finish(fit: Fit, top: Axes, below: Axes | None, across: str | None) -> None:
    target = name_target(fit)
    last = below or top
    last.set_xlabel(name_axis(fit, across) if across else f"predicted {name_axis(fit, target)}")
    top.set_ylabel(name_axis(fit, target))
    if across is not None or fit.objective.is_log:
        top.set_xscale("log")
        tidy_log_axis(last.xaxis, *top.get_xlim())
    if fit.objective.is_log:
        top.set_yscale("log")
        tidy_log_axis(top.yaxis, *top.get_ylim())


def _predict(fit: Fit, rows: pd.DataFrame) -> NDArray[np.float64]:
    return fit.predict({name: rows[name].to_numpy() for name in fit.columns})


def _reach(fit: Fit, rows: pd.DataFrame | None, name: str) -> tuple[float, float]:
    low, high = fit.ranges[name]
    if rows is not None and len(rows):
        low, high = min(low, float(rows[name].min())), max(high, float(rows[name].max()))
    return (low, high) if low < high else (low / 2, high * 2)
