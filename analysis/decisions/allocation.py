"""Compute-optimal sizes of many parameter vectors at once: the minimum of a law along lines of equal total FLOPs.

A budget is C = 6 N D FLOPs of training, plus 2 N for each token that the model will read or write in use. At a fixed
budget the optimum is a minimum along one line, sought in log N; for a target loss the smallest budget that reaches it
is sought around that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.fitting.notices import UNITS_DISAGREE
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from analysis.laws.repeated_data import count_effective
from scaling.store.columns import INFERENCE_FLOPS, TRAINING_FLOPS

# How fast repeated data, and parameters beyond those the data feeds, lose worth (Muennighoff et al. 2023, C4 runs).
REPEATED_DATA, EXCESS_PARAMS = 15.387756, 5.309743
BUDGETS = (float(np.log(1e2)), float(np.log(1e45)))  # between which a target loss is sought, in FLOPs
FIRST_GRID, GRID = 257, 33  # points of the first grid in log N, and of those nested in it
PRECISION = 1e-12  # of log C, and of the loss beside the one to reach
EDGE = 1e-3  # in logarithms: this near to N = 1, D = 1 or the whole budget in N there is no optimum inside
FINITE = 1e100  # in place of an infinite loss: roots are sought between finite values
FAR_OUT = 1e6  # makes the distance from the fitted sizes count before the loss


@dataclass(frozen=True)
class Allocation:
    """Optima of R parameter vectors: arrays `[R]`; `total_flops` is infinite where no budget reaches the loss.

    `is_edge` says that the loss still falls at the end of the search, so that there is no optimum inside.
    """

    num_params: Array
    data_seen: Array
    loss: Array
    total_flops: Array
    is_edge: Array


def check_units(fit: Fit) -> None:
    """Checks that a fit's N and D are in units by which a budget of FLOPs can be divided.

    Raises:
      AnalysisError: the table that it was fitted to has C in other units.
    """
    for notice in fit.warnings:
        if notice.code == UNITS_DISAGREE:
            raise AnalysisError(f"the fit cannot be asked about FLOPs: {notice.text}")


def allocate(
    law: str | Law,
    params: Array,
    *,
    flops: float | Array | None = None,
    loss: float | None = None,
    inference_tokens: float = 0.0,
    unique_data: float | None = None,
    at: Mapping[str, float] | None = None,
    cost: Callable[[Array], Array] | None = None,
    sizes: tuple[float, float] | None = None,
) -> Allocation:
    """Returns the optimum of every parameter vector `[R, p]` of a law; the closed form for Chinchilla's where it holds.

    Args:
      law: A law of `num_params` and `data_seen`; one of `data_unique` in its place is read as one pass over the data.
      params: Parameters `[R, p]` in the law's order.
      flops: The budget, or `[R]` of them: of training, and of inference where `inference_tokens` are given.
      loss: In place of a budget: the loss to reach at the smallest total.
      inference_tokens: Tokens in use, at 2 N FLOPs each.
      unique_data: Distinct tokens or examples; see `analysis.decisions.optimum.find_optimum`.
      at: Values of the law's other variables.
      cost: Training FLOPs of one token as a function of N; 6 N by default.
      sizes: Smallest and largest N that the law was fitted on: of several minima, one near them is taken.

    Raises:
      AnalysisError: unless exactly one of `flops` and `loss` is given; if the law is not one of `num_params` and
        `data_seen`, or a variable has no value.

    >>> e, a, b = np.exp([0.5267228, 6.0073404, 6.0179186])  # Hoffmann et al. 2022, unrounded
    >>> best = allocate("chinchilla", np.array([[e, a, b, 0.33917084, 0.2849083]]), flops=5.76e23)
    >>> f"{best.num_params[0]:.3e} {best.data_seen[0]:.3e} {best.loss[0]:.5f}"
    '4.036e+10 2.379e+12 1.91841'
    """
    from scipy.optimize import elementwise

    if (flops is None) == (loss is None):
        raise AnalysisError(f"flops={flops} and loss={loss}: give exactly one of them, the budget or the loss to reach")
    law, params = get_law(law), np.atleast_2d(np.asarray(params, dtype=np.float64))
    line = Line(law, params, inference_tokens, unique_data, dict(at or {}), cost, sizes)
    if flops is not None:
        return line.minimise(np.broadcast_to(np.log(flops), len(params)))
    goal, rows = float(loss or 0.0), np.arange(len(params))

    def gap(log_flops: Array, rows: Array) -> Array:
        return np.minimum(line.pick(rows).minimise(log_flops, is_rough=True).loss, FINITE) - goal

    root = elementwise.find_root(gap, BUDGETS, args=(rows,), tolerances={"xatol": PRECISION, "fatol": PRECISION * goal})
    best = line.minimise(np.where(root.success, root.x, BUDGETS[1]))
    missing = np.where(root.success, 1.0, np.inf)
    return Allocation(
        best.num_params * missing, best.data_seen * missing, best.loss, best.total_flops * missing, best.is_edge
    )


class Line:
    """The law along lines of equal total FLOPs, one for each of R parameter vectors."""

    def __init__(
        self,
        law: Law,
        params: Array,
        inference_tokens: float,
        unique_data: float | None,
        at: dict[str, float],
        cost: Callable[[Array], Array] | None,
        sizes: tuple[float, float] | None,
    ) -> None:
        given = set(law.variables)
        if "num_params" not in given or not given & {"data_seen", "data_unique"}:
            raise AnalysisError(
                f"law={law.name!r} has variables {law.variables!r}; an optimum needs a law of num_params and "
                "data_seen, like chinchilla"
            )
        for name in law.variables:
            if name not in ("num_params", "data_seen", "data_unique", *at):
                raise AnalysisError(f"law={law.name!r} also depends on {name}; give its value with at={{{name!r}: …}}")
        self.law, self.params, self.at, self.cost = law, params[:, :, None], at, cost
        self.inference, self.unique, self.sizes = inference_tokens, unique_data, sizes
        self.repeats = unique_data is not None and not {"data_seen", "data_unique"} <= given
        self.fed: Array = np.array(np.inf)
        if self.repeats:
            self.fed = self.feed()
        plain = law.has_closed_form and not law.held and cost is None and not inference_tokens
        self.is_closed = plain and bool((params[:, 1:3] > 0).all())

    def pick(self, rows: Array) -> Line:
        """Returns the lines of some of the parameter vectors, by number."""
        part = copy.copy(self)
        part.params = self.params[rows.astype(int)]
        part.fed = self.fed[rows.astype(int)] if self.fed.ndim else self.fed
        return part

    def value(self, N: Array, D: Array, unique: float | None) -> Array:
        """Returns the loss at N and D `[R, g]`, infinite where the formula has no value."""
        m = D if unique is None else np.minimum(D, unique)
        columns = {"num_params": N, "data_seen": D, "data_unique": m, **self.at}
        with np.errstate(all="ignore"):
            loss = self.law.evaluate(
                [columns[name] for name in self.law.variables], [self.params[:, i] for i in range(self.params.shape[1])]
            )
        loss = np.broadcast_to(loss, N.shape)
        return np.where(np.isfinite(loss), loss, np.inf)

    def worth(self, N: Array, D: Array) -> Array:
        """Returns the loss where `unique` tokens are seen more than once; D is at least that."""
        if not self.repeats:
            return self.value(N, D, self.unique)
        useful = np.minimum(N, self.fed)
        return self.value(
            count_effective(useful, N, EXCESS_PARAMS), count_effective(self.unique, D, REPEATED_DATA), None
        )

    def feed(self) -> Array:
        """Returns the size `[R, 1]` for which the unique data is compute-optimal: there neither is worth trading."""
        from scipy.optimize import elementwise

        D, step, largest = np.float64(self.unique), np.exp(1e-3), 2 * np.log(1e22)

        def gain(log_size: Array, rows: Array) -> Array:
            """Returns how much better it is to trade data for parameters than parameters for data."""
            N, line = np.exp(log_size)[:, None], self.pick(rows)
            sides = line.value(N / step, D * step, None), line.value(N * step, D / step, None)
            return np.subtract(*np.minimum(sides, FINITE))[:, 0]

        rows = np.arange(len(self.params))
        root = elementwise.find_root(gain, (0.0, largest), args=(rows,)).x
        at_end = np.where(gain(np.full(len(rows), largest), rows) > 0, largest, 0.0)
        return np.exp(np.where(np.isfinite(root), root, at_end))[:, None]

    def minimise(self, log_flops: Array, *, is_rough: bool = False) -> Allocation:
        """Returns the optima at budgets `[R]`; a rough one has its loss to 10 digits, which is flat at a minimum."""
        best = self.solve(log_flops) if self.is_closed else self.search(log_flops, None, is_rough)
        if self.unique is None or (best.data_seen <= self.unique).all():
            return best
        again, short = self.search(log_flops, self.unique, is_rough), best.data_seen > self.unique
        pick = [np.where(short, getattr(again, name), getattr(best, name)) for name in Allocation.__dataclass_fields__]
        return Allocation(*pick)

    def solve(self, log_flops: Array) -> Allocation:
        """Returns Chinchilla's closed form: N* = G (C/6)^a, D* = (C/6)^b / G; its nearest edge where that is none.

        A weak fit's G may leave all numbers, or its optimum lie at less than one parameter or one token.
        """
        _, A, B, alpha, beta = self.params[:, :, 0].T
        total = alpha + beta
        log_g = (np.log(alpha) - np.log(beta) + np.log(A) - np.log(B)) / total
        budget = log_flops - np.log(TRAINING_FLOPS)
        log_n, log_d = log_g + budget * beta / total, budget * alpha / total - log_g
        is_edge = np.minimum(log_n, log_d) < EDGE
        if is_edge.any():
            log_n = np.where(is_edge, np.clip(log_n, 0.0, np.maximum(budget, 0.0)), log_n)
            log_d = np.where(is_edge, budget - log_n, log_d)
        N, D = np.exp(log_n), np.exp(log_d)
        return Allocation(N, D, self.value(N[:, None], D[:, None], None)[:, 0], np.exp(log_flops), is_edge)

    def search(self, log_flops: Array, unique: float | None, is_rough: bool) -> Allocation:
        """Returns the optima on nested grids in log N, polished by Newton steps."""
        C = np.exp(log_flops)[:, None]

        def data(x: Array) -> Array:
            N = np.exp(x)
            per_token = TRAINING_FLOPS * N if self.cost is None else self.cost(N)
            return (C - INFERENCE_FLOPS * N * self.inference) / per_token

        def measure(x: Array) -> Array:
            D = data(x)
            least = 1.0 if unique is None else unique * (1 - 1e-12)
            safe = np.maximum(D, least)
            loss = self.value(np.exp(x), safe, None) if unique is None else self.worth(np.exp(x), safe)
            return np.where(least <= D, loss, np.inf)

        low, high = np.zeros_like(C), np.log(C)
        x = low + (high - low) * np.linspace(0, 1, FIRST_GRID)
        best, rows = self.choose(x, measure(x), np.log(C)), np.arange(len(C))
        for _ in range(3 if is_rough else 5):
            first, last = (x[rows, np.clip(best + step, 0, x.shape[1] - 1)][:, None] for step in (-1, 1))
            x = first + (last - first) * np.linspace(0, 1, GRID)
            best = measure(x).argmin(axis=1)
        x = x[rows, best][:, None]
        for _ in range(0 if is_rough else 3):
            x = _polish(measure, x)
        N, D = np.exp(x), np.maximum(data(x), 1.0)
        is_edge = (np.minimum(x - low, high - x) < EDGE) | (np.log(D) < EDGE)
        return Allocation(N[:, 0], D[:, 0], measure(x)[:, 0], np.exp(log_flops), is_edge[:, 0])

    def choose(self, x: Array, values: Array, log_flops: Array) -> Array:
        """Returns which grid point `[R]` to start from: the lowest of the minima near the fitted sizes.

        Flexible laws turn down again far outside of their points. A minimum is lower than both neighbours, and the
        ones beyond them are higher by more than rounding; without any, the lowest point is returned.
        """
        padded = np.pad(values, ((0, 0), (2, 2)), constant_values=np.nan)
        sides = [padded[:, 2 + step : padded.shape[1] - 2 + step] for step in (-2, -1, 1, 2)]
        with np.errstate(invalid="ignore"):
            is_low = (values <= sides[1]) & (values <= sides[2]) & np.isfinite(sides[0] + sides[3])
            is_low &= (np.minimum(sides[0], sides[3]) - values) > 1e-12 * np.abs(values)
        distance = np.zeros_like(x)
        if self.sizes is not None:
            # where N grows by half of what the budget grows by, give or take ten times
            growth = np.maximum(log_flops - np.log(TRAINING_FLOPS * self.sizes[1] ** 2), 0)
            near = np.log(self.sizes[0] / 10), np.log(self.sizes[1] * 10) + growth
            distance = np.maximum(np.maximum(near[0] - x, x - near[1]), 0)
        ranked = np.where(is_low, distance * FAR_OUT + values, np.inf)
        return np.where(is_low.any(axis=1), ranked.argmin(axis=1), values.argmin(axis=1))


def _polish(measure: Callable[[Array], Array], x: Array) -> Array:
    """Returns x after a Newton step with derivatives of fourth order, where that raises nothing (kinks do)."""
    h = 0.01  # truncation, of order h^4, and rounding, of order 1e-16 / h, are then both near 1e-11
    f = [measure(x + k * h) for k in (-2, -1, 0, 1, 2)]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * h)
        bend = (16 * (f[3] + f[1]) - (f[4] + f[0]) - 30 * f[2]) / (12 * h * h)
        moved = x - slope / bend
        fine = np.isfinite(moved) & (bend > 0) & (np.abs(moved - x) < h)
    moved = np.where(fine, moved, x)
    return np.where(measure(moved) <= f[2] * (1 + 1e-14), moved, x)
