"""Loss against what runs spend, of an estimate and its draws: laws of one variable, and optimal frontiers of N and D.

Along a frontier every budget C is split so that the loss is lowest, in closed form for Chinchilla's law, and by
`allocate` for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.decisions.allocation import BUDGETS, FINITE, Line, allocate, check_units
from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.laws.law import Array, Law
from scaling.store.columns import TRAINING_FLOPS

REACH = 30.0  # how far beyond the observed range, in log C (13 decades), a loss is sought
BUDGETS_SEARCHED = 201  # between the smallest and the largest C that ran, where a frontier has no closed form
FRONTIER = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class ComputeCurve:
    """Loss against compute, or whatever else a law is of, of an estimate and of its draws.

    Attributes:
      label: What it is called.
      variable: The column of what is spent.
      law: A law of one variable, or one of size and data, which is followed along its optimal frontier.
      params: Parameters `[1 + R, p]` in the law's order; row 0 is the estimate.
      observed: What was spent at least and at most.
      sizes: Smallest and largest N that a law of size and data was fitted on.
    """

    label: str
    variable: str
    law: Law
    params: Array
    observed: tuple[float, float]
    sizes: tuple[float, float] | None = None

    @property
    def is_frontier(self) -> bool:
        """Returns whether the curve is the frontier of a law of N and D."""
        return len(self.law.variables) == 2

    @property
    def is_slow(self) -> bool:
        """Returns whether every point of it has to be searched."""
        return self.is_frontier and not self.law.has_closed_form

    def evaluate(self, log_flops: Array) -> Array:
        """Returns the loss `[1 + R, g]` at log C: `[g]`, or `[1 + R, g]` for each draw its own."""
        z = np.broadcast_to(log_flops, (len(self.params), np.shape(log_flops)[-1]))
        if self.is_slow:
            return self._search(z, np.broadcast_to(np.arange(len(z))[:, None], z.shape))
        with np.errstate(all="ignore"):
            if self.is_frontier:
                parts = _full_params(self.law, self.params)
                factor, exponent = frontier_terms(parts)
                log_c = z - np.log(TRAINING_FLOPS)
                return parts["E"][:, None] + factor[:, None] * np.exp(-exponent[:, None] * log_c)
            values = self.law.evaluate([np.exp(z)], [self.params[:, i, None] for i in range(self.params.shape[1])])
            return np.broadcast_to(values, z.shape).astype(np.float64)

    def invert(self, loss: Array) -> Array:
        """Returns log C `[1 + R, g]` at which each draw reaches its loss `[1 + R, g]`.

        Infinite where the draw never reaches it (a loss below its floor), minus infinity where it is there from the
        start. Chinchilla's frontier has a closed form; the roots of other laws are sought.
        """
        from scipy.optimize import elementwise

        if self.is_frontier and not self.is_slow:
            parts = _full_params(self.law, self.params)
            factor, exponent = frontier_terms(parts)
            left = loss - parts["E"][:, None]
            with np.errstate(all="ignore"):
                log_c = -np.log(left / factor[:, None]) / exponent[:, None]
            return np.where(left > 0, log_c + np.log(TRAINING_FLOPS), np.inf)
        low, high = np.log(self.observed[0]) - REACH, np.log(self.observed[1]) + REACH
        if self.is_slow:
            low, high = max(low, BUDGETS[0]), min(high, BUDGETS[1])
        falls = self.is_slow or self._falls()
        last, first = (self.evaluate(np.full(loss.shape, end)) for end in (high, low))
        never = (last > loss) if falls else (last < loss)
        always = (first < loss) if falls else (first > loss)

        def lack(z: Array, wanted: Array, row: Array) -> Array:
            """Returns what is missing to the wanted loss, finite as roots need it; nothing where there is no loss."""
            if self.is_slow:
                value = self._search(z, row)
            else:
                params = self.params[row.astype(int)]
                value = self.law.evaluate([np.exp(z)], [params[..., i] for i in range(params.shape[-1])])
            gap = np.broadcast_to(value, z.shape) - wanted
            return np.nan_to_num(gap if falls else -gap, nan=-FINITE, posinf=FINITE, neginf=-FINITE)

        rows = np.broadcast_to(np.arange(len(self.params))[:, None], loss.shape)
        with np.errstate(all="ignore"):
            root = elementwise.find_root(lack, (low, high), args=(loss, rows)).x
        return np.where(never, np.inf, np.where(always, -np.inf, root))

    def _search(self, z: Array, row: Array) -> Array:
        """Returns the least loss at log C of the draws with these numbers, of the same shape as both."""
        line = Line(self.law, self.params, 0.0, None, {}, None, self.sizes).pick(row.ravel())
        return np.minimum(line.minimise(z.ravel(), is_rough=True).loss, FINITE).reshape(z.shape)

    def _falls(self) -> bool:
        """Returns whether the estimate falls with compute; raises `AnalysisError` if it turns."""
        value = self.evaluate(np.linspace(np.log(self.observed[0]), np.log(self.observed[1]), 201))[0]
        step = np.diff(value)
        if not ((step <= 0).all() or (step >= 0).all()) or value[0] == value[-1]:
            raise AnalysisError(
                f"law={self.law.name} of {self.label!r} is not monotone between {self.observed[0]:.3g} and "
                f"{self.observed[1]:.3g} {self.variable}, so no amount of it belongs to "
                "a value; run more, or fit a law like power_floor"
            )
        return bool(value[-1] < value[0])


def frontier_terms(params: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns K and c of the compute-optimal frontier L*(C) = E + K (C/6)^-c of L = E + A/N^alpha + B/D^beta.

    K = A G^-alpha + B G^beta with G = (alpha A / (beta B))^(1/(alpha + beta)), and c = alpha beta / (alpha + beta)
    (Hoffmann et al. 2022; the inverse as in Besiroglu et al. 2024).

    >>> besiroglu = {"A": 482.01, "B": 2085.43, "E": 1.81686, "alpha": 0.34781, "beta": 0.36585}
    >>> K, c = frontier_terms(besiroglu)
    >>> round(float(1.81686 + K * (5.76e23 / 6) ** -c), 5)
    1.97397
    """
    A, B, alpha, beta = (np.asarray(params[name], dtype=np.float64) for name in ("A", "B", "alpha", "beta"))
    total = alpha + beta
    with np.errstate(all="ignore"):
        log_g = (np.log(alpha * A) - np.log(beta * B)) / total
        return A * np.exp(-alpha * log_g) + B * np.exp(beta * log_g), alpha * beta / total


def _full_params(law: Law, params: Array) -> dict[str, Array]:
    free = {name: params[:, i] for i, name in enumerate(law.params)}
    return {name: free[name] if name in free else np.full(len(params), law.held[name]) for name in FRONTIER}


def make_curve(fit: Fit, draws: Array | None = None, *, observed: tuple[float, float] | None = None) -> ComputeCurve:
    """Returns the curve of a fit and of its draws.

    Args:
      fit: A fit of a law of one variable, such as `train_flops`, or of one of size and data, such as `chinchilla`.
      draws: Parameters `[R, p]`; those of the fit by default.
      observed: Compute between which it was observed. By default the range of the variable; along a frontier, the
        budgets whose optimal N and D both lie within those that were run.

    Raises:
      AnalysisError: if the law has other variables, or its frontier passes outside of what was run.
    """
    law, rows = fit.form, fit.replicates if draws is None else np.asarray(draws, dtype=np.float64)
    params = np.concatenate([fit.vector[None], rows.reshape(-1, len(fit.params))])
    label = fit.label or fit.law
    if len(law.variables) == 1:
        return ComputeCurve(label, law.variables[0], law, params, observed or fit.ranges[law.variables[0]])
    is_traced = "num_params" in law.variables and bool({"data_seen", "data_unique"} & {*law.variables})
    if not law.has_closed_form and not (is_traced and len(law.variables) == 2):
        raise AnalysisError(
            f"law={fit.law} of {label!r} has variables {law.variables!r}; a gain needs a law of one variable bound to "
            "train_flops, such as power_floor, or one of num_params and data_seen, such as chinchilla"
        )
    check_units(fit)
    size, data = law.variables if law.has_closed_form else sorted(law.variables, reverse=True)  # num_params is last
    curve = ComputeCurve(label, "train_flops", law, params, (1.0, 1.0), fit.ranges[size])
    ends = observed or _observe_frontier(curve, fit.ranges[size], fit.ranges[data])
    return replace(curve, observed=ends)


def _observe_frontier(
    curve: ComputeCurve, sizes: tuple[float, float], data: tuple[float, float]
) -> tuple[float, float]:
    """Returns the budgets whose optimal N and D both lie within those that were run."""
    runs = [np.log(sizes), np.log(data)]
    low, high = _solve_frontier(curve, runs) if not curve.is_slow else _search_frontier(curve, runs)
    if not (np.isfinite([low, high]).all() and low < high):
        raise AnalysisError(
            f"the frontier of {curve.label!r} passes outside all N and D that were run, so no budget was observed; "
            "give observed=(low, high), or run cells nearer to D/N of the optimum"
        )
    return float(np.exp(low)), float(np.exp(high))


def _solve_frontier(curve: ComputeCurve, runs: list[Array]) -> tuple[float, float]:
    parts = {name: value[0] for name, value in _full_params(curve.law, curve.params).items()}
    total = parts["alpha"] + parts["beta"]
    with np.errstate(all="ignore"):
        log_g = (np.log(parts["alpha"] * parts["A"]) - np.log(parts["beta"] * parts["B"])) / total
    # N* = G (C/6)^a and D* = (C/6)^b / G, solved for C at the ends of both ranges
    by_size = (runs[0] - log_g) * total / parts["beta"]
    by_data = (runs[1] + log_g) * total / parts["alpha"]
    low, high = max(by_size[0], by_data[0]), min(by_size[1], by_data[1])
    return low + np.log(TRAINING_FLOPS), high + np.log(TRAINING_FLOPS)


def _search_frontier(curve: ComputeCurve, runs: list[Array]) -> tuple[float, float]:
    least, most = np.log(TRAINING_FLOPS) + runs[0] + runs[1]
    z = np.linspace(least, most, BUDGETS_SEARCHED)
    best = allocate(curve.law, np.repeat(curve.params[:1], len(z), axis=0), flops=np.exp(z), sizes=curve.sizes)
    inside = np.ones(len(z), dtype=bool)
    for values, (first, last) in zip((best.num_params, best.data_seen), runs, strict=True):
        inside &= (np.log(values) >= first) & (np.log(values) <= last)
    return (float(z[inside][0]), float(z[inside][-1])) if inside.any() else (np.inf, -np.inf)
