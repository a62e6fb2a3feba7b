"""The report's figure: performance against the amount of data, with fitted laws and where the order is unsettled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.figures.style import HUES, MARKERS, NAMES, STYLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.uncertainty.bootstrap import Bootstrap

UNITS = {"examples": "labelled examples m", "tokens": "unique tokens m"}


def plot_performance(
    points: pd.DataFrame,
    bootstrap: Bootstrap,
    unsettled: Sequence[tuple[float, float]],
    metric: str,
    title: str,
    data_unit: str = "examples",
) -> Figure:
    """Returns performance against m: seed means with 95 % intervals, fitted laws with theirs, and the unsettled region.

    Args:
      points: one row a series and size, in the order of the study: `label family num_params m mean low high`.
      bootstrap: the fitted laws.
      unsettled: ranges of m in which nobody is significantly ahead.
      metric: name of the column on the vertical axis.
      title: above the axes.
      data_unit: what m counts: examples or tokens.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from analysis.figures.shown import ShownFigure

    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 6.0), layout="constrained")
        axes = figure.subplots()
        for low, high in unsettled:
            axes.axvspan(low, high, color="#F3EFE2", lw=0, zorder=0)
        ends = []
        looks = assign_looks(points)
        for label, rows in points.groupby("label", sort=False):
            colour, marker = looks[str(label)]
            axes.plot(rows["m"], rows["mean"], color=colour, lw=0.7, ls=":", zorder=2)
            bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
            axes.errorbar(
                rows["m"], rows["mean"], yerr=bars, fmt=marker, color=colour, ms=4.5, lw=1.0, capsize=2, zorder=3
            )
            end = (rows["m"].iloc[-1], rows["mean"].iloc[-1])
            if label in bootstrap.fits:
                grid = np.geomspace(*bootstrap.ranges[str(label)]["data_unique"], 120)
                fitted, lower, upper = bootstrap.predict(str(label), {"data_unique": grid})
                axes.plot(grid, fitted, color=colour, lw=1.4, zorder=2)
                axes.fill_between(grid, lower, upper, color=colour, alpha=0.13, lw=0, zorder=1)
                end = (float(grid[-1]), float(fitted[-1]))
            ends.append((str(label), end, colour))
        axes.set(xscale="log", yscale="log", xlabel=UNITS.get(data_unit, data_unit), ylabel=NAMES.get(metric, metric))
        axes.set_xlim(points["m"].min() / 1.15, points["m"].max() * 3.4)  # room for the names at the right
        positive = points.loc[points["mean"] > 0, "mean"]
        if len(positive):
            axes.set_ylim(positive.min() / 1.12, positive.max() * 1.2)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _name_lines(axes, ends)
        axes.set_title(title, loc="left", fontsize=11)
    return figure


def assign_looks(points: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Returns a colour and a marker for each label: a hue for its family, darker for more parameters."""
    from matplotlib.colors import to_hex, to_rgb

    series = points.drop_duplicates("label")
    families = list(dict.fromkeys(series["family"]))
    families.sort(key=lambda family: -(series["family"] == family).sum())  # the most shades get the first hue
    looks = {}
    for family, hue in zip(families, HUES * (1 + len(families) // len(HUES)), strict=False):
        members = series[series["family"] == family].sort_values("num_params", kind="stable")
        for rank, label in enumerate(members["label"]):
            lightness = 0.0 if len(members) == 1 else 0.55 * (1 - rank / (len(members) - 1))
            red, green, blue = (part + (1 - part) * lightness for part in to_rgb(hue))
            looks[str(label)] = (to_hex((red, green, blue)), MARKERS[families.index(family) % len(MARKERS)])
    return looks


def _name_lines(axes: Any, ends: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Writes each series' name beside its last point; names that would overlap are pushed apart."""
    from matplotlib.patheffects import withStroke

    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    step = 13.0 * axes.figure.dpi / 72.0
    placed: list[tuple[float, float]] = []
    for label, (x, y), colour in sorted(ends, key=lambda end: end[1][1]):
        across, up = to_pixels((x, y))
        for other_across, other_up in placed:
            if abs(across - other_across) < 200 and up - other_up < step:
                up = other_up + step
        placed.append((across, up))
        height = to_data((across, up))[1]
        axes.annotate(
            label, xy=(x, y), xytext=(x * 1.12, height), va="center", color=colour, fontsize=9.5, zorder=5,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 1, "shrinkB": 3},
        )  # fmt: skip
