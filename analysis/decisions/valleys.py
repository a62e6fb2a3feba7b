"""One isoFLOP profile: the curve through its losses, where that is lowest, and why it may not count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.decisions.optimum import Estimate, estimate
from analysis.laws.law import Array

Curve = Literal["cubic", "parabola", "akima"]
# Polynomials by degree; Akima's local interpolation takes no side on the shape (Porian et al. 2024, 2406.19146).
DEGREES = {"cubic": 3, "parabola": 2, "akima": 3}
AKIMA_GRID = 25  # points between two sizes among which the interpolation's minimum is sought (Porian et al.)
AT_EDGE, SKIPPED = "isoflop_edge", "isoflop_skipped"  # codes of why a budget does not count
CURVE_POINTS = 60  # of a fitted curve in a figure
MIN_SHARE = 0.5  # of the resamples in which a budget must keep its minimum to count


@dataclass(frozen=True)
class Skip:
    """Why a budget does not count: of this one, of any such one, and what helps."""

    code: str
    here: str
    any: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.here}; {self.remedy}"


@dataclass(frozen=True)
class Valley:
    """One budget with all that a figure shows of it.

    Attributes:
      train_flops: The budget: the geometric mean of what its runs spent.
      shape: What was put through the losses.
      sizes: Distinct N `[k]`, ascending.
      losses: The target's mean over the runs of each, moved to the budget where `is_moved`.
      runs: How many those are.
      grid: N where the curve is known; empty where it could not be fitted.
      curve: The target there.
      num_params: Where the curve is lowest inside, with its 95 % interval; None where it is not.
      bracket: The sizes that were run on both sides of it.
      skip: Why the budget does not count; None where it does.
      loss: The target where the curve is lowest; None where that is not inside.
      share: Of the resamples, those whose minimum is inside.
      spread: Share by which the FLOPs of its runs differ.
      is_moved: Whether each loss was moved from its run's FLOPs to the budget's.
      spacing: Mean distance of neighbouring sizes, in log N.
      minima: Log N `[1 + R]` of the minimum and of its resamples, NaN where there is none inside; empty without one.
      log_data: Log D there.
    """

    train_flops: float
    shape: Curve
    sizes: Array = field(repr=False)
    losses: Array = field(repr=False)
    runs: Array = field(repr=False)
    grid: Array = field(repr=False)
    curve: Array = field(repr=False)
    num_params: Estimate | None
    bracket: tuple[float, float] | None
    skip: Skip | None
    loss: float | None = None
    share: float = 0.0
    spread: float = 0.0
    is_moved: bool = False
    spacing: float = field(default=0.0, repr=False)
    minima: Array = field(default_factory=lambda: np.array([]), repr=False)
    log_data: Array = field(default_factory=lambda: np.array([]), repr=False)


def check_valley(x: Array, log_y: Array, curve: Curve) -> Skip | None:
    """Returns why a profile cannot have a minimum inside, or None."""
    sizes = np.unique(x)
    if len(sizes) <= (degree := DEGREES[curve]):
        remedy = "add sizes or choose curve='parabola'" if curve == "cubic" and len(sizes) == 3 else "add sizes"
        has = f"{len(sizes)} size{'s' * (len(sizes) > 1)} and a {curve} needs {degree + 1}"
        return Skip(SKIPPED, f"it has {has}", f"each has {has}", remedy)
    means = [log_y[x == size].mean() for size in sizes]
    lowest = int(np.argmin(means))
    if lowest in (0, len(sizes) - 1):
        name, beyond = ("smallest", "below") if lowest == 0 else ("largest", "above")
        some = f"their lowest loss is on the edge, at the {name} size"
        here = f"its lowest loss is on the edge, at the {name} size {np.exp(sizes[lowest]):.4g}"
        return Skip(AT_EDGE, here, some, f"add sizes {beyond} it")
    return None


def check_share(share: float) -> Skip | None:
    """Returns why a minimum that only this share of the resamples has does not count, or None."""
    if share >= MIN_SHARE:
        return None
    some = f"their minima are inside the sizes in less than {MIN_SHARE:.0%} of the resamples"
    return Skip(SKIPPED, f"its minimum is inside the sizes in {share:.0%} of the resamples", some, "add sizes or seeds")


def locate(
    x: Array,
    log_y: Array,
    w: Array,
    sd: Array | None,
    curve: Curve,
    log_target: bool,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Array, float, Skip | None]:
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
    if np.isfinite(at[0]):
        return at, float(lowest), None
    text = f"the {curve} has its minimum on the edge of the sizes"
    return at, float(lowest), Skip(AT_EDGE, text, text, "add sizes beyond it")


def draw_valley(
    flops: float,
    x: Array,
    y: Array,
    w: Array,
    curve: Curve,
    log_target: bool,
    minima: Array | None,
    skip: Skip | None,
) -> Valley:
    """Returns a budget with its means, its curve and its bracket.

    Args:
      flops: The budget.
      x: Log sizes `[n]` of its runs.
      y: The target.
      w: Weights.
      curve: What goes through them.
      log_target: Whether it describes the target's logarithm.
      minima: Log sizes `[1 + R]` of the minimum and of its resamples.
      skip: Why the budget does not count.
    """
    x, y, w = (values[w > 0] for values in (x, y, w))
    places, place = np.unique(x, return_inverse=True)
    runs = np.bincount(place)
    grid = np.linspace(places[0], places[-1], CURVE_POINTS) if len(places) > DEGREES[curve] else np.array([])
    targets = np.log(y) if log_target else y
    if not len(grid):
        values = grid
    elif curve == "akima":
        from scipy.interpolate import Akima1DInterpolator

        values = Akima1DInterpolator(places, np.bincount(place, w * targets) / np.bincount(place, w))(grid)
    else:
        coefficients, middle, half = _fit_polynomials(x, targets[None], w[None], DEGREES[curve])
        values = np.polynomial.polynomial.polyval((grid - middle) / half, coefficients[0])
    best: Estimate | None = None
    bracket: tuple[float, float] | None = None
    if minima is not None and np.isfinite(minima[0]):
        best = estimate(float(np.exp(minima[0])), np.exp(minima[1:]))
        after = int(np.clip(np.searchsorted(places, minima[0], side="right"), 1, len(places) - 1))
        bracket = float(np.exp(places[after - 1])), float(np.exp(places[after]))
    values = np.exp(values) if log_target else values
    losses = np.bincount(place, y) / runs
    return Valley(flops, curve, np.exp(places), losses, runs, np.exp(grid), values, best, bracket, skip)


def find_vertices(x: Array, y: Array, weights: Array, degree: int) -> tuple[Array, Array]:
    """Returns the place and value `[R]` of the lowest point of polynomials through R weighted profiles.

    NaN where there is none inside: too few sizes, no minimum, or an end that is lower.

    Args:
      x: Log sizes `[n]`.
      y: `[R, n]` or `[1, n]`.
      weights: `[R, n]` or `[1, n]`.
      degree: 2 or 3.
    """
    coefficients, middle, half = _fit_polynomials(x, y, weights, degree)
    level, c1, c2, c3 = coefficients.T
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = np.sqrt(c2**2 - 3 * c3 * c1)  # half the second derivative at the minimum; NaN where there is none
        at = np.where(c2 > 0, -c1 / (c2 + bend), (bend - c2) / (3 * c3))
        value = level + at * (c1 + at * (c2 + at * c3))
        ends = level + c2 - np.abs(c1 + c3)
        inside = (np.abs(at) < 1) & (bend > 0) & (value <= ends)
    return np.where(inside, middle + half * at, np.nan), np.where(inside, value, np.nan)


def _fit_polynomials(x: Array, y: Array, weights: Array, degree: int) -> tuple[Array, float, float]:
    """Returns coefficients `[R, 4]` of powers of (x - middle) / half, middle and half; NaN where sizes are too few."""
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
    return coefficients, float(middle), float(half)


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
