"""Figures for decisions: best sizes for a budget, isoFLOP profiles, which law to trust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.errors import AnalysisError
from analysis.figures.fits import describe_fit, name_target, usable_rows
from analysis.figures.style import HUES, NAMES, STYLE, make_shades, tidy_log_axis
from scaling.store.columns import TRAINING_FLOPS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.decisions.isoflop import IsoFlops
    from analysis.decisions.trends import Trend
    from analysis.decisions.valleys import Valley
    from analysis.fitting.fit import Fit
    from analysis.fitting.notices import Notice
    from analysis.laws.law import Array

SIDES = 120  # points of the grid along each side
MARGIN = 1.25  # by which axes reach beyond the points, as a factor
GREY = "#BBBBBB"  # of what does not count
LEVELS = 9  # lines of equal loss


def plot_contours(fit: Fit, table: pd.DataFrame | None = None, *, flops: tuple[float, float] | None = None) -> Figure:
    """Returns lines of equal loss over training compute C = 6 N D and model size N, with the compute-optimal sizes.

    The least compute that reaches a loss is where its line turns: the frontier runs through these turns. Points of the
    table stand where they were run; outside of their range the frontier goes on as dashes.

    Args:
      fit: Of a law of `num_params` and `data_seen`.
      table: Runs to show.
      flops: Smallest and largest C; by default those of the fit's points.

    Raises:
      AnalysisError: if the law has other variables.
    """
    from analysis.decisions.optimum import trace_frontier
    from analysis.figures.shown import ShownFigure

    if set(fit.columns) != {"num_params", "data_seen"}:
        raise AnalysisError(
            f"fit of law={fit.law} in {fit.columns!r} has no sizes to trade; contours need num_params and data_seen"
        )
    rows = None if table is None else usable_rows(fit, table)
    (least_n, most_n), (least_d, most_d) = fit.ranges["num_params"], fit.ranges["data_seen"]
    ran = (TRAINING_FLOPS * least_n * least_d, TRAINING_FLOPS * most_n * most_d)
    if rows is not None and len(rows):
        N, D = (rows[name].to_numpy(dtype=float) for name in ("num_params", "data_seen"))
        spent = TRAINING_FLOPS * N * D
        ran = float(spent.min()), float(spent.max())
    compute = np.geomspace(*(flops or (ran[0] / MARGIN, ran[1] * MARGIN)), SIDES)
    best = trace_frontier(fit, compute)
    low, high = min(least_n, best["num_params"].min()), max(most_n, best["num_params"].max())
    sizes = np.geomspace(low / MARGIN, high * MARGIN, SIDES)
    across, up = np.meshgrid(compute, sizes)
    loss = fit.predict({"num_params": up.ravel(), "data_seen": (across / (TRAINING_FLOPS * up)).ravel()}).reshape(
        across.shape
    )
    reachable = best["loss"].to_numpy()  # the lines: losses that are optimal at evenly spaced budgets
    levels = np.sort(reachable[np.linspace(0, SIDES - 1, LEVELS + 2).astype(int)[1:-1]])
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(7.6, 5.6), layout="constrained")
        axes = figure.subplots()
        shades = make_shades().reversed()
        lines = axes.contour(across, up, loss, levels=levels, cmap=shades, linewidths=1.2, zorder=2)
        if rows is not None:
            axes.plot(
                spent, rows["num_params"], "o", color="#222222", ms=3.5, alpha=0.45, mew=0, zorder=3, label="runs"
            )
        inside = (compute >= ran[0]) & (compute <= ran[1])
        axes.plot(compute, best["num_params"], color=HUES[1], lw=1.4, ls=(0, (4, 3)), zorder=4)
        axes.plot(compute[inside], best["num_params"][inside], color=HUES[1], lw=2.2, zorder=4, label="compute-optimal")
        axes.set(xscale="log", yscale="log", xlabel="training compute C = 6 N D (FLOPs)", ylabel="model size N")
        tidy_log_axis(axes.xaxis, *axes.get_xlim())
        tidy_log_axis(axes.yaxis, *axes.get_ylim())
        axes.clabel(lines, fmt=lambda value: f"{value:.4g}", fontsize=8.5)
        axes.legend(frameon=False, loc="upper left")
        axes.set_title(f"lines of equal {name_target(fit)}\n{describe_fit(fit)}", loc="left", fontsize=9.5)
    return figure


def plot_isoflops(
    found: IsoFlops | Sequence[Valley], table: pd.DataFrame | None = None, *, target: str = "loss"
) -> Figure:
    """Returns every budget's losses with the curve through them and its minimum, and the minima against compute.

    A point is the mean of the runs of one size; rings are the sizes that bracket a minimum. Budgets that do not count
    are grey, and the legend says why by their codes. On the right a grey bar is the sizes that were run, with an arrow
    where the lowest loss is at its end: the best size lies beyond.

    Args:
      found: What `fit_isoflops` made of a table; or its valleys alone, where too few count for a line.
      table: That table, to show single runs where several share a size.
      target: Its target.

    Raises:
      AnalysisError: if there are no valleys.
    """
    from matplotlib.colors import LogNorm

    from analysis.decisions.trends import is_exponent_identified
    from analysis.decisions.valleys import AT_EDGE
    from analysis.figures.shown import ShownFigure
    from analysis.tables.table import select_rows

    lines, valleys = (None, tuple(found)) if isinstance(found, Sequence) else (found, found.valleys)
    if not valleys:
        raise AnalysisError("found has no valleys, so that there is nothing to draw; see which rows of the table count")
    spent = np.array([item.train_flops for item in valleys])
    norm, shades = LogNorm(spent.min(), spent.max() * 1.0001), make_shades()
    counts = [item for item in valleys if item.skip is None]
    colours = [GREY if item.skip is not None else shades(norm(item.train_flops)) for item in valleys]
    codes = Counter(item.skip.code for item in valleys if item.skip is not None)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(10.4, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        if table is not None:
            names = ["train_flops", "num_params", target]
            rows = select_rows(table, names, positive=names)[0]
            if len(rows) > sum(len(item.sizes) for item in valleys):
                name = "runs, at their own FLOPs" if any(item.is_moved for item in valleys) else "runs"
                left.plot(rows["num_params"], rows[target], ".", color="#999999", ms=4, mew=0, zorder=1, label=name)
        for item, colour in zip(valleys, colours, strict=True):
            left.plot(item.sizes, item.losses, "o", color=colour, ms=3.8, mew=0, zorder=2.5 if item in counts else 2)
            left.plot(item.grid, item.curve, color=colour, lw=1.1 if item in counts else 0.7, zorder=2)
        for number, item in enumerate(counts):
            _draw_minimum(left, item, is_named=number == 0)
        for code, count in codes.items():
            left.plot([], [], "o-", color=GREY, ms=3.8, mew=0, lw=0.7, label=f"do not count: {count} {code}")
        if AT_EDGE in codes:
            left.plot([], [], "^-", color=GREY, ms=6, lw=0.9, label="sizes run; the best is beyond")
        if lines is not None and is_exponent_identified(lines.size.exponent):
            draw_trend(right, lines.size, spent)
        for item, colour in zip(valleys, colours, strict=True):
            _draw_best_size(right, item, colour)
        left.set(xscale="log", yscale="log", xlabel="model size N", ylabel=NAMES.get(target, target))
        right.set(xscale="log", yscale="log", xlabel=NAMES["train_flops"], ylabel="best model size N*")
        if len(valleys) == 1:
            right.set_xlim(spent[0] / MARGIN, spent[0] * MARGIN)
        for axes in (left, right):
            tidy_log_axis(axes.xaxis, *axes.get_xlim())
            tidy_log_axis(axes.yaxis, *axes.get_ylim())
        figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower left", ncols=3)
        left.set_title(_title_valleys(valleys), loc="left", fontsize=9.5)
        title = (
            f"no line, which needs 2 minima inside the sizes: {len(counts)} of {len(valleys)} budgets"
            if lines is None
            else title_trend(lines.size, lines.warnings)
        )
        right.set_title(title, loc="left", fontsize=9.5)
    return figure


def _title_valleys(valleys: Sequence[Valley]) -> str:
    counts, moved = (sum(held) for held in zip(*((v.skip is None, v.is_moved) for v in valleys), strict=True))
    to_mean = f"; losses of {moved} at their mean FLOPs" if moved else ""
    return f"{valleys[0].shape} through {counts} of {len(valleys)} budgets{to_mean}"


def _draw_best_size(axes: Axes, item: Valley, colour: Any) -> None:
    """Draws a budget's best size with its interval; the sizes that were run, where that does not count."""
    from analysis.decisions.valleys import AT_EDGE

    best = item.num_params
    if best is not None and item.skip is None:
        axes.plot(item.train_flops, best.value, "o", color=colour, ms=6, mew=0, zorder=3)
        if best.low is not None:
            axes.plot([item.train_flops] * 2, best.ends, color="#222222", lw=1, zorder=2.5)
        return
    axes.plot([item.train_flops] * 2, item.sizes[[0, -1]], color=GREY, lw=0.9, zorder=1.5)
    if best is not None:
        axes.plot(item.train_flops, best.value, "o", mfc="none", mec=GREY, ms=5, zorder=2)
    elif item.skip is not None and item.skip.code == AT_EDGE:
        lowest = int(np.argmin(item.losses))
        marker = {0: "v", len(item.sizes) - 1: "^"}.get(lowest, "_")
        axes.plot(item.train_flops, item.sizes[lowest], marker, color=GREY, ms=6, zorder=2)


def _draw_minimum(axes: Axes, item: Valley, is_named: bool) -> None:
    """Draws where a curve is lowest with its interval, and rings around the sizes on both sides of it."""
    best, names = item.num_params, ("minimum, 95 %", "sizes around it") if is_named else (None, None)
    if best is None or item.bracket is None:
        return
    value = float(np.interp(np.log(best.value), np.log(item.grid), item.curve))
    low, high = best.ends
    axes.plot([low, high], [value, value], color=HUES[1], lw=1.6, zorder=3.5)
    axes.plot(best.value, value, "*", color=HUES[1], ms=9, mec="white", mew=0.6, zorder=4, label=names[0])
    around = np.isin(item.sizes, item.bracket)
    axes.plot(
        item.sizes[around], item.losses[around], "o", mfc="none", mec="#222222", ms=6.5, mew=0.8, zorder=3,
        label=names[1],
    )  # fmt: skip


def title_trend(trend: Trend, notices: Sequence[Notice]) -> str:
    """Returns the exponent of N* for a title, with the codes of what makes it weak."""
    from analysis.decisions.trends import show_exponent

    weak = ", ".join(notice.code for notice in notices if notice.is_weak)
    return f"N* ~ C^a, a {show_exponent(trend.exponent)}{f'; weak: {weak}' if weak else ''}"


def draw_trend(axes: Axes, trend: Trend, flops: Array) -> None:
    """Draws a line of best sizes or data, and its 95 % band, a little beyond some budgets."""
    grid = np.geomspace(flops.min() / MARGIN, flops.max() * MARGIN, 40)
    line = [trend.at(float(one)) for one in grid]
    axes.plot(grid, [one.value for one in line], color=HUES[1], lw=1.6, zorder=2)
    low, high = np.transpose([one.ends for one in line])
    axes.fill_between(grid, low, high, color=HUES[1], alpha=0.18, lw=0, zorder=1)


def plot_tournament(ranking: pd.DataFrame) -> Figure:
    """Returns the error beyond the cuts of each law of `run_tournament`: a diamond for all windows, a dot for each."""
    from analysis.figures.shown import ShownFigure

    ranked = ranking[ranking["rank"].notna()]
    if ranked.empty:
        raise AnalysisError(f"ranking has {len(ranking)} laws and none with a rank; read its column `reason`")
    windows = [name for name in ranked.columns if name.startswith("rmse ")]
    places = np.arange(len(ranked))
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(7.2, 1.3 + 0.36 * len(ranked)), layout="constrained")
        axes = figure.subplots()
        axes.plot(100 * ranked["rmse"], places, "D", color=HUES[0], ms=9, zorder=2, label="all windows")
        for number, name in enumerate(windows):
            label = "one window" if number == 0 else None
            axes.plot(100 * ranked[name], places, "o", color="#222222", ms=4, alpha=0.7, mew=0, zorder=3, label=label)
        axes.set_xscale("log")
        tidy_log_axis(axes.xaxis, *axes.get_xlim())
        axes.set_yticks(places, [f"{row.law} ({row.num_fitted})" for row in ranked.itertuples()])
        axes.set_ylim(len(ranked) - 0.5, -0.5)
        axes.set_xlabel("error on larger runs that were held out (rms of log, %)")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    return figure
