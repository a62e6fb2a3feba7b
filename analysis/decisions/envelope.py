"""Chinchilla's first approach: which training curve is lowest at each compute, along their lower convex hull.

A curve counts at every evaluation, so its points must be what a run of that length would reach: constant learning
rates, or several horizons a size. With one cosine schedule a size, only the last evaluation is (Hoffmann et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.decisions.trends import Trend, check_exponents, fit_trend, show_lines
from analysis.errors import AnalysisError
from analysis.fitting.notices import Notice
from analysis.laws.law import Array

if TYPE_CHECKING:
    import pandas as pd

LEVELS = 1500  # log-spaced budgets at which the hull is read (Hoffmann et al. 2022, appendix)
CELL = "cell"  # the column that names a run
MIN_SIZES = 3  # between the smallest and the largest: with fewer the line is drawn through two jumps


@dataclass(frozen=True)
class Envelope:
    """The lower convex hull of training curves, and how its sizes grow with compute; prints a row for each size.

    Attributes:
      points: The hull's corners: `train_flops num_params data_seen loss cell is_edge`. Edge corners belong to the
        smallest or the largest size, which nothing smaller or larger competed with; no line goes through them.
      size: N* against C.
      data: D* against C.
      warnings: Coded warnings with remedies.
    """

    points: pd.DataFrame
    size: Trend
    data: Trend
    warnings: tuple[Notice, ...]

    def to_frame(self) -> pd.DataFrame:
        """Returns `points`."""
        return self.points

    def __str__(self) -> str:
        head = f"envelope of training curves: {show_lines(self.size.exponent, self.data.exponent)}"
        runs = self.points.groupby("num_params").agg(
            first_flops=("train_flops", "min"),
            last_flops=("train_flops", "max"),
            lowest_loss=("loss", "min"),
            is_edge=("is_edge", "first"),
        )
        table = runs.reset_index().to_string(index=False, float_format=lambda value: f"{value:.5g}")
        return "\n".join([head, table, *map(str, self.warnings)])


def fit_envelope(
    table: pd.DataFrame,
    *,
    by: str = CELL,
    target: str = "loss",
    levels: int = LEVELS,
    resamples: int = 400,
    seed: int = 0,
) -> Envelope:
    """Returns the convex hull of log loss against log compute, and the power laws of N* and D* along it.

    The hull is read at log-spaced budgets between its first corner that is not of the smallest size and its last one
    that is not of the largest; N and D there are interpolated in logarithms. Resamples draw whole curves again.

    Args:
      table: Every evaluation, not only final ones, with `train_flops`, `num_params`, `data_seen` and the target.
      by: Column that names the curve of a row.
      target: What is lowest.
      levels: Budgets at which the hull is read.
      resamples: R.
      seed: Of the resamples.

    Raises:
      AnalysisError: on missing columns, curves of a single evaluation, or a hull on which sizes do not compete.
    """
    import pandas as pd

    from analysis.errors import suggest_name
    from analysis.tables.run_names import is_empty
    from analysis.tables.table import read_numbers, select_rows

    if by not in table.columns and by == CELL:
        raise AnalysisError(
            f"by={by!r}: no column names each row's run, so there is no curve; name the one that does (--column "
            "cell=THEIRS)"
        )
    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    if levels < 2 or resamples < 0:
        raise AnalysisError(f"levels={levels} must be at least 2 and resamples={resamples} not negative; use 1500, 400")
    needed = ["train_flops", "num_params", "data_seen", target]
    rows, _, _ = select_rows(table, needed, positive=needed, only_final=False)
    C, N, D, y = (np.log(read_numbers(rows, name)) for name in needed)
    labels = rows[by].astype(str).to_numpy(dtype=object)
    if (empty := is_empty(rows[by])).any():  # an evaluation that names no run is a curve by itself
        labels[empty] = [f"(no {by}) {place}" for place in np.flatnonzero(empty)]
    names, curve = np.unique(labels.astype(str), return_inverse=True)
    counts = np.bincount(curve, minlength=1)
    if not len(rows) or counts.max() < 2:
        raise AnalysisError(
            f"{by}: no curve has two usable evaluations ({len(names)} curves); an envelope needs evaluations during "
            "training: read the table without is_final==True"
        )
    corners = np.concatenate([_hull(C, y, np.flatnonzero(curve == k)) for k in range(len(names))])
    corners = corners[np.lexsort((y[corners], C[corners]))]  # a hull of hulls is the hull of all points
    hull = _hull(C, y, corners)
    inner = _inside(N[hull])
    sizes = len(np.unique(N[hull][inner]))
    if sizes < 2 or C[hull][inner][-1] <= C[hull][inner][0]:
        raise AnalysisError(
            f"num_params: {sizes} of {len(np.unique(N))} sizes are lowest anywhere between the smallest and the "
            "largest, and a line needs 2; run more sizes, trained until larger ones overtake them"
        )
    notices = []
    if sizes < MIN_SIZES or len(np.unique(N)) < MIN_SIZES + 2:
        text = (
            f"{sizes} sizes carry the line, the smallest and largest having nothing beside them to compete with; run "
            f"at least {MIN_SIZES + 2} sizes"
        )
        notices.append(Notice(code="few_sizes", text=text, is_weak=True))
    grid = np.linspace(C[hull][inner][0], C[hull][inner][-1], levels)
    rng, places = np.random.default_rng(seed), curve[corners]
    read = [_read(C, N, D, hull, grid)]
    for _ in range(resamples):
        drawn = np.zeros(len(names), dtype=bool)
        drawn[rng.integers(0, len(names), len(names))] = True
        again = corners[drawn[places]]
        kept = _hull(C, y, again) if len(again) > 1 else again
        read.append(_read(C, N, D, kept, grid))
    log_n, log_d = (np.stack(values) for values in zip(*read, strict=True))
    lost = float(np.isnan(log_n[1:]).all(axis=1).mean()) if resamples else 0.0
    if lost > 0.05:
        text = f"{lost:.0%} of the resamples have no line, and its interval comes from the others; run more curves"
        notices.append(Notice(code="few_curves", text=text, is_weak=True))
    points = pd.DataFrame(
        {
            "train_flops": np.exp(C[hull]),
            "num_params": np.exp(N[hull]),
            "data_seen": np.exp(D[hull]),
            "loss": np.exp(y[hull]),
            by: names[curve[hull]],
            "is_edge": ~inner,
        }
    )
    size, data = (fit_trend(np.exp(grid), np.exp(values)) for values in (log_n, log_d))
    notices += check_exponents(size.exponent, data.exponent)
    return Envelope(points, size, data, tuple(notices))


def _hull(x: Array, y: Array, places: Array) -> Array:
    """Returns the places on the lower convex hull of points, from left to right, up to the lowest one.

    Args:
      x: Log compute of all points.
      y: Log loss of all points.
      places: Those that count.
    """
    order = places[np.lexsort((y[places], x[places]))]
    kept: list[int] = []
    for place in order.tolist():
        if kept and x[place] == x[kept[-1]]:
            continue
        while len(kept) > 1:
            first, second = kept[-2], kept[-1]
            rise, run = y[place] - y[first], x[place] - x[first]
            if (y[second] - y[first]) * run < rise * (x[second] - x[first]):
                break
            kept.pop()
        kept.append(place)
    lowest = int(np.argmin(y[kept])) if kept else 0
    return np.array(kept[: lowest + 1], dtype=int)


def _inside(log_n: Array) -> Array:
    """Returns which corners `[k]` of a hull lie between those of its smallest and of its largest size."""
    is_edge = (log_n == log_n.min()) | (log_n == log_n.max())
    return ~is_edge


def _read(C: Array, N: Array, D: Array, hull: Array, grid: Array) -> tuple[Array, Array]:
    """Returns log N and log D `[levels]` along a hull, NaN where its own inner corners do not reach."""
    inner = hull[_inside(N[hull])] if len(hull) else hull
    if len(inner) < 2:
        return np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    reach = (grid >= C[inner[0]] - 1e-9) & (grid <= C[inner[-1]] + 1e-9)
    return tuple(np.where(reach, np.interp(grid, C[hull], values[hull]), np.nan) for values in (N, D))  # type: ignore[return-value]
