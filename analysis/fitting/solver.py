"""The optimiser of the fits: variable projection over a dense search, then damped Newton steps for many at once."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from analysis.fitting.search import CHUNK, NUDGE, TINY, Search, spread
from analysis.laws.law import Array

FIRST_DELTA = 0.1  # where the continuation in delta begins: at 0.1 of a logarithm almost every point is inside
MAX_ITERATIONS = 300
PATIENCE = 40  # steps after which a start that is far behind the best is given up, and again after as many more
HOPELESS = 1.05  # how far behind, as a factor of the objective
RIDGE = 0.1  # where damping begins, a tenth after every step that gained
MIDWAY = 0.1  # of its objective that a step must be able to gain for a member to stay at a delta on its way down
EXACT = 1e-28  # an objective of rounding errors alone: points that a law describes exactly


@dataclass(frozen=True)
class Ends:
    """Where members arrived: `z [R, p]` scaled parameters, `value [R]` objective, `gradient [R]` its steepest slope.

    `steps [R]` are Newton steps taken; `converged [R]` whether no step could gain any more.
    """

    z: Array
    value: Array
    gradient: Array
    steps: Array
    converged: Array


class Problem(Search):
    """The points of one series, which can be searched for starts and refined from them."""

    def refine(
        self, z: Array, y: Array, w: Array, *, first: float | Array = FIRST_DELTA, tolerance: float = 1e-13
    ) -> Ends:
        """Returns local minima from starts `z [R, p]` for targets and weights `[R, n]` or `[n]`.

        Projected, damped Newton steps; for Huber and LAD, delta falls tenfold from `first`. The damping matrix is that
        of iteratively reweighted least squares, which descends by itself, and Newton's part sees only the points inside
        delta. A member stops when a step can gain less than `tolerance` of its objective.
        """
        members, target = len(z), self.objective.threshold
        y, w = np.atleast_2d(y), np.atleast_2d(w)
        goal = np.log(y / self.scale) if self.objective.is_log else y / self.scale
        narrows = np.isfinite(target) and self.objective.is_log
        now = _State(
            z=np.clip(z, self.low, self.high),
            ridge=np.full(members, RIDGE),
            delta=np.maximum(np.broadcast_to(first, members), target) if narrows else np.full(members, target),
            slope=np.full(members, np.inf),
            done=np.zeros(members, bool),
        )
        steps, alive, size = np.zeros(members, np.int64), np.arange(members), max(1, CHUNK // self.n)
        with np.errstate(all="ignore"):
            for turn in range(1, MAX_ITERATIONS + 1):
                for begin in range(0, len(alive), size):
                    rows = alive[begin : begin + size]
                    own_goal = goal[rows] if len(goal) > 1 else goal
                    self._step(now, rows, own_goal, w[rows] if len(w) > 1 else w, tolerance)
                steps[alive] += 1
                alive = alive[~now.done[alive]]
                if not len(alive):
                    break
                if turn % PATIENCE == 0 and len(y) == len(w) == 1:  # starts of one fit, of which the best is wanted
                    value = self.value_each(now.z, y, w)
                    alive = alive[value[alive] <= HOPELESS * value.min()]
        value = self.value_each(now.z, y, w)
        return Ends(now.z, value, now.slope, steps, now.done & np.isfinite(value))

    def _step(self, now: _State, rows: Array, goal: Array, w: Array, tolerance: float) -> None:
        """Moves the members `rows` by one damped Newton step, or stays and dampens more."""
        z, ridge, delta, low, high = now.z[rows], now.ridge[rows], now.delta[rows], self.low, self.high
        value, slope, hessian, metric = self._derive(z, goal, w, delta[:, None])
        free = ~(((z <= low) & (slope > 0)) | ((z >= high) & (slope < 0)) | (low >= high))
        # Dividing by the metric's diagonal makes one ridge serve parameters of any size.
        size = np.sqrt(np.maximum(np.diagonal(metric, axis1=1, axis2=2), TINY))
        system = (hessian + ridge[:, None, None] * metric) / (size[:, :, None] * size[:, None, :])
        system = np.where(free[:, :, None] & free[:, None, :] & np.isfinite(system), system, 0.0)
        system += (~free + 1e-14 * (1 + ridge[:, None]))[:, :, None] * np.eye(len(low))
        move = -_solve(system, np.where(free, slope / size, 0.0)) / size
        move = np.where(((z <= low) & (move < 0)) | ((z >= high) & (move > 0)), 0.0, move)
        gain = -(slope * move).sum(-1)
        trial = np.clip(z + move, low, high)
        ahead = self._total(self._respond(trial) - goal, w, delta[:, None])
        better = (ahead < value) & (gain > 0)
        last = delta <= self.objective.threshold
        enough = np.where(last, tolerance, max(MIDWAY, tolerance))
        arrived = (np.abs(gain) * (1 + ridge) <= enough * value + EXACT) | (ridge > 1e12)
        on = arrived & ~last
        now.z[rows] = np.where(better[:, None], trial, z)
        now.ridge[rows] = np.where(on, RIDGE, np.where(better, np.maximum(ridge * 0.1, 1e-14), ridge * 8))
        now.delta[rows] = np.where(on, np.maximum(delta * 0.1, self.objective.threshold), delta)
        now.slope[rows] = np.abs(np.where(free, slope, 0.0)).max(-1, initial=0.0)
        now.done[rows] = arrived & last

    def _respond(self, z: Array) -> Array:
        """Returns y in units of `scale`, or its logarithm where residuals are of logarithms, `[s, n]`."""
        fitted = self.fitted(z)
        return np.log(fitted) if self.objective.is_log else fitted

    def _lean(self, r: Array, w: Array) -> Array:
        return w * self.objective.lean(r)

    def _total(self, r: Array, w: Array, delta: Array) -> Array:
        """Returns the objective `[s]` of residuals `[s, n]`; infinite where one is not a number."""
        size = np.abs(r)
        inner = np.minimum(size, delta)
        size -= 0.5 * inner
        size *= inner
        total = (size * self._lean(r, w)).sum(-1)
        return np.where(np.isnan(total), np.inf, total)

    def _derive(self, z: Array, goal: Array, w: Array, delta: Array) -> tuple[Array, Array, Array, Array]:
        """Returns objective `[s]`, gradient `[s, p]`, Hessian and the reweighted Gauss-Newton matrix `[s, p, p]`.

        Derivatives in coefficients are exact, those in the non-linear parameters central differences.
        """
        k, is_log = self.k, self.objective.is_log
        fitted, terms, link = self.look(z)
        r = (np.log(fitted) if is_log else fitted) - goal
        size, weight = np.abs(r), self._lean(r, w)
        pull = weight * np.clip(r, -delta, delta)  # the charge's slope by log y
        push = pull / fitted if is_log else pull  # and by y
        nudge = NUDGE * np.where(self.logs, 1.0, np.maximum(np.abs(z[:, k:]), 0.1 * np.minimum(1.0, self.span)))
        jacobian, bends = np.empty((*z.shape, self.n)), np.zeros((*z.shape, z.shape[1]))
        for j in range(k):
            jacobian[:, j] = terms[j]
        curves = {}
        for group in self.groups:
            shift = np.zeros_like(z)
            shift[:, [k + i for i in group]] = nudge[:, group]
            (above, up, _), (below, down, _) = self.look(z + shift), self.look(z - shift)
            if not np.isfinite(above.sum() + below.sum()):  # beyond a bound a law may end: one-sided there
                above = np.where(np.isfinite(above), above, 2 * fitted - below)
                below = np.where(np.isfinite(below), below, 2 * fitted - above)
                up, down = (
                    [np.where(np.isfinite(p), p, t) for p, t in zip(of, terms, strict=True)] for of in (up, down)
                )
            for i in group:
                step, own = nudge[:, i, None], self.owners[i]
                rises = [up[j] - down[j] for j in own]
                if len(group) == 1:
                    rise, curve = above - below, above + below - 2 * fitted
                else:  # others moved too, but in other terms
                    rise = sum(z[:, j, None] * part for j, part in zip(own, rises, strict=True))
                    curve = sum(z[:, j, None] * (up[j] + down[j] - 2 * terms[j]) for j in own)
                np.divide(rise, 2 * step, out=jacobian[:, k + i])
                bends[:, k + i, k + i] = _dot(curve, push) / step[:, 0] ** 2
                for j, part in zip(own, rises, strict=True):
                    bends[:, j, k + i] = _dot(part, push) / (2 * step[:, 0])
                curves[i] = curve
        for i, j in self.pairs:
            both, shift = -curves[i] - curves[j] - 2 * fitted, np.zeros_like(z)
            shift[:, [k + i, k + j]] = nudge[:, [i, j]]
            both = both + self.look(z + shift)[0] + self.look(z - shift)[0]
            bends[:, k + i, k + j] = _dot(np.nan_to_num(both), push) / (2 * nudge[:, i] * nudge[:, j])
        if link:
            inner = np.stack([np.broadcast_to(term, fitted.shape) for term in link[0]], axis=1)
            bends[:, :k, :k] = np.triu((inner * (link[1] * push)[:, None, :]) @ np.swapaxes(inner, 1, 2))
        hessian = bends + np.swapaxes(np.triu(bends, 1), 1, 2)
        if is_log:
            jacobian /= fitted[:, None, :]
        inside = np.where(size < delta, weight, 0.0)
        irls = weight * np.minimum(1.0, delta / np.maximum(size, TINY))
        across = np.swapaxes(jacobian, 1, 2)
        hessian += (jacobian * (inside - pull if is_log else inside)[:, None, :]) @ across
        metric = (jacobian * irls[:, None, :]) @ across
        return self._total(r, w, delta), (jacobian @ pull[:, :, None])[:, :, 0], hessian, metric

    @functools.cached_property
    def owners(self) -> list[list[int]]:
        """Returns which terms each non-linear parameter acts in; all of them where a link mixes them."""
        if self.law.link or not self.k:
            return [list(range(self.k))] * self.q
        here, there = (self._inside(spread(64, self.q)[start::2]) for start in (0, 1))
        found = []
        for i in range(self.q):
            moved = here.copy()
            moved[:, i] = there[:, i]
            with np.errstate(all="ignore"):
                both = zip(self.terms(here), self.terms(moved), strict=True)
                found.append([j for j, (a, b) in enumerate(both) if not np.array_equal(a, b)])
        return found

    @functools.cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Returns which non-linear parameters may act together: the others have no mixed derivatives."""
        mixed = self.law.link or self.law.offset or not self.k
        every = itertools.combinations(range(self.q), 2)
        return [(i, j) for i, j in every if mixed or set(self.owners[i]) & set(self.owners[j])]

    @functools.cached_property
    def groups(self) -> list[list[int]]:
        """Returns the non-linear parameters in groups that one difference serves, since they act in different terms."""
        groups: list[list[int]] = []
        for i in range(self.q):
            free = (group for group in groups if not any((j, i) in self.pairs for j in group))
            group = next(free, None)
            if group is None:
                groups.append([i])
            else:
                group.append(i)
        return groups

    def _inside(self, unit: Array) -> Array:
        """Returns points of the unit cube `[s, q]` between the bounds."""
        return self.low[self.k :] + self.span * unit


@dataclass
class _State:
    """Members on their way: `z [R, p]`, and `ridge delta slope done`, `[R]` each."""

    z: Array
    ridge: Array
    delta: Array
    slope: Array
    done: Array


def _dot(a: Array, b: Array) -> Array:
    """Returns the sums of products `[s]` over the points of `[s, n]`."""
    return np.einsum("sn,sn->s", *np.broadcast_arrays(a, b))


def _solve(system: Array, right: Array) -> Array:
    """Returns the solutions `[s, p]` of the systems `[s, p, p]`; least squares where one of them is singular."""
    try:
        return np.linalg.solve(system, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return (np.linalg.pinv(system) @ right[:, :, None])[:, :, 0]
