"""Figures for decisions: best sizes for a budget, isoFLOP profiles, what a candidate saves, which law to trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from analysis.errors import AnalysisError
from analysis.figures.fits import describe_fit, name_target, usable_rows
from analysis.figures.style import HUES, NAMES, STYLE, make_shades, tidy_log_axis
from scaling.store.columns import TRAINING_FLOPS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.decisions.gain import Gain
    from analysis.decisions.isoflop import IsoFlops
    from analysis.fitting.fit import Fit

SIDES = 120  # points of the grid along each side
MARGIN = 1.25  # by which axes reach beyond the points, as a factor
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


def plot_isoflops(found: IsoFlops, table: pd.DataFrame, *, target: str = "loss", tolerance: float = 0.1) -> Figure:
    """Returns the runs of every budget with the size of least loss, and these sizes against compute with their line.

    Budgets that do not count are grey.

    Args:
      found: What `fit_isoflops` made of the table.
      table: The same table.
      target: The same target.
      tolerance: The same tolerance.
    """
    from matplotlib.colors import LogNorm

    from analysis.decisions.isoflop import group_budgets
    from analysis.figures.shown import ShownFigure
    from analysis.tables.table import select_rows

    names = ["train_flops", "num_params", target]
    rows = select_rows(table, names, positive=names)[0].sort_values("num_params")
    spent, points = rows["train_flops"].to_numpy(dtype=float), found.points
    norm, shades = LogNorm(spent.min(), spent.max() * 1.0001), make_shades()
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(10.4, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for here in group_budgets(spent, tolerance):
            group = rows.iloc[here].sort_values("num_params")
            flops = float(np.exp(np.log(spent[here]).mean()))
            counts = bool(np.isclose(points["train_flops"], flops).any())
            colour = shades(norm(flops)) if counts else "#BBBBBB"
            left.plot(group["num_params"], group[target], "o-", color=colour, ms=3.5, lw=0.9, zorder=2)
        left.plot(points["num_params"], points["loss"], "*", color=HUES[1], ms=11, mec="white", mew=0.7, zorder=4)
        grid = np.geomspace(spent.min() / MARGIN, spent.max() * MARGIN, 40)
        line = [found.size.at(float(flops)) for flops in grid]
        right.plot(grid, [one.value for one in line], color=HUES[1], lw=1.6, zorder=2)
        if all(one.low is not None for one in line):
            low, high = ([getattr(one, end) for one in line] for end in ("low", "high"))
            right.fill_between(grid, low, high, color=HUES[1], alpha=0.18, lw=0, zorder=1)
            bars = abs(points[["low", "high"]].to_numpy().T - points["num_params"].to_numpy())
            right.errorbar(points["train_flops"], points["num_params"], yerr=bars, fmt="none", ecolor="#222222", lw=1)
        right.scatter(
            points["train_flops"],
            points["num_params"],
            c=shades(norm(points["train_flops"].to_numpy())),
            s=36,
            zorder=3,
        )
        left.set(xscale="log", yscale="log", xlabel="model size N", ylabel=NAMES.get(target, target))
        right.set(xscale="log", yscale="log", xlabel=NAMES["train_flops"], ylabel="best model size N*")
        for axes in (left, right):
            tidy_log_axis(axes.xaxis, *axes.get_xlim())
            tidy_log_axis(axes.yaxis, *axes.get_ylim())
        skipped = f", {len(found.skipped)} more do not count" if found.skipped else ""
        left.set_title(f"{len(points)} budgets{skipped}", loc="left", fontsize=9.5)
        right.set_title(f"N* ~ C^{found.size.exponent}", loc="left", fontsize=9.5)
    return figure


def plot_gain(gain: Gain) -> Figure:
    """Returns the compute-equivalent gain against the candidate's compute, with its 95 % band.

    Dashes where one of the two was not observed; the point is the offset at the reference budget.
    """
    from analysis.figures.shown import ShownFigure

    frame, variable = gain.table, gain.table.columns[0]
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color="#888888", lw=0.9, zorder=1)
        axes.fill_between(frame[variable], frame["low"], frame["high"], color=HUES[0], alpha=0.18, lw=0, zorder=1)
        axes.plot(frame[variable], frame["gain"], color=HUES[0], lw=1.2, ls=(0, (4, 3)), zorder=2)
        inside = frame[frame["observed"]]
        axes.plot(inside[variable], inside["gain"], color=HUES[0], lw=2, zorder=2)
        axes.plot(gain.reference, gain.offset.estimate, "o", color=HUES[1], ms=7, mec="white", zorder=3)
        axes.set(xscale="log", yscale="log", xlabel=f"{NAMES.get(variable, variable)} of {gain.candidate}")
        axes.set_ylabel(f"compute that {gain.base} needs\nfor the same loss, as a multiple")
        shown = frame[["low", "high", "gain"]].to_numpy()
        shown = shown[np.isfinite(shown)]
        axes.set_ylim(min(shown.min(), 1) / 1.1, min(max(shown.max(), 1), 30 * frame["gain"].median()) * 1.1)
        tidy_log_axis(axes.xaxis, *axes.get_xlim())
        tidy_log_axis(axes.yaxis, *axes.get_ylim())
        notes = [*str(gain).split("; "), ", ".join(notice.code for notice in gain.notices)]
        axes.set_title("\n".join(filter(None, notes)), loc="left", fontsize=9.5)
    return figure


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
