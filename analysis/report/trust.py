"""How far to trust a report: what fits leave of their points, profile likelihoods, and the cloud of resamples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.errors import AnalysisError
from analysis.figures.style import HUES, STYLE, tidy_log_axis
from analysis.fit_table import format_interval
from analysis.report.section import Picture, Rows, Section, Text, tell
from analysis.tables.table import select_rows
from analysis.uncertainty.profiles import Profile, profile

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.fitting.fit import Fit
    from analysis.report.performance import Performance
    from analysis.report.subject import Subject
    from analysis.report.surfaces import Surfaces

MOST_FITS = 12  # whose residuals are drawn
MOST_PROFILED = 2  # fits: each value of a profile is a fit
POINTS, PRECISION = 7, 0.01  # of a profile, and of its ends beside their distance from the estimate
DOTS = 400  # resamples that are drawn
# The parameters that decisions rest on, before others.
FIRST = ("alpha", "beta", "E", "c")


def make_trust(subject: Subject, performance: Performance, surfaces: Surfaces | None) -> Section:
    """Returns the section."""
    fits = gather(subject, performance, surfaces)
    if not fits:
        return Section("trust", "How far to trust it", missing=("no law is fitted, so there is none to doubt",))
    blocks: list[Text | Rows | Picture] = []
    missing, notices = [], []
    rows = {name: _fitted_rows(each, table) for name, (each, table) in fits.items()}
    shown = dict(list(fits.items())[:MOST_FITS])
    caption = "What fits leave of their points, against what they predict; a trend is a law that bends otherwise."
    blocks.append(
        Picture("residuals", _draw_residuals({name: (each, rows[name]) for name, (each, _) in shown.items()}), caption)
    )
    profiles: dict[tuple[str, str], Profile] = {}
    for name, (each, _) in list(fits.items())[:MOST_PROFILED]:
        for parameter in _main_parameters(each)[: len(each.columns)]:
            try:
                profiles[name, parameter] = profile(each, rows[name], parameter, points=POINTS, precision=PRECISION)
            except AnalysisError as error:
                missing.append(f"profile of {parameter} of {name}: {error}")
    if profiles:
        caption = (
            "Profile likelihood: how much worse a fit becomes where one parameter is held elsewhere, the others "
            "being fitted "
            "anew; below the line is its 95 % interval. A profile that stays below is hardly identified."
        )
        blocks.append(Picture("profiles", _draw_profiles(profiles), caption))
        rows_of_profiles = _profile_rows(profiles, {name: each for name, (each, _) in fits.items()})
        note = "An open end has none: the points do not exclude any value on that side."
        blocks.append(Rows("profile", "Intervals of two kinds", rows_of_profiles, note))
        notices += [text for (name, _), each in profiles.items() for text in tell(each.notices, name)]
    clouds = {
        name: each for name, (each, _) in shown.items() if len(each.replicates) > 1 and len(_main_parameters(each)) > 1
    }
    if clouds:
        caption = "The cloud of resamples: two parameters that move together are known better together than apart."
        blocks.append(Picture("cloud", _draw_clouds(clouds), caption))
    goodness = [_goodness(name, each) for name, (each, _) in fits.items()]
    blocks.append(Rows("goodness", "What each fit rests on", goodness, wrap=("left out",)))
    return Section("trust", "How far to trust it", tuple(blocks), notices=tuple(notices), missing=tuple(missing))


def gather(
    subject: Subject, performance: Performance, surfaces: Surfaces | None
) -> dict[str, tuple[Fit, pd.DataFrame]]:
    """Returns every fit of the report with its rows, surfaces first."""
    found: dict[str, tuple[Fit, pd.DataFrame]] = {}
    if surfaces is not None:
        found |= {f"{name}: L(N, D)": (each, surfaces.of(name)) for name, each in surfaces.fits.items()}
    if performance.lines is not None:
        rows = performance.lines.rows
        found |= {name: (each, rows[rows["line"] == name]) for name, each in performance.bootstrap.fits.items()}
    return found


def _fitted_rows(fit: Fit, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that were fitted, within the ranges of the fit."""
    target = fit.target or fit.form.target
    positive = [*fit.columns, *([target] if fit.objective.is_log else [])]
    kept = select_rows(rows, [*fit.columns, target], positive=positive)[0]
    for name, (low, high) in fit.ranges.items():
        kept = kept[(kept[name] >= low * (1 - 1e-9)) & (kept[name] <= high * (1 + 1e-9))]
    return kept


def _main_parameters(fit: Fit) -> list[str]:
    names = [name for name in FIRST if name in fit.params]
    return (names or list(fit.params))[:2]


def _goodness(name: str, fit: Fit) -> dict[str, Any]:
    left = ", ".join(f"{count} {reason}" for reason, count in fit.left_out.items() if reason != "not the final row")
    noise = None if fit.residual_sd is None else float(fit.residual_sd)
    return {
        "fit": name, "law": fit.law, "points": fit.n, "status": fit.status,
        fit.objective.name: fit.objective.value, "residual sd": noise,
        "condition": fit.condition, "left out": left or "nothing",
    }  # fmt: skip


def _profile_rows(profiles: Mapping[tuple[str, str], Profile], fits: Mapping[str, Fit]) -> list[dict[str, Any]]:
    rows = []
    for (name, parameter), each in profiles.items():
        low, high = ("open" if end is None else f"{end:.3g}" for end in each.interval)
        drawn = format_interval(*fits[name].ci95.get(parameter, (None, None)))
        rows.append(
            {"fit": name, "parameter": parameter, "estimate": each.estimate, "profile 95 %": f"{low} … {high}",
             "resamples 95 %": drawn}
        )  # fmt: skip
    return rows


def _draw_residuals(fits: Mapping[str, tuple[Fit, pd.DataFrame]]) -> Figure:
    from analysis.figures.shown import ShownFigure

    columns = min(3, len(fits))
    height = -(-len(fits) // columns)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 2.4 * height + 0.4), layout="constrained")
        grid = np.atleast_1d(figure.subplots(height, columns, squeeze=False)).ravel()
        for axes, (name, (fit, rows)) in zip(grid, fits.items(), strict=False):
            y = rows[fit.target or fit.form.target].to_numpy(dtype=float)
            fitted = fit.predict({column: rows[column].to_numpy(dtype=float) for column in fit.columns})
            rest = 100 * (y / fitted - 1) if fit.objective.is_log else y - fitted
            axes.axhline(0, color="#888888", lw=0.9)
            axes.plot(fitted, rest, "o", color=HUES[0], ms=3, alpha=0.6, mew=0)
            if (fitted > 0).all() and fitted.max() > 1.05 * fitted.min():
                axes.set_xscale("log")
                tidy_log_axis(axes.xaxis, float(fitted.min()) / 1.03, float(fitted.max()) * 1.03)
            axes.set_title(name if len(name) < 44 else f"{name[:41]}…", loc="left", fontsize=9)
            axes.set_ylabel("above the law (%)" if fit.objective.is_log else "above the law", fontsize=8.5)
        for axes in grid[len(fits) :]:
            axes.set_visible(False)
    return figure


def _draw_profiles(profiles: Mapping[tuple[str, str], Profile]) -> Figure:
    from analysis.figures.shown import ShownFigure

    parameters = list(dict.fromkeys(parameter for _, parameter in profiles))
    names = list(dict.fromkeys(name for name, _ in profiles))
    colours = dict(zip(names, itertools.cycle(HUES), strict=False))
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 3.4), layout="constrained")
        grid = np.atleast_1d(figure.subplots(1, len(parameters))).ravel()
        for axes, parameter in zip(grid, parameters, strict=True):
            top = 0.0
            for (name, other), each in profiles.items():
                if other == parameter:
                    axes.plot(each.values, each.deviance, "-", color=colours[name], lw=1.4, label=name)
                    axes.axhline(each.limit, color=colours[name], lw=0.7, ls=(0, (4, 3)))
                    top = max(top, each.limit)
            axes.set(xlabel=parameter, ylabel="deviance", ylim=(0, 2.2 * top))
        grid[0].legend(frameon=False, fontsize=8)
    return figure


def _draw_clouds(fits: Mapping[str, Fit]) -> Figure:
    from analysis.figures.shown import ShownFigure

    columns = min(3, len(fits))
    height = -(-len(fits) // columns)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 2.7 * height + 0.3), layout="constrained")
        grid = np.atleast_1d(figure.subplots(height, columns, squeeze=False)).ravel()
        for axes, (name, fit) in zip(grid, fits.items(), strict=False):
            first, second = _main_parameters(fit)
            order = list(fit.params)
            across, up = (fit.replicates[:DOTS, order.index(parameter)] for parameter in (first, second))
            axes.plot(across, up, ".", color=HUES[0], ms=3, alpha=0.4, mew=0, rasterized=True)
            axes.plot(fit.params[first], fit.params[second], "o", color=HUES[1], ms=6, mec="white")
            for axis, values in (
                ("x", fit.replicates[:, order.index(first)]),
                ("y", fit.replicates[:, order.index(second)]),
            ):
                low, high = np.quantile(values[np.isfinite(values)], [0.01, 0.99])
                margin = 0.15 * (high - low) or 0.1
                (axes.set_xlim if axis == "x" else axes.set_ylim)(low - margin, high + margin)
            axes.set(xlabel=first, ylabel=second)
            axes.set_title(name if len(name) < 44 else f"{name[:41]}…", loc="left", fontsize=9)
        for axes in grid[len(fits) :]:
            axes.set_visible(False)
    return figure
