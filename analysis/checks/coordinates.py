"""The coordinate check's verdict and figure: do activations and their changes keep their size as a network grows?

Takes plain rows, as `scaling.checks.coordinates` measures them: `parametrization axis value seed step path kind l1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.figures.style import HUES, NAMES_OF_PARAMETRIZATIONS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

# Slopes of log mean |x| on log size that pass. In the limit of large sizes all would be 0; Yang et al. (2022, appendix
# D.1) look for flat curves from widths of some hundreds on. From a width of 64 and two blocks on, the sound ones reach
# 0.18 here, and the standard one 0.24 to 1.4.
MAX_SLOPE = 0.2

# What falls is harmless where it is the random initial part beside the learnt one, which falls as n^-1/2 in logits and
# attention scores (Yang et al. 2022, appendix D.1); activations have slopes down to -0.26 over width here, for the same
# reason. A layer whose changes fall as n^-1/2 to the end does not learn (Yang & Hu 2021).
MIN_HIDDEN_SLOPE, MIN_UPDATE_SLOPE = -0.35, -0.45


def fit_slopes(rows: Rows) -> list[dict[str, Any]]:
    """Returns the slope of log l1 on log size, for each parametrisation, axis, path, kind and step.

    >>> rows = [{"parametrization": "mup", "axis": "width", "value": n, "seed": 0, "step": 1, "path": "head",
    ...          "kind": "logits", "l1": 3 * n**-0.5} for n in (64, 128, 256)]
    >>> [round(row["slope"], 3) for row in fit_slopes(rows)]
    [-0.5]
    """
    names = ("parametrization", "axis", "path", "kind", "step")
    groups: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append((row["value"], row["l1"]))
    slopes = []
    for key, points in groups.items():
        values, sizes = np.log(np.maximum(points, np.finfo(np.float32).tiny)).T
        # What overflows has grown beyond any bound.
        slope = np.polyfit(values, sizes, 1)[0] if np.isfinite(sizes).all() else np.inf
        slopes.append({**dict(zip(names, key, strict=True)), "slope": float(slope)})
    return slopes


def judge(slopes: Rows) -> list[dict[str, Any]]:
    """Returns one row a parametrisation and axis: its worst slopes, whether it passes, and where it does not.

    From the first step on, nothing may grow: no activation, logit, attention score or change of one has a slope above
    MAX_SLOPE. Over width no activation falls below MIN_HIDDEN_SLOPE, and at the last step no hidden change below
    MIN_UPDATE_SLOPE. Over depth the latter is asked of what the last blocks of a chain end in, and the former of
    nothing: the more blocks there are the less each adds, so that sums fall by design where few blocks have been
    passed, and the random initial parts of the blocks average out everywhere (Dey et al. 2025, section 3). At t = 0
    nothing is asked: what the readout says may vanish, and batch norm has hidden the rest.

    Columns: `parametrization axis hidden update logits frozen passes worst`. `hidden`, `update` and `logits` (with
    scores) are the greatest slopes, but `hidden` over width that farthest from 0; `frozen` is the least of the last
    changes that may not fall, None without any; `worst` the place that fails by most, None where none does.
    """
    verdicts = []
    for parametrization, axis in dict.fromkeys((row["parametrization"], row["axis"]) for row in slopes):
        own = [row for row in slopes if (row["parametrization"], row["axis"]) == (parametrization, axis)]
        last = max(row["step"] for row in own)
        trained = [row for row in own if row["step"] >= 1]
        hidden = [row for row in trained if row["kind"] == "hidden"]
        updates = [row for row in trained if row["kind"] == "update"]
        places = {row["path"] for row in hidden if axis == "width" or row["path"].endswith("_last")}
        changes = [row for row in updates if row["step"] == last and row["path"] in places]
        excess = [(row["slope"] - MAX_SLOPE, row) for row in trained]
        if axis == "width":
            excess += [(MIN_HIDDEN_SLOPE - row["slope"], row) for row in hidden]
        excess += [(MIN_UPDATE_SLOPE - row["slope"], row) for row in changes]
        most, worst = max(excess, key=lambda pair: pair[0])
        verdicts.append(
            {
                "parametrization": parametrization,
                "axis": axis,
                "hidden": max((row["slope"] for row in hidden), key=abs if axis == "width" else None),
                "update": max(row["slope"] for row in updates),
                "logits": max(row["slope"] for row in trained if row["kind"] in ("logits", "scores")),
                "frozen": min((row["slope"] for row in changes), default=None),
                "passes": most <= 0,
                "worst": f"{worst['kind']} {worst['path']}, t = {worst['step']}" if most > 0 else None,
            }
        )
    return verdicts


def plot_coordinates(rows: Rows, verdicts: Rows, title: str) -> Figure:
    """Returns the sizes at the last step over their values at the base: flat lines pass.

    A row of panels an axis, a panel a parametrisation; a line is one place, the geometric mean over seeds.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    from analysis.figures.shown import ShownFigure

    looks = {"hidden": (HUES[0], "-"), "logits": (HUES[1], "-"), "scores": (HUES[2], "-"), "update": (HUES[6], ":")}
    names = {"hidden": "activations", "logits": "logits", "scores": "scores", "update": "changes since t = 0"}
    axes_names = list(dict.fromkeys(row["axis"] for row in verdicts))
    num_columns = max(sum(row["axis"] == name for row in verdicts) for name in axes_names)
    last = max(row["step"] for row in rows)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(1.2 + 4.0 * num_columns, 0.9 + 3.1 * len(axes_names)), layout="constrained")
        grid = figure.subplots(len(axes_names), num_columns, squeeze=False, sharey="row")
        for panels, axis in zip(grid, axes_names, strict=True):
            shown = [verdict for verdict in verdicts if verdict["axis"] == axis]
            for panel in panels[len(shown) :]:
                panel.set_visible(False)
            for panel, verdict in zip(panels, shown, strict=False):
                own = [
                    row for row in rows if (row["parametrization"], row["axis"]) == (verdict["parametrization"], axis)
                ]
                lines = _relative_sizes([row for row in own if row["step"] == last])
                for kind in ("update", "hidden", "scores", "logits"):
                    colour, dash = looks[kind]
                    for values, sizes in (line for (_, of), line in lines.items() if of == kind):
                        panel.plot(values, sizes, color=colour, ls=dash, marker="o", ms=3, lw=1.3, alpha=0.8)
                panel.set(xscale="log", yscale="log", xlabel=axis)
                values = sorted({row["value"] for row in own})
                panel.xaxis.set_major_locator(FixedLocator(values))
                panel.xaxis.set_minor_locator(NullLocator())
                panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.yaxis.set_minor_formatter(NullFormatter())
                outcome = "passes" if verdict["passes"] else "fails"
                name = NAMES_OF_PARAMETRIZATIONS[verdict["parametrization"]]
                panel.set_title(f"{name}, {axis}: {outcome}", loc="left", fontsize=10.5)
            panels[0].set_ylabel(f"mean |x| at t = {last}\nover that at the smallest {axis}")
        kinds = [kind for kind in looks if any(row["kind"] == kind for row in rows)]
        handles = [Line2D([], [], color=looks[kind][0], ls=looks[kind][1], label=names[kind]) for kind in kinds]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _relative_sizes(rows: Rows) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """Returns (sizes of the network, geometric means of l1 over that of the smallest) by (path, kind)."""
    logs: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        if 0.0 < row["l1"] < np.inf:
            logs.setdefault((row["path"], row["kind"]), {}).setdefault(row["value"], []).append(np.log(row["l1"]))
    lines = {}
    for place, found in logs.items():
        means = {value: float(np.mean(found[value])) for value in sorted(found)}
        first = next(iter(means.values()))
        lines[place] = list(means), [float(np.exp(mean - first)) for mean in means.values()]
    return lines
