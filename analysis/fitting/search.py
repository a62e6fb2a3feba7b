"""What the solver minimises: the scaled points of one series, and the dense search for where to start."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from analysis.fitting.objective import Objective
from analysis.laws.law import TARGET, Array, Law

CHUNK = 16_384  # points of the members that step together: 130 kB an array, so that all stay in a core's own cache
NUDGE = 1e-5  # of central differences: slopes to about 1e-9, curvatures to about 1e-6, relatively
TINY = 1e-300


class Search:
    """The points of one series as the solver sees them: scaled, with bounds.

    Parameters are `z = (c, u)`: `c` multiplies terms that are 1 at the middle of the design (for powers the same as
    centring the logarithms, which takes Gauss-Newton's condition number on Chinchilla's points from 9.9e6 to 1.1e4),
    and targets are divided by their size; `u` are the non-linear parameters, in logarithms where their `Range` says so.
    """

    def __init__(self, law: Law, columns: Sequence[Array], y: Array, objective: Objective) -> None:
        self.law, self.columns, self.objective = law, list(columns), objective
        self.n, self.k, self.q = len(y), len(law.linear), len(law.nonlinear)
        # A link or offset has units of its own, and a law without coefficients cannot absorb a scale.
        bare = law.link is None and law.offset is None and self.k > 0
        self.scale = float(np.exp(np.log(np.abs(y) + TINY).mean())) if bare and objective.is_log else 1.0
        if bare and not objective.is_log:
            self.scale = float(np.sqrt((y**2).mean())) or 1.0
        known = dict(zip(law.variables, columns, strict=True)) | {TARGET: y}
        self.logs = np.array([item.log for item in law.ranges.values()], dtype=bool)
        bounds = np.array([item.resolve(known) for item in law.ranges.values()]).reshape(self.q, 2)
        bounds = np.where(self.logs[:, None], np.log(np.where(self.logs[:, None], bounds, 1.0)), bounds)
        signed = np.array([name in law.signed for name in law.linear], dtype=bool)
        self.low = np.r_[np.where(signed, -np.inf, 0.0), bounds[:, 0]]
        self.high = np.r_[np.full(self.k, np.inf), bounds[:, 1]]
        flat = all(isinstance(column, np.ndarray) for column in columns)
        # The middle of the design rides along as a last point, where every term is then divided by its value.
        middle = [_middle(column, law.may_be_zero) for column in columns] if flat else None
        self.centre = middle
        self.extended = [np.r_[pair] for pair in zip(columns, middle, strict=True)] if middle else self.columns
        self.signed = signed
        self.span = (self.high - self.low)[self.k :]

    # --- the law ------------------------------------------------------------------------------------------

    def theta(self, u: Array) -> list[Array]:
        """Returns the non-linear parameters in their own units, one `[..., 1]` array each, from `u [..., q]`."""
        return [np.exp(u[..., i, None]) if self.logs[i] else u[..., i, None] for i in range(self.q)]

    def terms(self, u: Array) -> list[Array]:
        """Returns the scaled terms at `u [s, q]`: `[s, n]` each, or what broadcasts to it."""
        parts = [np.asarray(part) for part in self.law.terms(*self.extended, *self.theta(u))]
        if self.centre is None:
            return parts
        scaled = []
        for part, signed in zip(parts, self.signed, strict=True):
            if part.ndim == 0 or part.shape[-1] == 1:  # the same at every point
                usable = np.isfinite(part) & (np.abs(part) >= TINY) & (not signed)
                scaled.append(np.where(usable, 1.0, part))
                continue
            points, scale = part[..., :-1], part[..., -1:]
            if signed:
                scaled.append(points)
            else:
                scaled.append(points / np.where(np.isfinite(scale) & (np.abs(scale) >= TINY), scale, 1.0))
        return scaled

    def basis(self, u: Array) -> Array:
        """Returns the scaled terms at `u [s, q]` as one array `[s, k, n]`."""
        basis = np.empty((len(u), self.k, self.n))
        for j, part in enumerate(self.terms(u)):
            basis[:, j] = part
        return basis

    def term_scale(self, u: Array) -> Array:
        """Returns the terms' values `[s, k]` at the middle of the design; 1 for terms whose sign is free."""
        if self.centre is None or not self.k:
            return np.ones((len(u), self.k))
        parts = self.law.terms(*self.centre, *self.theta(u))
        with np.errstate(all="ignore"):
            values = np.concatenate([np.broadcast_to(part, (len(u), 1)) for part in parts], axis=1)
        return np.where(self.signed | ~np.isfinite(values) | (np.abs(values) < TINY), 1.0, np.abs(values))

    def goal(self, y: Array, u: Array) -> Array:
        """Returns what the sum of the terms should be, `[s, n]`, for one target `[n]`."""
        theta = self.theta(u)
        goal = np.broadcast_to(y / self.scale, (len(u), self.n))
        with np.errstate(all="ignore"):
            if self.law.unlink:
                goal = self.law.unlink(goal, *theta)
            return goal - self.law.offset(*self.columns, *theta) if self.law.offset else goal

    def fitted(self, z: Array, basis: Array | None = None) -> Array:
        """Returns y in units of `scale`, `[s, n]`, at `z [s, p]`."""
        with np.errstate(all="ignore"):
            return self.look(z, None if basis is None else list(np.moveaxis(basis, 1, 0)))[0]

    def look(
        self, z: Array, terms: list[Array] | None = None
    ) -> tuple[Array, list[Array], tuple[list[Array], Array] | None]:
        """Returns the fitted `[s, n]`, its slopes in the coefficients (the terms, `[s, n]` each), and what a link adds.

        That is the terms without the link's slope, and the link's second derivative `[s, n]`.
        """
        c, u = z[:, : self.k], z[:, self.k :]
        theta = self.theta(u)
        if not self.k:
            return np.broadcast_to(self.law.terms(*self.columns, *theta), (len(u), self.n)), [], None
        terms = self.terms(u) if terms is None else terms
        total = c[:, 0, None] * terms[0]
        for j in range(1, self.k):
            total = total + c[:, j, None] * terms[j]
        if self.law.offset:
            total = total + self.law.offset(*self.columns, *theta)
        if not self.law.link:
            return np.broadcast_to(total, (len(u), self.n)), terms, None
        nudge = 10 * NUDGE * (np.abs(total) + np.abs(total).mean(-1, keepdims=True) + TINY)
        fitted, above, below = (self.law.link(at, *theta) for at in (total, total + nudge, total - nudge))
        slope = (above - below) / (2 * nudge)
        return fitted, [term * slope for term in terms], (terms, (above - 2 * fitted + below) / nudge**2)

    def measure(self, z: Array, y: Array, w: Array, basis: Array | None = None) -> Array:
        """Returns the objective `[s]` at `z [s, p]`, as the solver minimises it; y and w are `[n]` or `[s, n]`."""
        with np.errstate(all="ignore"):
            fitted = self.fitted(z, basis)
            r = np.log(fitted) - np.log(y / self.scale) if self.objective.is_log else fitted - y / self.scale
            size, delta = np.abs(r), self.objective.threshold
            inner = np.minimum(size, delta)
            charge = inner * (size - 0.5 * inner) * self.objective.lean(r)
            total = (charge * w).sum(-1)
        return np.where(np.isnan(total), np.inf, total)

    def value_each(self, z: Array, y: Array, w: Array) -> Array:
        """Returns the objective `[R]` of every member, each with its own target and weights (or one for all)."""
        if len(y) == 1 and len(w) == 1:
            return self.measure(z, y[0], w[0])
        parts = np.array_split(np.arange(len(z)), max(1, len(z) * self.n // CHUNK))
        pick = lambda array, rows: array[rows] if len(array) > 1 else array  # noqa: E731
        return np.concatenate([self.measure(z[rows], pick(y, rows), pick(w, rows)) for rows in parts])

    def grid(self, total: int | None = None) -> Array:
        """Returns points `u [s, q]`: a lattice in one or two dimensions, a low-discrepancy sequence in more.

        Parameters that are not searched in logarithms are denser towards their lower bounds, where exponents live.
        """
        if self.q == 0:
            return np.zeros((1, 0))
        if self.q <= 2:
            side = max(5, round((total or (300 if self.q == 1 else 2000)) ** (1 / self.q)))
            unit = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * self.q, indexing="ij"), -1).reshape(-1, self.q)
        else:
            unit = spread(total or 4096, self.q)
        low, high = self.low[self.k :], self.high[self.k :]
        ramp = np.where(self.logs | (low < 0), unit, np.expm1(unit * np.log(1000)) / 999)
        return low + (high - low) * ramp

    def scan(self, y: Array, w: Array, keep: int = 48) -> Array:
        """Returns starts `z [s, p]` for one target: the minima of the profiled objective, and a spread of others."""
        u = self.grid()
        if self.law.starts is not None:
            extra = np.asarray(self.law.starts(self.columns, y), dtype=np.float64).reshape(-1, self.q)
            with np.errstate(all="ignore"):
                extra = np.where(self.logs, np.log(np.where(self.logs, extra, 1.0)), extra)
            extra = extra[np.isfinite(extra).all(-1)]
            u = np.concatenate([np.clip(extra, self.low[self.k :], self.high[self.k :]), u])
        own = len(u) - len(self.grid())
        best, coefs = np.full(len(u), np.inf), np.zeros((len(u), self.k))
        first = np.full(len(u), np.inf)
        for part in np.array_split(np.arange(len(u)), max(1, len(u) * self.n * max(1, self.k) // (6 * CHUNK))):
            coefs[part], best[part], first[part] = self._project_one(u[part], y, w)
        z = np.concatenate([coefs, u], axis=1)
        usable = np.isfinite(best)
        if self.q in (1, 2) and not own:
            shape = (round(len(u) ** (1 / self.q)),) * self.q
            minima = np.zeros(shape, dtype=bool)
            for profile in (first, best):
                surface = profile.reshape(shape)
                minima |= surface <= _lowest_near(surface)
            stride = max(1, shape[0] // (24 if self.q == 1 else 4))
            spread = np.zeros(shape, dtype=bool)  # kinks make narrow basins that a profile can step over
            spread[(slice(stride // 2, None, stride),) * self.q] = True
            found = np.flatnonzero(minima.ravel() & usable)
            found = found[np.argsort(best[found], kind="stable")][:keep]
            return z[np.union1d(found, np.flatnonzero(spread.ravel() & usable))]
        order = np.argsort(best, kind="stable")[: int(usable.sum())]
        span = (self.high - self.low)[self.k :]
        chosen: list[int] = []
        for index in order:  # the best ones that are not neighbours
            apart = np.abs((u[index] - u[chosen]) / span).max(-1) if chosen else np.array([np.inf])
            if (apart > 0.05).all():
                chosen.append(int(index))
            if len(chosen) == keep:
                break
        return z[np.unique(np.r_[order[:16], chosen].astype(int))]

    def _project_one(self, u: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
        """Returns coefficients `[s, k]` and objectives `[s]` at `u`, after reweighting and by least squares alone."""
        if not self.k:
            value = self.measure(u, y, w)
            return np.zeros((len(u), 0)), value, value
        with np.errstate(all="ignore"):
            basis, goal = self.basis(u), self.goal(y, u)
            if self.objective.is_log and not self.law.link:
                unit = np.broadcast_to((self.scale / y) ** 2, goal.shape)
            elif self.law.link and self.law.unlink:  # a step in y, or in its logarithm, seen through the link
                nudge = 1e-6 * np.abs(y / self.scale) + TINY
                slope = (self.law.unlink(y / self.scale + nudge, *self.theta(u)) - goal - (self._offset(u))) / nudge
                unit = 1 / (slope**2 + TINY)
                unit = unit * (self.scale / y) ** 2 if self.objective.is_log else unit
            else:
                unit = np.ones_like(goal)
            unit = np.where(np.isfinite(unit) & np.isfinite(goal), unit, 0.0) * w
            goal, basis = np.nan_to_num(goal), np.nan_to_num(basis)
        width, weight = max(self.objective.threshold, 1e-3), unit
        best, coefs, first = np.full(len(u), np.inf), np.zeros((len(u), self.k)), np.full(len(u), np.inf)
        for turn in range(4):  # least squares first, then reweighting towards the objective
            weighted = basis * weight[:, None, :]
            gram, moment = weighted @ np.swapaxes(basis, 1, 2), np.einsum("skn,sn->sk", weighted, goal)
            trial = solve_nonnegative(gram, moment, self.signed)[0]
            z = np.concatenate([trial, u], axis=1)
            value = self.measure(z, y, w, basis)
            coefs = np.where((value < best)[:, None], trial, coefs)
            best = np.minimum(value, best)
            first = value if turn == 0 else first
            if not np.isfinite(width):
                break
            with np.errstate(all="ignore"):
                r = np.abs(np.log(self.fitted(z, basis)) - np.log(y / self.scale))
                weight = unit * np.minimum(1, width / np.maximum(np.nan_to_num(r, nan=np.inf), TINY))
        return coefs, best, first

    def _offset(self, u: Array) -> Array | float:
        return -self.law.offset(*self.columns, *self.theta(u)) if self.law.offset else 0.0

    def project(self, y: Array, w: Array, total: int | None = None) -> Array:
        """Returns the best grid point `z [R, p]` of every target `[R, n]` by weighted least squares, all at once.

        Only for laws without link and offset; one-variable searches are finer than those of two and more.
        """
        u = self.grid(total or (64 if self.q == 1 else 256))
        basis = self.basis(u)
        s, k, n = basis.shape
        goal = y / self.scale
        unit = w / goal**2 if self.objective.is_log else w + np.zeros_like(goal)
        pairs = np.einsum("sin,sjn->nsij", basis, basis).reshape(n, -1)
        best, z = np.full(len(y), -np.inf), np.empty((len(y), k + self.q))
        for rows in np.array_split(np.arange(len(y)), max(1, len(y) * s * k * k // 4_000_000)):
            gram = (unit[rows] @ pairs).reshape(-1, s, k, k)
            moment = ((unit * goal)[rows] @ basis.reshape(-1, n).T).reshape(-1, s, k)
            coefs, gain = solve_nonnegative(gram, moment, self.signed)
            place, every = gain.argmax(axis=1), np.arange(len(rows))
            best[rows] = gain[every, place]
            z[rows] = np.concatenate([coefs[every, place], u[place]], axis=1)
        return z

    # --- units ------------------------------------------------------------------------------------------------------

    def unscale(self, z: Array) -> Array:
        """Returns parameters `[R, p]` in the law's own units from scaled ones."""
        u = z[:, self.k :]
        theta = np.concatenate([*self.theta(u), np.empty((len(z), 0))], axis=1)
        return np.concatenate([z[:, : self.k] * self.scale / self.term_scale(u), theta], axis=1)

    def rescale(self, params: Array) -> Array:
        """Returns scaled parameters `[R, p]` from those in the law's own units."""
        theta = params[:, self.k :]
        with np.errstate(all="ignore"):
            u = np.where(self.logs, np.log(np.where(self.logs, theta, 1.0)), theta)
        u = np.clip(u, self.low[self.k :], self.high[self.k :])
        return np.concatenate([params[:, : self.k] / self.scale * self.term_scale(u), u], axis=1)


def _middle(column: Array, may_be_zero: bool) -> Array:
    """Returns the mean [1] of a column, geometric unless zeros are among its values."""
    return column.mean(keepdims=True) if may_be_zero else np.exp(np.log(column).mean(keepdims=True))


def solve_nonnegative(gram: Array, moment: Array, signed: Array) -> tuple[Array, Array]:
    """Returns the exact least-squares coefficients `[..., k]`, those not `signed` at least 0, and what they explain.

    Every active set is tried: the optimum is the best of the feasible ones, and 2^k is small.
    """
    k = gram.shape[-1]
    best, gain = np.zeros(moment.shape), np.full(moment.shape[:-1], -np.inf)
    ridge = 1e-14 * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] * np.eye(k) + 1e-290 * np.eye(k)
    optional = [index for index in range(k) if not signed[index]]
    always = [index for index in range(k) if signed[index]]
    for size in range(0 if always else 1, len(optional) + 1):
        for chosen in itertools.combinations(optional, size):
            index = np.array(sorted((*always, *chosen)))
            part = (gram + ridge)[..., index[:, None], index]
            trial = np.linalg.solve(part, moment[..., index, None])[..., 0]
            explained = (trial * moment[..., index]).sum(-1)
            take = ((trial >= 0) | signed[index]).all(-1) & (explained > gain)
            full = np.zeros_like(best)
            full[..., index] = trial
            best, gain = np.where(take[..., None], full, best), np.where(take, explained, gain)
    return best, gain


def _lowest_near(surface: Array) -> Array:
    """Returns the lowest value among each grid point and its neighbours, diagonal ones included."""
    for axis in range(surface.ndim):
        wide = np.moveaxis(np.pad(surface, [(int(i == axis),) * 2 for i in range(surface.ndim)], mode="edge"), axis, 0)
        surface = np.moveaxis(np.minimum(np.minimum(wide[:-2], wide[1:-1]), wide[2:]), 0, axis)
    return surface


def spread(count: int, dimensions: int) -> Array:
    """Returns `[count, dimensions]` points that fill the unit cube evenly (Roberts 2018, the R sequence)."""
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1, dimensions + 1)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1
