"""The report's figures of performance: against what was varied, with fitted laws, and against what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.figures.style import HUES, MARKERS, NAMES, STYLE, format_size, tidy_log_axis
from scaling.specs.fields import shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.report.lines import Lines
    from analysis.report.subject import Subject
    from analysis.uncertainty.bootstrap import Bootstrap

LEGEND = 12  # series that a legend names
MOST_NAMED = 14  # lines with a name each; where there are more, series have one
MOST_JOINED = 60  # lines whose points are joined where they stand against other amounts
SAME_AMOUNT = 1.01  # as a factor: an amount that spreads less along a line is one
LIGHTEST = 0.55  # of the first shade of a hue
AMOUNTS = {
    "data_unique": ("m", {"examples": "labelled examples m", "tokens": "unique tokens m", "data": "unique data m"}),
    "data_seen": ("D", {"examples": "examples seen D", "tokens": "training tokens D", "data": "training data D"}),
    "num_params": ("N", {}),
    "train_flops": ("C", {}),
    "wall_seconds": ("seconds", {}),
}


def name_amount(column: str, subject: Subject, *, short: bool = False) -> str:
    """Returns what a column is called beside an axis, or its symbol."""
    if column in AMOUNTS:
        symbol, names = AMOUNTS[column]
        words = "seconds of training and evaluation" if column == "wall_seconds" else NAMES.get(column, column)
        return symbol if short else names.get(subject.data_unit, words)
    return shorten([column])[column] if "." in column else column


def name_target(subject: Subject) -> str:
    """Returns what performance is called beside an axis, with its unit."""
    name = NAMES.get(subject.target, subject.target)
    return f"{name} ({subject.unit})" if subject.unit and subject.unit not in (name, "share of predictions") else name


def draw_performance(
    subject: Subject, lines: Lines, bootstrap: Bootstrap, unsettled: Sequence[tuple[float, float]]
) -> Figure:
    """Returns performance along an axis: seed means with 95 % intervals, fitted laws with theirs, the unsettled region.

    Args:
      subject: what the report is about.
      lines: along the axis.
      bootstrap: the fitted laws, by line.
      unsettled: ranges in which nobody is significantly ahead.
    """
    from analysis.figures.shown import ShownFigure

    points, looks, ends = lines.points, assign_looks(lines.points), []
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 6.0), layout="constrained")
        axes = figure.subplots()
        for low, high in unsettled:
            axes.axvspan(low, high, color="#F3EFE2", lw=0, zorder=0)
        for line, rows in points.groupby("line", sort=False):
            colour, marker = looks[str(line)]
            if lines.is_scatter:
                axes.plot(rows["place"], rows["mean"], marker, color=colour, ms=3.5, alpha=0.6, mew=0, zorder=3)
                ends.append((str(line), (rows["place"].iloc[-1], rows["mean"].iloc[-1]), colour))
                continue
            is_fitted = str(line) in bootstrap.fits
            axes.plot(rows["place"], rows["mean"], color=colour, lw=0.7, ls=":" if is_fitted else "-", zorder=2)
            bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
            axes.errorbar(
                rows["place"], rows["mean"], yerr=bars, fmt=marker, color=colour, ms=4.5, lw=1.0, capsize=2, zorder=3
            )
            end = (float(rows["place"].iloc[-1]), float(rows["mean"].iloc[-1]))
            if is_fitted:
                end = _draw_law(axes, subject, bootstrap, str(line), lines.axis, colour)
            ends.append((str(line), end, colour))
        set_scales(axes, subject, points, lines.axis)
        _mark_lines(axes, subject)
        axes.set(xlabel=name_amount(lines.axis, subject), ylabel=name_target(subject))
        if len(ends) <= MOST_NAMED and not lines.is_scatter:
            axes.set_xlim(axes.get_xlim()[0], _widen(axes, ends))
            name_lines(axes, ends)
        else:
            _add_legend(axes, points, looks)
        axes.set_title(subject.question or f"{subject.target} of {subject.name}", loc="left", fontsize=11, wrap=True)
    return figure


def draw_against(subject: Subject, lines: Lines, others: Sequence[str]) -> Figure:
    """Returns small figures of the same means against other amounts; where lines do not vary in one, along its places.

    Args:
      subject: what the report is about.
      lines: along the first axis.
      others: the columns across.
    """
    from analysis.figures.shown import ShownFigure

    looks = assign_looks(lines.points)
    means = lines.points.set_index(["line", "place"])
    known = [name for name in others if name in lines.rows.columns]
    costs = lines.rows.groupby(["line", lines.axis])[known].mean()
    costs.index = costs.index.set_names(["line", "place"])
    points = means.join(costs, how="left").reset_index()
    columns = min(len(known), 3)
    height = -(-len(known) // columns)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 3.1 * height), layout="constrained")
        grid = np.atleast_1d(figure.subplots(height, columns)).ravel()
        for axes, name in zip(grid, known, strict=False):
            shown = points[points[name] > 0]
            if name != "wall_seconds" and shown["line"].nunique() <= MOST_JOINED:
                _join(axes, shown, name, looks)
            for line, rows in shown.groupby("line", sort=False):
                colour, marker = looks[str(line)]
                axes.plot(rows[name], rows["mean"], marker, color=colour, ms=3.2, zorder=3)
            if len(shown):
                set_scales(axes, subject, shown.assign(place=shown[name]), name)
                _label_sparsely(axes.xaxis, float(shown[name].min()), float(shown[name].max()))
            axes.set_xlabel(name_amount(name, subject))
        for axes in grid[len(known) :]:
            axes.set_visible(False)
        grid[0].set_ylabel(name_target(subject))
    return figure


def _label_sparsely(axis: Any, low: float, high: float) -> None:
    """Gives the axis of a small figure few and short labels."""
    from matplotlib import ticker

    decades = np.log10(high / low)
    if decades > 0.5:
        axis.set_major_locator(ticker.LogLocator(subs=(1.0,) if decades > 1.3 else (1.0, 3.0), numticks=5))
        axis.set_major_formatter(
            ticker.FuncFormatter(lambda value, _: f"{value:g}" if value < 1e3 else _shorten(value))
        )


def _shorten(value: float) -> str:
    """Returns a number in few letters.

    >>> _shorten(30_000), _shorten(1e9)
    ('30k', '10⁹')
    """
    for scale, letter in ((1e6, "M"), (1e3, "k")):
        if scale <= value < 1e3 * scale:
            return f"{value / scale:g}{letter}"
    return format_size(value)


def _join(axes: Axes, points: pd.DataFrame, name: str, looks: dict[str, tuple[str, str]]) -> None:
    """Joins the points of each line; where a line has one amount, those of its group at each place, in grey."""
    group = "label" if points.drop_duplicates("line")["label"].duplicated().any() else "family"
    spread = points.groupby("line")[name].transform(lambda values: values.max() / values.min())
    for line, rows in points[spread > SAME_AMOUNT].groupby("line", sort=False):
        axes.plot(rows[name], rows["mean"], color=looks[str(line)][0], lw=0.8, zorder=2)
    for _, rows in points[spread <= SAME_AMOUNT].groupby([group, "place"], sort=False):
        ordered = rows.sort_values(name)
        axes.plot(ordered[name], ordered["mean"], color="#BBBBBB", lw=0.8, zorder=2)


def assign_looks(points: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Returns a colour and a marker for each line, darker for a larger size.

    A hue stands for a series where it has several lines, else for a family.
    """
    from matplotlib.colors import to_hex, to_rgb

    lines = points.drop_duplicates("line")
    has_several = bool(lines["label"].duplicated().any())
    groups = lines["label" if has_several else "family"].astype(str)
    if groups.nunique() == 1 and not has_several and not lines["size"].nunique() > 1:
        groups = lines["label"].astype(str)  # one family of one size: what tells series apart is neither
    order = list(dict.fromkeys(groups))
    order.sort(key=lambda group: -(groups == group).sum())  # the most shades get the first hue
    looks = {}
    for group, hue in zip(order, HUES * (1 + len(order) // len(HUES)), strict=False):
        members = lines[groups == group].sort_values("size", kind="stable")
        for rank, line in enumerate(members["line"]):
            lightness = 0.0 if len(members) == 1 else LIGHTEST * (1 - rank / (len(members) - 1))
            red, green, blue = (part + (1 - part) * lightness for part in to_rgb(hue))
            looks[str(line)] = (to_hex((red, green, blue)), MARKERS[order.index(group) % len(MARKERS)])
    return looks


def set_scales(axes: Axes, subject: Subject, points: pd.DataFrame, axis: str) -> None:
    """Sets scales, limits and labels: logarithmic across, and upwards where performance falls towards 0."""
    low, high = float(points["place"].min()), float(points["place"].max())
    if low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.15, high * 1.15)
        tidy_log_axis(axes.xaxis, low / 1.15, high * 1.15)
    means = points["mean"].to_numpy(dtype=float)
    if subject.lower_is_better and (means > 0).all():
        axes.set_yscale("log")
        axes.set_ylim(means.min() / 1.08, means.max() * 1.12)
        tidy_log_axis(axes.yaxis, *axes.get_ylim())


def name_lines(axes: Any, ends: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Writes each line's name beside its last point; names that would overlap are pushed apart."""
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


def _draw_law(
    axes: Axes, subject: Subject, bootstrap: Bootstrap, line: str, axis: str, colour: str
) -> tuple[float, float]:
    """Draws a fitted law with its band, and returns its end."""
    grid = np.geomspace(*bootstrap.ranges[line][axis], 120)
    if not len(bootstrap.replicates[line]):  # no resamples were asked for
        fitted = np.asarray(subject.measure.convert(bootstrap.fits[line].predict({axis: grid})))
        axes.plot(grid, fitted, color=colour, lw=1.4, zorder=2)
        return float(grid[-1]), float(fitted[-1])
    drawn = bootstrap.predict(line, {axis: grid})
    fitted, lower, upper = (np.asarray(subject.measure.convert(each)) for each in drawn)
    axes.plot(grid, fitted, color=colour, lw=1.4, zorder=2)
    axes.fill_between(grid, lower, upper, color=colour, alpha=0.13, lw=0, zorder=1)
    return float(grid[-1]), float(fitted[-1])


def _mark_lines(axes: Axes, subject: Subject) -> None:
    """Draws the performance that the caller named, across."""
    for name, value in subject.options.lines.items():
        axes.axhline(value, color="#444444", lw=1.0, ls=(0, (6, 3)), zorder=1)
        axes.annotate(
            name, xy=(0.01, value), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
            fontsize=9, color="#444444",
        )  # fmt: skip
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, value / 1.08 if value > 0 else value), max(high, value * 1.08))


def _widen(axes: Axes, ends: Sequence[tuple[str, tuple[float, float], str]]) -> float:
    """Returns an end of the axis that leaves room for names at the right."""
    low, high = axes.get_xlim()
    letters = max(len(name) for name, _, _ in ends)
    share = min(0.42, 0.06 + 0.011 * letters)
    if axes.get_xscale() == "log":
        return float(low * (high / low) ** (1 / (1 - share)))
    return float(low + (high - low) / (1 - share))


def _add_legend(axes: Axes, points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """Names each series once, and says what shades are where one has several lines."""
    from matplotlib.lines import Line2D

    last = points.drop_duplicates("label", keep="last").head(LEGEND)
    handles = [
        Line2D(
            [], [], color=looks[str(row["line"])][0], marker=looks[str(row["line"])][1], ls="", label=str(row["label"])
        )
        for _, row in last.iterrows()
    ]
    count = points["label"].nunique()
    title = f"{count} series, the first {LEGEND}" if count > LEGEND else None
    if points["line"].nunique() > count:
        title = "darker: larger" if title is None else f"{title}; darker: larger"
    axes.legend(handles=handles, title=title, frameon=False, fontsize=9, loc="best")
