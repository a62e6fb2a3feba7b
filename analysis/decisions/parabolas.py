"""The lowest place of one sweep: a parabola through the points around the lowest, and where resamples put it.

Far from its minimum a loss is no parabola in the logarithm of a setting: too small a learning rate costs ever less
than its square, too large a one ends at a cliff. So the parabola sees the settings within `REACH` times of the lowest,
as far as both sides rise alike. On the 17 sweeps of Step Law (2503.04715), each rate at its best batch, these vertices
scatter by 7 % about a power law of N and D where the lowest points themselves scatter by 23 %; its exponents, -0.67
and 0.29, have the published -0.713 and 0.307 in their intervals. What is left of the asymmetry moves a vertex by a few
percent, of which intervals know nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.laws.law import Array
from analysis.uncertainty.resampling import Draws, split_two_ways, stretch

REACH = 4.0  # how far from the lowest point a parabola is believed, as a factor of the setting
# How much more one side may rise than the other. A parabola whose minimum is at most half a spacing from the lowest
# point rises 3 times as much two spacings to the right as two to the left, and less than that farther out.
RIM = 3.0
ENOUGH = 0.95  # of the F distribution: above, points scatter about the parabola more than seeds explain

Problem = Literal["", "edge", "no_minimum", "few_settings"]
Source = Literal["", "seeds", "residuals"]


@dataclass(frozen=True)
class Sweep:
    """One sweep in the space that is minimised: heights over log settings.

    Attributes:
      x: Log settings in ascending order `[K]`.
      means: Mean height at each `[K]`.
      lowest: Place of the lowest mean.
      used: Which of them the parabola sees `[K]`.
      coefficients: Level, slope and bend of the parabola `level + slope z + bend z²` in z = x - x[lowest]; NaN where
        there is none.
      problem: Why the minimum is not inside the settings, as a code; empty where it is.
      source: What the resamples draw anew; empty where there are none.
      draws: Log of the best setting in each resample `[R]`; infinite where it is beyond the settings tried.
    """

    x: Array
    means: Array
    lowest: int
    used: Array
    coefficients: Array = field(default_factory=lambda: np.full(3, np.nan))
    problem: Problem = ""
    source: Source = ""
    draws: Array = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def vertex(self) -> float:
        """Returns the log of the best setting: the parabola's, or that of the lowest point where there is none."""
        _, slope, bend = self.coefficients
        return float(self.x[self.lowest] - (0.0 if self.problem else slope / (2 * bend)))

    @property
    def height(self) -> float:
        """Returns the height there."""
        return float(self.means[self.lowest] if self.problem else self.at(np.array([self.vertex]))[0])

    def at(self, x: Array) -> Array:
        """Returns the parabola at log settings."""
        level, slope, bend = self.coefficients
        z = x - self.x[self.lowest]
        return level + z * (slope + z * bend)


def find_lowest(
    code: Array, log_setting: Array, height: Array, seeds: Array, *, reach: float, resamples: int, seed: int
) -> Sweep:
    """Returns where a sweep is lowest, and where its resamples are.

    Where seeds repeat over settings, their effects and the remainders are drawn anew (`Draws.cross`), wider where the
    settings scatter about the parabola by more than that. Otherwise the coefficients are drawn from their t
    distribution given the residuals. The points that the parabola sees stay the same.

    Args:
      code: Number of each run's setting `[n]`, in ascending order of the settings.
      log_setting: Its logarithm `[n]`.
      height: Of each run `[n]`, to be minimised.
      seeds: Number of each run's seed `[n]`; one for all where there is no such column.
      reach: As a factor.
      resamples: R.
      seed: Of the resamples.
    """
    place = np.unique(code, return_inverse=True)[1]
    count = np.bincount(place)
    x, means = np.bincount(place, log_setting) / count, np.bincount(place, height) / count
    lowest = int(np.argmin(means))
    nothing = Sweep(x, means, lowest, np.zeros(len(x), bool), problem="few_settings" if len(x) < 3 else "edge")
    if len(x) < 3 or lowest in (0, len(x) - 1):
        return nothing
    used = choose_points(x, means, lowest, np.log(reach))
    here, kept = used[place], np.flatnonzero(used)
    runs = _Runs(np.unique(place[here], return_inverse=True)[1], height[here], seeds[here])
    z, weight = x[kept] - x[lowest], count[kept].astype(float)
    basis, root = np.stack([np.ones(len(z)), z, z**2], axis=1), np.sqrt(weight)
    to_means, is_paired = runs.weigh_means()
    solve = np.linalg.pinv(root[:, None] * basis) * root @ to_means  # [3, n]
    coefficients = solve @ runs.height
    _, slope, bend = coefficients
    found = Sweep(x, means, lowest, used, coefficients)
    if not (bend > 0 and z[0] < -slope / (2 * bend) < z[-1]):
        return dataclasses.replace(found, problem="no_minimum")
    if not resamples:
        return found
    freedom = len(runs.height) - 3
    source: Source = "seeds" if is_paired else "residuals"
    if is_paired:
        drawn = runs.draw(resamples, seed) @ solve.T
        misfit = runs.compare(basis @ coefficients, to_means @ runs.height, weight)
        drawn = coefficients + misfit * (drawn - coefficients)
    elif freedom > 0:
        rng = np.random.default_rng(seed)
        spread = np.sqrt(((runs.height - (basis @ coefficients)[runs.place]) ** 2).sum() / freedom)
        shape = np.linalg.cholesky(np.linalg.inv(basis.T @ (weight[:, None] * basis)))
        scale = spread * stretch(rng.random(resamples), freedom)
        drawn = coefficients + scale[:, None] * (rng.standard_normal((resamples, 3)) @ shape.T)
    else:
        return found
    draws = x[lowest] + _find_vertices(drawn, x[0] - x[lowest], x[-1] - x[lowest])
    return dataclasses.replace(found, source=source, draws=draws)


def choose_points(x: Array, means: Array, lowest: int, reach: float) -> Array:
    """Returns which points `[K]` a parabola may see: those near the lowest, as far as both sides rise alike.

    The nearest on each side always count. Where one side has no other, the second on the other side counts too.

    Args:
      x: Log settings.
      means: Heights.
      lowest: Place of the lowest, with a point on each side.
      reach: In logarithms.

    >>> x, cliff = np.log([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]), np.array([0.2, 0.05, 0.0, 0.05, 0.3, 9.0])
    >>> choose_points(x, cliff, 2, np.log(8)).tolist()
    [True, True, True, True, True, False]
    """
    near = np.abs(x - x[lowest]) <= reach * (1 + 1e-9) + 1e-9
    near[lowest - 1 : lowest + 2] = True
    left, right = np.flatnonzero(near[:lowest])[::-1], lowest + 1 + np.flatnonzero(near[lowest + 1 :])
    if min(len(left), len(right)) == 1:
        near[[*left[2:], *right[2:]]] = False
        return near
    rise = means - means[lowest]
    limit = RIM * min(rise[left].max(), rise[right].max())
    for side in (left, right):
        too_high = np.flatnonzero(rise[side[1:]] > limit)
        if len(too_high):
            near[side[1 + too_high[0] :]] = False
    return near


@dataclass(frozen=True)
class _Runs:
    """The runs that a parabola sees: number of their setting, height, and number of their seed, `[n]` each."""

    place: Array
    height: Array
    seeds: Array

    def weigh_means(self) -> tuple[Array, bool]:
        """Returns what makes means at each setting of the runs `[K, n]`, and whether it takes out effects of seeds.

        It does where seeds repeat over settings and every two of them can be compared.
        """
        sizes = np.eye(self.place.max() + 1)[self.place]
        plain = sizes.T / sizes.sum(axis=0)[:, None]
        seeds = np.eye(len(np.unique(self.seeds)))[np.unique(self.seeds, return_inverse=True)[1]]
        both, rank = np.concatenate([sizes, seeds], axis=1), sizes.shape[1] + seeds.shape[1] - 1
        if seeds.shape[1] < 2 or len(self.place) <= rank or np.linalg.matrix_rank(both) < rank:
            return plain, False
        solve = np.linalg.pinv(both)
        return solve[: sizes.shape[1]] + solve[sizes.shape[1] :].mean(axis=0), True

    def draw(self, resamples: int, seed: int) -> Array:
        """Returns heights `[R, n]` with effects of seeds and remainders drawn anew."""
        import pandas as pd

        rows = pd.DataFrame({"setting": self.place, "seed": self.seeds})
        return Draws(rows, ["setting"], "seed", resamples, seed).cross(rows, self.height)

    def compare(self, fitted: Array, means: Array, weight: Array) -> float:
        """Returns by how much more, as a factor, means scatter about a parabola than seeds explain; at least 1.

        Args:
          fitted: The parabola at each setting `[K]`.
          means: What it was fitted to.
          weight: Runs of each.
        """
        from scipy.special import fdtri

        who = np.unique(self.seeds, return_inverse=True)[1]
        extra, freedom = len(means) - 3, len(self.place) - len(means) - int(who.max())
        if extra < 1:
            return 1.0
        noise = (split_two_ways(self.height, self.place, who)[2] ** 2).sum() / freedom
        off = (weight * (means - fitted) ** 2).sum() / extra
        return float(np.sqrt(off / noise)) if 0 < noise * fdtri(extra, freedom, ENOUGH) < off else 1.0


def _find_vertices(coefficients: Array, low: float, high: float) -> Array:
    """Returns the place `[R]` of the lowest point of parabolas `[R, 3]`, infinite beyond `low` and `high`."""
    _, slope, bend = coefficients.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at = np.where(bend > 0, -slope / (2 * bend), np.nan)
    falls = slope * (high - low) + bend * (high**2 - low**2) < 0  # the upper end is the lower of the two
    return np.where((at > low) & (at < high), at, np.where(falls, np.inf, -np.inf))
