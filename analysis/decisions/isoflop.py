"""Chinchilla's second approach: the size with the lowest loss at each budget, from a curve through its isoFLOP profile.

A parabola, as published, is biased even without noise when the two exponents of the loss differ, by more the wider the
sizes are spread; a cubic is hardly biased and is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.decisions.optimum import Estimate, estimate
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import FAR, Notice
from analysis.laws.law import Array
from scaling.specs.fits import RESAMPLES

if TYPE_CHECKING:
    import pandas as pd

Curve = Literal["cubic", "parabola", "akima"]
# Polynomials by degree; Akima's local interpolation takes no side on the shape (Porian et al. 2024, 2406.19146).
DEGREES = {"cubic": 3, "parabola": 2, "akima": 3}
AKIMA_GRID = 25  # points between two sizes among which the interpolation's minimum is sought (Porian et al.)
FLOOR = 0.33  # least spread of a vertex, in spacings of the sizes: no grid says more of where its minimum is (ibid.)
MIN_BUDGETS = 5  # SCIENCE: below, one budget off its line moves the exponent
UNEVEN = 0.02  # spread of C in a budget: 2 % moves a loss by .1 %, as a size does that is a quarter off the optimum
MIN_SHARE = 0.5  # of the resamples in which a budget must keep its minimum to count


@dataclass(frozen=True)
class Trend:
    """A power law y = k C^e through optima at several budgets.

    Attributes:
      exponent: e.
      log_factor: log k.
      r2: Of the logarithms.
      ranges: Smallest and largest C.
      draws: Resamples `[R, 2]` of (log k, e); NaN where a resample has no line.
    """

    exponent: Estimate
    log_factor: float
    r2: float
    ranges: tuple[float, float]
    draws: Array = field(repr=False)

    def at(self, flops: float) -> Estimate:
        """Returns y at a budget."""
        log_c = np.log(flops)
        value = np.exp(self.log_factor + self.exponent.value * log_c)
        return estimate(float(value), np.exp(self.draws[:, 0] + self.draws[:, 1] * log_c))


@dataclass(frozen=True)
class IsoFlops:
    """The optima of isoFLOP profiles and how they grow with compute; prints as a table.

    Attributes:
      curve: What was put through each profile.
      points: A row for each budget that counts: `train_flops num_params low high data_seen loss sizes share`, with the
        95 % interval of the size and the share of resamples in which its minimum was inside.
      skipped: Why another budget does not count, by its FLOPs.
      size: N* against C.
      data: D* against C.
      warnings: Coded warnings with remedies.
    """

    curve: Curve
    points: pd.DataFrame
    skipped: Mapping[float, str]
    size: Trend
    data: Trend
    warnings: tuple[Notice, ...]

    def to_frame(self) -> pd.DataFrame:
        """Returns `points`."""
        return self.points

    def __str__(self) -> str:
        head = f"isoFLOP profiles ({self.curve}): N* ~ C^{self.size.exponent}, D* ~ C^{self.data.exponent}"
        table = self.points.to_string(index=False, float_format=lambda value: f"{value:.5g}")
        return "\n".join([head, table, *map(str, self.warnings)])


def fit_isoflops(
    table: pd.DataFrame,
    *,
    curve: Curve = "cubic",
    target: str = "loss",
    log_target: bool = False,
    tolerance: float = 0.1,
    weights: str | None = None,
    noise: float | str | None = None,
    weigh: Literal["equal", "spread"] = "equal",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> IsoFlops:
    """Returns the minimum of every isoFLOP profile, and the power laws of N* and D* through them.

    A budget counts only if its minimum is bracketed: the lowest point, and the lowest place of the curve, lie between
    the smallest and the largest size. Resamples go through both stages: points are drawn again within each budget (or
    noise is added to all of them), minima sought again, and lines fitted through what they give.

    Args:
      table: Rows with `train_flops`, `num_params`, `data_seen` and the target; of runs, their final ones count.
      curve: `cubic`, `parabola` (for comparison with published numbers) or `akima`, in log N.
      target: What to minimise.
      log_target: Whether the curve describes its logarithm.
      tolerance: Budgets within this share of the smallest of them are one.
      weights: A column of weights of the points.
      noise: Standard deviation of log target, a number or a column: resamples then add it instead of drawing points.
      weigh: In the lines: every budget alike, or by the inverse variance of its size over the resamples.
      resamples: R.
      seed: Of the resamples.

    Raises:
      AnalysisError: on unknown names, missing columns, or fewer than two budgets with a minimum inside.
    """
    import pandas as pd

    from analysis.tables.table import read_numbers, select_rows

    if curve not in DEGREES:
        raise suggest_name("curve", curve, DEGREES)
    if weigh not in ("equal", "spread"):
        raise suggest_name("weigh", weigh, ("equal", "spread"))
    if not 0 <= tolerance < 1:
        raise AnalysisError(f"tolerance={tolerance:g} must be at least 0 and below 1; 0.1 joins budgets within 10 %")
    if resamples < 0:
        raise AnalysisError(f"resamples={resamples} must not be negative; 1000 give 95 % intervals")
    needed = ["train_flops", "num_params", "data_seen", target]
    extra = [name for name in (weights, noise) if isinstance(name, str)]
    rows, _, _ = select_rows(table, [*needed, *extra], positive=needed)
    C, N, D, y = (read_numbers(rows, name) for name in needed)
    w = np.ones(len(rows)) if weights is None else read_numbers(rows, weights)
    sd = None if noise is None else read_numbers(rows, noise) if isinstance(noise, str) else np.full(len(rows), noise)
    rng, groups = np.random.default_rng(seed), group_budgets(C, tolerance)
    kept, skipped, notices = [], {}, []
    for here in groups:
        flops = float(np.exp(np.log(C[here]).mean()))
        x, log_y = np.log(N[here]), np.log(y[here])
        problem = _check_profile(x, log_y, curve)
        if problem is None:
            found = _locate(x, log_y, w[here], None if sd is None else sd[here], curve, log_target, resamples, rng)
            share = float(np.isfinite(found[0][1:]).mean()) if resamples else 1.0
            problem = found[2] or None
            if problem is None and share < MIN_SHARE:
                problem = f"its minimum is inside the sizes in {share:.0%} of the resamples; add sizes or seeds"
        if problem is not None:
            skipped[flops] = problem
            text = f"budget {flops:.4g} does not count: {problem}"
            notices.append(Notice(code="isoflop_edge" if "edge" in problem else "isoflop_skipped", text=text))
            continue
        if (uneven := float(C[here].max() / C[here].min() - 1)) > UNEVEN:
            text = (
                f"runs at budget {flops:.4g} differ by {uneven:.0%} in FLOPs, and their losses for that too; give a "
                "smaller tolerance, or run equal budgets"
            )
            notices.append(Notice(code="uneven_budget", text=text))
        slope, level = np.polyfit(x, np.log(D[here]), 1)  # exact where C = 6 N D
        spacing = float(np.diff(np.unique(x)).mean())
        kept.append((flops, found[0], level + slope * found[0], found[1], len(np.unique(x)), share, spacing))
    if len(kept) < 2:
        listed = [f"{flops:.3g}: {reason}" for flops, reason in skipped.items()]
        reasons = "; ".join(listed[:3] + [f"{len(listed) - 3} more"] * (len(listed) > 3)) or "there are no others"
        raise AnalysisError(
            f"train_flops has {len(groups)} budgets of which {len(kept)} have a minimum inside their sizes, and a line "
            f"needs 2 ({reasons}); run more sizes at each budget"
        )
    budgets, sizes, data, losses, counts, shares, spacings = (list(item) for item in zip(*kept, strict=True))
    log_n, log_d = np.stack(sizes, axis=1), np.stack(data, axis=1)  # [1 + R, G]
    spread = None
    if weigh == "spread" and resamples:
        spread = np.maximum(np.nanstd(log_n[1:], axis=0), FLOOR * np.array(spacings))
    if len(kept) < MIN_BUDGETS:
        text = (
            f"{len(kept)} budgets carry the line: one that is off moves the exponent; run at least {MIN_BUDGETS} over "
            "two decades"
        )
        notices.append(Notice(code="few_budgets", text=text, is_weak=len(kept) < 3))
    ends = [estimate(np.exp(row[0]), np.exp(row[1:])) for row in sizes]
    points = pd.DataFrame(
        {
            "train_flops": budgets,
            "num_params": np.exp(log_n[0]),
            "low": [end.low for end in ends],
            "high": [end.high for end in ends],
            "data_seen": np.exp(log_d[0]),
            "loss": losses,
            "sizes": counts,
            "share": shares,
        }
    ).astype({"low": float, "high": float})
    size, growth = (fit_trend(budgets, np.exp(log), sd=spread) for log in (log_n, log_d))
    return IsoFlops(curve, points, skipped, size, growth, tuple(notices))


def fit_trend(flops: Array | list[float], values: Array, *, sd: Array | None = None) -> Trend:
    """Returns the power law through values at budgets, by least squares of logarithms.

    Args:
      flops: Budgets `[G]`.
      values: `[G]`, or `[1 + R, G]` with resamples after the estimate; NaN leaves a budget out of a resample.
      sd: Standard deviation of each log value `[G]`: weights are its inverse square.

    Raises:
      AnalysisError: on fewer than two budgets.

    >>> trend = fit_trend([1e18, 1e19, 1e20], np.array([1e8, 3e8, 9e8]))
    >>> round(trend.exponent.value, 6), round(trend.at(1e21).value / 27e8, 6)
    (0.477121, 1.0)
    """
    x, y = np.log(np.asarray(flops, dtype=np.float64)), np.log(np.atleast_2d(np.asarray(values, dtype=np.float64)))
    if len(np.unique(x)) < 2:
        raise AnalysisError(f"flops={np.exp(x).tolist()} has {len(np.unique(x))} budgets; a power law needs 2")
    w = np.isfinite(y) / (1.0 if sd is None else np.asarray(sd, dtype=np.float64) ** 2)
    y = np.where(np.isfinite(y), y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = w.sum(axis=1, keepdims=True)
        x_mean, y_mean = (w * x).sum(axis=1, keepdims=True) / total, (w * y).sum(axis=1, keepdims=True) / total
        slope = (w * (x - x_mean) * (y - y_mean)).sum(axis=1) / (w * (x - x_mean) ** 2).sum(axis=1)
        level = y_mean[:, 0] - slope * x_mean[:, 0]
        left = (w[0] * (y[0] - level[0] - slope[0] * x) ** 2).sum()
        r2 = 1 - left / (w[0] * (y[0] - y_mean[0]) ** 2).sum()
    lines = np.stack([level, slope], axis=1)[1:]
    lines[(w[1:] > 0).sum(axis=1) < 2] = np.nan
    ranges = float(np.exp(x.min())), float(np.exp(x.max()))
    return Trend(estimate(float(slope[0]), lines[:, 1]), float(level[0]), float(r2), ranges, lines)


def group_budgets(flops: Array, tolerance: float) -> list[Array]:
    """Returns the places of each budget's points, in ascending order of the budgets.

    >>> [places.tolist() for places in group_budgets(np.array([1e19, 1.05e18, 1e18]), 0.1)]
    [[2, 1], [0]]
    """
    groups: list[list[int]] = []
    for place in np.argsort(flops, kind="stable"):
        if groups and flops[place] <= flops[groups[-1][0]] * (1 + tolerance):
            groups[-1].append(int(place))
        else:
            groups.append([int(place)])
    return [np.array(group) for group in groups]


def check_budget(flops: float, ranges: tuple[float, float], what: str) -> list[Notice]:
    """Returns a notice where a budget is far outside of those that a line was fitted through."""
    beyond = max(flops / ranges[1], ranges[0] / flops)
    if beyond <= FAR:
        return []
    text = (
        f"{what}: {flops:.3g} FLOPs are {beyond:.3g} times beyond the budgets ({ranges[0]:.3g} to {ranges[1]:.3g}); a "
        "straight line need not go on that far: add a larger budget"
    )
    return [Notice(code="extrapolation", text=text)]


def find_vertices(x: Array, y: Array, weights: Array, degree: int) -> tuple[Array, Array]:
    """Returns the place and value `[R]` of the lowest point of polynomials through R weighted profiles.

    NaN where there is none inside: too few sizes, no minimum, or an end that is lower.

    Args:
      x: Log sizes `[n]`.
      y: `[R, n]` or `[1, n]`.
      weights: `[R, n]` or `[1, n]`.
      degree: 2 or 3.
    """
    middle, half = (x.max() + x.min()) / 2, (x.max() - x.min()) / 2
    z, place = (x - middle) / half, np.unique(x, return_inverse=True)[1]
    members = max(len(y), len(weights))
    y, w = np.broadcast_to(y, (members, len(x))), np.broadcast_to(weights, (members, len(x)))
    present = np.stack([(w[:, place == k] > 0).any(axis=1) for k in range(place.max() + 1)], axis=1)
    usable = present.sum(axis=1) > degree
    basis = np.polynomial.legendre.legvander(z, degree)  # well conditioned on [-1, 1]
    root = np.sqrt(w[usable])[:, :, None]
    coefficients = np.full((members, 4), np.nan)
    if usable.any():
        solved = np.linalg.pinv(root * basis) @ (root * y[usable, :, None])
        to_powers = np.stack([np.pad(np.polynomial.legendre.leg2poly(row), (0, 4))[:4] for row in np.eye(degree + 1)])
        coefficients[usable] = solved[:, :, 0] @ to_powers
    level, c1, c2, c3 = coefficients.T
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = np.sqrt(c2**2 - 3 * c3 * c1)  # half the second derivative at the minimum; NaN where there is none
        at = np.where(c2 > 0, -c1 / (c2 + bend), (bend - c2) / (3 * c3))
        value = level + at * (c1 + at * (c2 + at * c3))
        ends = level + c2 - np.abs(c1 + c3)
        inside = (np.abs(at) < 1) & (bend > 0) & (value <= ends)
    return np.where(inside, middle + half * at, np.nan), np.where(inside, value, np.nan)


def _check_profile(x: Array, log_y: Array, curve: Curve) -> str | None:
    """Returns why a profile cannot have a minimum inside, or None."""
    sizes = np.unique(x)
    if len(sizes) <= DEGREES[curve]:
        fewer = " or choose curve='parabola'" if curve == "cubic" and len(sizes) == 3 else ""
        return f"it has {len(sizes)} sizes and a {curve} needs {DEGREES[curve] + 1}; add sizes{fewer}"
    means = [log_y[x == size].mean() for size in sizes]
    lowest = int(np.argmin(means))
    if lowest in (0, len(sizes) - 1):
        name, beyond = ("smallest", "below") if lowest == 0 else ("largest", "above")
        size = np.exp(sizes[lowest])
        return f"its lowest loss is on the edge, at the {name} size {size:.4g}; add sizes {beyond} it"
    return None


def _locate(
    x: Array,
    log_y: Array,
    w: Array,
    sd: Array | None,
    curve: Curve,
    log_target: bool,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Array, float, str]:
    """Returns log sizes `[1 + R]` of the minimum and of its resamples, the estimate's target, and what is wrong."""
    if sd is None:
        counts = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), resamples)
        weights, targets = np.concatenate([w[None], counts * w]), log_y[None]
    else:
        drawn = log_y + sd * rng.standard_normal((resamples, len(x)))
        weights, targets = w[None], np.concatenate([log_y[None], drawn])
    targets = targets if log_target else np.exp(targets)
    if curve == "akima":
        at, value = _interpolate(x, targets, weights)
    else:
        at, value = find_vertices(x, targets, weights, DEGREES[curve])
    lowest = np.exp(value[0]) if log_target else value[0]
    problem = "" if np.isfinite(at[0]) else f"the {curve} has its minimum on the edge of the sizes; add sizes beyond it"
    return at, float(lowest), problem


def _interpolate(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Returns as `find_vertices` for Akima's interpolation in log N through the mean at each size."""
    from scipy.interpolate import Akima1DInterpolator

    sizes, place = np.unique(x, return_inverse=True)
    member = np.eye(len(sizes))[place]
    sums = weights @ member
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.broadcast_to((weights * y) @ member / sums, (max(len(y), len(weights)), len(sizes)))
    at, value = np.full(len(means), np.nan), np.full(len(means), np.nan)
    patterns, which = np.unique(np.broadcast_to(sums > 0, means.shape), axis=0, return_inverse=True)
    for index, present in enumerate(patterns):
        if present.sum() <= DEGREES["akima"]:
            continue
        rows = np.flatnonzero(which == index)
        grid = np.linspace(sizes[present][0], sizes[present][-1], (int(present.sum()) - 1) * AKIMA_GRID)
        curves = Akima1DInterpolator(sizes[present], means[rows][:, present].T)(grid)  # [grid, rows]
        lowest = curves.argmin(axis=0)
        inside = (lowest > 0) & (lowest < len(grid) - 1)
        at[rows] = np.where(inside, grid[lowest], np.nan)
        value[rows] = np.where(inside, curves[lowest, np.arange(len(rows))], np.nan)
    return at, value
