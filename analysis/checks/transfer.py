"""Learning-rate transfer: where the best learning rate of each size lies, and the figure of it.

Takes plain rows, as `scaling.checks.transfer` measures them: `parametrization axis value seed peak_lr loss`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.figures.style import NAMES_OF_PARAMETRIZATIONS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


def mean_losses(rows: Rows) -> dict[tuple[str, str], dict[int, dict[float, float]]]:
    """Returns mean losses over seeds by (parametrisation, axis), size and learning rate; infinite if one diverged."""
    found: dict[Any, Any] = {}
    for row in rows:
        curve = found.setdefault((row["parametrization"], row["axis"]), {}).setdefault(row["value"], {})
        curve.setdefault(row["peak_lr"], []).append(row["loss"])
    return {
        key: {
            value: {lr: float(np.mean(seeds)) if np.isfinite(seeds).all() else np.inf for lr, seeds in curve.items()}
            for value, curve in curves.items()
        }
        for key, curves in found.items()
    }


def find_optima(rows: Rows) -> list[dict[str, Any]]:
    """Returns a row for each parametrisation, axis and size: the learning rate of least mean loss, and how far it is.

    Columns: `parametrization axis value peak_lr loss moved inside`. `moved` is in octaves (factors of two) from that of
    the smallest size; `inside` tells whether neighbours on both sides were tried.

    >>> losses = {(64, 0.01): 1.0, (64, 0.02): 2.0, (512, 0.01): 2.0, (512, 0.02): 1.5}
    >>> rows = [{"parametrization": "mup", "axis": "width", "value": n, "seed": 0, "peak_lr": lr, "loss": loss}
    ...         for (n, lr), loss in losses.items()]
    >>> [(row["peak_lr"], row["moved"]) for row in find_optima(rows)]
    [(0.01, 0.0), (0.02, 1.0)]
    """
    optima = []
    for (parametrization, axis), curves in mean_losses(rows).items():
        first: float | None = None
        for value in sorted(curves):
            curve = curves[value]
            best = min(curve, key=lambda lr: curve[lr])
            first = best if first is None else first
            optima.append(
                {
                    "parametrization": parametrization,
                    "axis": axis,
                    "value": value,
                    "peak_lr": best,
                    "loss": curve[best],
                    "moved": float(np.log2(best / first)),
                    "inside": min(curve) < best < max(curve),
                }
            )
    return optima


def plot_transfer(rows: Rows, title: str) -> Figure:
    """Returns loss against learning rate: a panel a parametrisation and axis, a line a size, a dot its optimum."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from analysis.figures.shown import ShownFigure

    curves = mean_losses(rows)
    optima = {(row["parametrization"], row["axis"], row["value"]): row for row in find_optima(rows)}
    axes_names = list(dict.fromkeys(axis for _, axis in curves))
    by_axis = {axis: [scheme for scheme, of in curves if of == axis] for axis in axes_names}
    num_columns = max(map(len, by_axis.values()))
    # From a light to the darkest shade of the family's first hue, as sizes have in the other figures.
    shades = LinearSegmentedColormap.from_list("sizes", ["#9CCBEA", "#0072B2", "#00263D"])
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(0.8 + 4.3 * num_columns, 0.6 + 3.5 * len(axes_names)), layout="constrained")
        grid = figure.subplots(len(axes_names), num_columns, squeeze=False, sharey="row", sharex="row")
        for panels, axis in zip(grid, axes_names, strict=True):
            for panel in panels[len(by_axis[axis]) :]:
                panel.set_visible(False)
            finite = [
                loss
                for scheme in by_axis[axis]
                for curve in curves[scheme, axis].values()
                for loss in curve.values()
                if np.isfinite(loss)
            ]
            for panel, scheme in zip(panels, by_axis[axis], strict=False):
                sizes = sorted(curves[scheme, axis])
                panel.axvline(optima[scheme, axis, sizes[0]]["peak_lr"], color="#555555", ls=":", lw=1.0, zorder=1)
                for rank, value in enumerate(sizes):
                    curve = curves[scheme, axis][value]
                    colour = shades(rank / max(1, len(sizes) - 1))
                    rates = sorted(curve)
                    panel.plot(rates, [curve[lr] for lr in rates], color=colour, lw=1.6, label=f"{value}")
                    best = optima[scheme, axis, value]
                    panel.plot(best["peak_lr"], best["loss"], "o", color=colour, ms=7, mec="white", mew=1.0, zorder=4)
                panel.set(xscale="log", xlabel="peak learning rate")
                panel.set_ylim(min(finite) - 0.05 * (np.median(finite) - min(finite)), _ceiling(finite))
                panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.xaxis.set_minor_formatter(NullFormatter())
                panel.set_title(f"{NAMES_OF_PARAMETRIZATIONS[scheme]}, over {axis}", loc="left", fontsize=10.5)
            panels[0].set_ylabel("final training loss (nats)")
            panels[len(by_axis[axis]) - 1].legend(title=axis, frameon=False, loc="upper left", fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _ceiling(losses: Sequence[float]) -> float:
    """Returns the top of the axis: curves leave the panel where they diverge."""
    low, middle = min(losses), float(np.median(losses))
    return low + 2.5 * (middle - low)
