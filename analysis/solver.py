"""The optimiser of the fits: variable projection on a grid, then projected Newton steps, for many targets at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from analysis.laws import Array, Law, differentiate_basis, normalise_basis

# LAD is the limit of Huber as delta goes to 0: at 1e-9 its optimum agrees with the exact one to 9 digits.
LAD_DELTA = 1e-9


class Problem:
    """One series' points, scaled, with R targets on the same rows: what the grid and Newton's method work on.

    Parameters are `z = (c, theta)`: `c` multiplies terms that are normalised to geometric mean 1 and targets near 1.
    Rows that share their x share everything but the residual, so R seeds at 11 sizes cost 11 rows.
    """

    def __init__(self, law: Law, columns: Sequence[Array], y: Array, objective: str, delta: float) -> None:
        rows, self.row = np.unique(np.stack(columns), axis=1, return_inverse=True)
        order = np.argsort(self.row.ravel(), kind="stable")
        self.row = self.row.ravel()[order]
        self.first = np.flatnonzero(np.r_[True, np.diff(self.row) > 0])
        self.law, self.columns, self.log = law, list(rows), objective != "mse"
        raw = y[:, order]
        scale = np.exp(np.log(raw).mean()) if self.log else np.sqrt((raw**2).mean()) or 1.0
        self.scale, self.y = float(scale), raw / scale
        self.objective = objective
        self.delta = {"huber": delta, "lad": LAD_DELTA, "mse": np.inf}[objective]
        self.k = len(law.linear)
        bounds = np.array(list(law.nonlinear.values()))
        self.low = np.r_[np.zeros(self.k), bounds[:, 0]]
        self.high = np.r_[np.full(self.k, np.inf), bounds[:, 1]]
        self.goal = np.log(self.y) if self.log else self.y

    def fitted(self, z: Array) -> Array:
        """Returns the fitted values `[R, u]` at the distinct rows, in logarithms where the objective is."""
        basis, _ = normalise_basis(self.law, self.columns, z[..., self.k :])
        value = (basis * z[..., None, : self.k]).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(value) if self.log else value

    def value(self, z: Array, delta: float, member: Array | None = None) -> Array:
        """Returns the Huber sum `[R]` (half the sum of squares when delta is infinite) at `z` `[R, p]`."""
        r = np.abs(self.fitted(z)[:, self.row] - self.pick(member))
        inner = np.minimum(r, delta)
        with np.errstate(invalid="ignore"):
            total = (inner * (r - 0.5 * inner)).sum(-1)
        return np.where(np.isnan(total), np.inf, total)

    def pick(self, member: Array | None) -> Array:
        """Returns the targets of some members; one target serves every start."""
        return self.goal if member is None or len(self.goal) == 1 else self.goal[member]

    def gather(self, per_point: Array) -> Array:
        """Returns sums over the points of each distinct row, `[R, n]` to `[R, u]`."""
        if len(self.first) == per_point.shape[-1]:
            return per_point
        return np.add.reduceat(per_point, self.first, axis=-1)

    def grid(self, total: int) -> Array:
        """Returns about `total` points `[g, q]` of the non-linear parameters, denser towards their lower bounds."""
        side = max(5, round(total ** (1 / len(self.law.nonlinear))))
        ramp = np.expm1(np.linspace(0, np.log(1000), side)) / 999
        axes = [low + (high - low) * ramp for low, high in zip(self.low[self.k :], self.high[self.k :], strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    def scan(self, total: int = 2000, keep: int = 24) -> Array:
        """Returns starts `[s, p]` for one target: every local minimum of the profiled objective, and a coarse grid."""
        from scipy import ndimage

        theta = self.grid(total if len(self.law.nonlinear) > 1 else 300)
        basis, _ = normalise_basis(self.law, self.columns, theta)
        unit = 1 / self.y[0] ** 2 if self.log else np.ones(self.y.shape[1])
        width = max(self.delta, 1e-3)
        weight = np.broadcast_to(unit, (len(theta), len(unit)))
        best, coefs, profiles = np.full(len(theta), np.inf), np.zeros((len(theta), self.k)), []
        for _ in range(4):  # least squares first, then reweighting towards the objective
            gram = np.swapaxes(basis, 1, 2) @ (basis * self.gather(weight)[..., None])
            trial = solve_nonnegative(gram, (basis * self.gather(weight * self.y[0])[..., None]).sum(1))[0]
            z = np.concatenate([trial, theta], axis=1)
            value = self.value(z, self.delta)
            coefs = np.where((value < best)[:, None], trial, coefs)
            best = np.minimum(value, best)
            profiles.append(value)
            if not np.isfinite(width):
                break
            r = np.abs(self.fitted(z)[:, self.row] - self.goal)
            weight = unit * np.minimum(1, width / np.maximum(r, 1e-300))
        shape = (round(len(theta) ** (1 / len(self.law.nonlinear))),) * len(self.law.nonlinear)
        minima = np.zeros(shape, dtype=bool)
        for profile in (profiles[0], best):
            surface = profile.reshape(shape)
            minima |= (surface <= ndimage.minimum_filter(surface, size=3, mode="nearest")) & np.isfinite(surface)
        stride = max(1, shape[0] // (24 if len(shape) == 1 else 4))
        spread = np.zeros(shape, dtype=bool)  # kinks make narrow basins that a profile can step over
        spread[(slice(stride // 2, None, stride),) * len(shape)] = True
        found, extra = np.flatnonzero(minima.ravel()), np.flatnonzero((spread & ~minima & np.isfinite(surface)).ravel())
        found = found[np.argsort(best[found], kind="stable")][:keep]
        return np.concatenate([coefs, theta], axis=1)[np.concatenate([found, extra])]

    def project(self, total: int = 64) -> Array:
        """Returns the best grid point `[R, p]` of every target by weighted least squares, all at once."""
        theta = self.grid(total if len(self.law.nonlinear) == 1 else 4 * total)
        basis, _ = normalise_basis(self.law, self.columns, theta)  # [g, u, k]
        unit = 1 / self.y**2 if self.log else np.ones_like(self.y)
        g, u, k = basis.shape
        pairs = (basis[..., None] * basis[..., None, :]).transpose(1, 0, 2, 3).reshape(u, -1)
        gram = (self.gather(unit) @ pairs).reshape(-1, g, k, k)
        moment = (self.gather(unit * self.y) @ basis.transpose(1, 0, 2).reshape(u, -1)).reshape(-1, g, k)
        coefs, gain = solve_nonnegative(gram, moment)
        best, every = gain.argmax(axis=1), np.arange(len(self.y))
        return np.concatenate([coefs[every, best], theta[best]], axis=1)

    def refine(self, z: Array, *, tolerance: float = 1e-15, first: float = 0.1) -> tuple[Array, Array]:
        """Returns parameters `[R, p]` and objectives `[R]` after Newton's method with deltas falling from `first`."""
        delta = first
        while self.log and delta > 3 * self.delta:
            z = self.descend(z, delta, max(1e-4, tolerance), 12 if tolerance > 1e-12 else 40)
            delta *= 0.1
        z = self.descend(z, self.delta, tolerance, 60 if tolerance > 1e-12 else 200)
        return z, self.value(z, self.delta)

    def descend(self, z: Array, delta: float, tolerance: float, limit: int) -> Array:
        """Returns local minima `[R, p]` by projected, damped Newton steps, every member with its own damping.

        The damping matrix is that of iteratively reweighted least squares, which descends by itself; Newton's part
        sees only the points inside delta. A member stops when a step can gain less than `tolerance` of its objective.
        """
        z = np.clip(z, self.low, self.high)
        objective, damping = self.value(z, delta), np.full(len(z), 1e-2)
        gradient = np.empty_like(z)
        newton, metric = (np.empty((*z.shape, z.shape[1])) for _ in range(2))
        alive = fresh = np.arange(len(z))
        eye = np.eye(z.shape[1])
        for _ in range(limit):
            if len(fresh):
                gradient[fresh], newton[fresh], metric[fresh] = self.derive(z[fresh], delta, fresh)
            at, slope, lam = z[alive], gradient[alive], damping[alive]
            free = ~(((at <= self.low) & (slope > 0)) | ((at >= self.high) & (slope < 0)))
            system = newton[alive] + lam[:, None, None] * metric[alive]
            step = solve_free(system, slope, free, eye)
            outward = ((at <= self.low) & (step < 0)) | ((at >= self.high) & (step > 0))
            if outward.any():
                free &= ~outward
                step = solve_free(system, slope, free, eye)
            expected = -(slope * step).sum(-1)
            trial = np.clip(at + step, self.low, self.high)
            value = self.value(trial, delta, alive)
            better = (value < objective[alive]) & (expected > 0)
            done = (np.abs(expected) * (1 + lam) <= tolerance * objective[alive]) | (lam > 1e12)
            fresh = alive[better]
            z[fresh], objective[fresh] = trial[better], value[better]
            damping[alive] = np.where(better, np.maximum(lam * 0.1, 1e-14), np.minimum(lam * 8, 1e14))
            alive = alive[~done]
            fresh = fresh[np.isin(fresh, alive, assume_unique=True)]
            if not len(alive):
                break
        return z

    def derive(self, z: Array, delta: float, member: Array) -> tuple[Array, Array, Array]:
        """Returns gradient `[R, p]`, Hessian and reweighted Gauss-Newton matrix `[R, p, p]` of the objective."""
        k, coefs = self.k, z[:, None, : self.k]
        basis, first, second = differentiate_basis(self.law, self.columns, z[:, k:])
        fitted = (basis * coefs).sum(-1)
        jacobian = np.concatenate([basis, (first * coefs[..., None]).sum(-2)], axis=-1)
        r = (np.log(fitted) if self.log else fitted)[:, self.row] - self.pick(member)
        size = np.abs(r)
        inside = self.gather((size < delta).astype(float))
        weight = self.gather(np.minimum(1, delta / np.maximum(size, 1e-300)))
        pull = self.gather(np.clip(r, -delta, delta))
        outer = inside
        if self.log:
            jacobian = jacobian / fitted[..., None]
            outer, bend = inside - pull, pull / fitted
        else:
            bend = pull
        across = np.swapaxes(jacobian, 1, 2)
        gradient = (across @ pull[..., None])[..., 0]
        newton = across @ (jacobian * outer[..., None])
        cross = (first * bend[..., None, None]).sum(1)  # [R, k, q]
        newton[:, :k, k:] += cross
        newton[:, k:, :k] += np.swapaxes(cross, 1, 2)
        newton[:, k:, k:] += (second * (coefs * bend[..., None])[..., None, None]).sum((1, 2))
        return gradient, newton, across @ (jacobian * weight[..., None])

    def unscale(self, z: Array) -> Array:
        """Returns parameters in the law's own units, `[R, p]`, from the scaled ones."""
        _, scale = normalise_basis(self.law, self.columns, z[:, self.k :])
        return np.concatenate([z[:, : self.k] * self.scale / scale, z[:, self.k :]], axis=1)

    def rescale(self, params: Array) -> Array:
        """Returns scaled parameters `[1, p]` from one vector in the law's own units."""
        _, scale = normalise_basis(self.law, self.columns, params[None, self.k :])
        return np.concatenate([params[None, : self.k] / self.scale * scale, params[None, self.k :]], axis=1)


def solve_nonnegative(gram: Array, moment: Array) -> tuple[Array, Array]:
    """Returns the exact non-negative least-squares coefficients `[..., k]` and the squares they explain `[...]`.

    Every active set is tried: the optimum is the best of the feasible ones, and 2^k is small.
    """
    k = gram.shape[-1]
    best, gain = np.zeros(moment.shape), np.full(moment.shape[:-1], -np.inf)
    ridge = 1e-14 * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] * np.eye(k)
    for size in range(1, k + 1):
        for chosen in itertools.combinations(range(k), size):
            index = np.array(chosen)
            part = (gram + ridge)[..., index[:, None], index]
            trial = np.linalg.solve(part, moment[..., index, None])[..., 0]
            explained = (trial * moment[..., index]).sum(-1)
            take = (trial >= 0).all(-1) & (explained > gain)
            full = np.zeros_like(best)
            full[..., index] = trial
            best, gain = np.where(take[..., None], full, best), np.where(take, explained, gain)
    return best, gain


def solve_free(system: Array, slope: Array, free: Array, eye: Array) -> Array:
    """Returns Newton steps `[R, p]` in which only the free parameters move."""
    pair, wanted = free[:, :, None] & free[:, None, :], np.where(free, slope, 0.0)[..., None]
    scale = np.abs(np.diagonal(system, axis1=1, axis2=2)).sum(-1)[:, None, None] + 1e-280
    for ridge in (1e-14, 1e-10, 1e-4):
        try:
            return -np.linalg.solve(np.where(pair, system + ridge * scale * eye, eye), wanted)[..., 0]
        except np.linalg.LinAlgError:  # one exactly singular member stops the whole batch
            continue
    return -wanted[..., 0]
