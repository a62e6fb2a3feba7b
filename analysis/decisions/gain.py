"""Compute-equivalent gain: how many times more compute a baseline needs for a candidate's loss, and why.

gain(C) = C_base(L_new(C)) / C, where C is what the candidate spends. For pure power laws log gain is a line in log C:
its height at a reference budget is the change of intercept, its slope the change of exponent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.allocation import FINITE
from analysis.errors import AnalysisError
from analysis.fitting.fit_law import Fit
from analysis.fitting.notices import Notice
from analysis.laws.law import Array, Law
from scaling.store.columns import TRAINING_FLOPS

if TYPE_CHECKING:
    import pandas as pd

    from analysis.uncertainty.bootstrap import Bootstrap

POINTS = 41  # of the gain curve
REACH = 30.0  # how far beyond the observed range, in log C (13 decades), the baseline's compute is sought
DOUBTFUL = 0.95  # share of the draws in which the baseline reaches the loss at all, below which a notice says so
FRONTIER = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; NaN ends without draws."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Returns whether the interval lies to one side of the value."""
        return self.low > value or self.high < value

    def __str__(self) -> str:
        return f"{self.estimate:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class ComputeCurve:
    """Loss against compute, of an estimate and of its draws.

    Attributes:
      label: What it is called.
      variable: The compute column.
      law: A law of one variable, or `chinchilla`, which is followed along its optimal frontier.
      params: Parameters `[1 + R, p]` in the law's order; row 0 is the estimate.
      observed: Compute between which the curve was observed.
    """

    label: str
    variable: str
    law: Law
    params: Array
    observed: tuple[float, float]

    @property
    def is_frontier(self) -> bool:
        """Returns whether the curve is the frontier of a law of N and D."""
        return len(self.law.variables) == 2

    def evaluate(self, log_flops: Array) -> Array:
        """Returns the loss `[1 + R, g]` at log C: `[g]`, or `[1 + R, g]` for each draw its own."""
        z = np.broadcast_to(log_flops, (len(self.params), np.shape(log_flops)[-1]))
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
        start. A frontier has a closed form; the roots of other laws are sought.
        """
        from scipy.optimize import elementwise

        if self.is_frontier:
            parts = _full_params(self.law, self.params)
            factor, exponent = frontier_terms(parts)
            left = loss - parts["E"][:, None]
            with np.errstate(all="ignore"):
                log_c = -np.log(left / factor[:, None]) / exponent[:, None]
            return np.where(left > 0, log_c + np.log(TRAINING_FLOPS), np.inf)
        low, high = np.log(self.observed[0]) - REACH, np.log(self.observed[1]) + REACH
        falls = self._falls()
        last, first = (self.evaluate(np.full(loss.shape, end)) for end in (high, low))
        never = (last > loss) if falls else (last < loss)
        always = (first < loss) if falls else (first > loss)

        def lack(z: Array, wanted: Array, *params: Array) -> Array:
            """Returns what is missing to the wanted loss, finite as roots need it; nothing where there is no loss."""
            gap = np.broadcast_to(self.law.evaluate([np.exp(z)], params), z.shape) - wanted
            return np.nan_to_num(gap if falls else -gap, nan=-FINITE, posinf=FINITE, neginf=-FINITE)

        with np.errstate(all="ignore"):
            root = elementwise.find_root(lack, (low, high), args=(loss, *self.params.T[:, :, None])).x
        return np.where(never, np.inf, np.where(always, -np.inf, root))

    def _falls(self) -> bool:
        """Returns whether the estimate falls with compute; raises `AnalysisError` if it turns."""
        value = self.evaluate(np.linspace(np.log(self.observed[0]), np.log(self.observed[1]), 201))[0]
        step = np.diff(value)
        if not ((step <= 0).all() or (step >= 0).all()) or value[0] == value[-1]:
            raise AnalysisError(
                f"law={self.law.name} of {self.label!r} is not monotone between {self.observed[0]:.3g} and "
                f"{self.observed[1]:.3g} {self.variable}, so no compute belongs to a loss; fit a law like power_floor"
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
      fit: A fit of a law of one variable, such as `train_flops`, or of `chinchilla`.
      draws: Parameters `[R, p]`; those of the fit by default.
      observed: Compute between which it was observed. By default the range of the variable; along a frontier, the
        budgets whose optimal N and D both lie within those that were run.

    Raises:
      AnalysisError: if the law has several variables and is not `chinchilla`.
    """
    law, rows = fit.form, fit.replicates if draws is None else np.asarray(draws, dtype=np.float64)
    params = np.concatenate([fit.vector[None], rows.reshape(-1, len(fit.params))])
    label = fit.label or fit.law
    if len(law.variables) == 1:
        return ComputeCurve(label, law.variables[0], law, params, observed or fit.ranges[law.variables[0]])
    if not law.has_closed_form:
        raise AnalysisError(
            f"law={fit.law} of {label!r} has variables {law.variables!r}; a gain needs a law of one variable bound to "
            "train_flops, such as power_floor, or chinchilla"
        )
    curve = ComputeCurve(label, "train_flops", law, params, (1.0, 1.0))
    return ComputeCurve(label, "train_flops", law, params, observed or _observe_frontier(curve, fit))


def _observe_frontier(curve: ComputeCurve, fit: Fit) -> tuple[float, float]:
    parts = {name: value[0] for name, value in _full_params(curve.law, curve.params).items()}
    total = parts["alpha"] + parts["beta"]
    log_g = (np.log(parts["alpha"] * parts["A"]) - np.log(parts["beta"] * parts["B"])) / total
    sizes, data = (np.log(fit.ranges[name]) for name in fit.columns)
    # N* = G (C/6)^a and D* = (C/6)^b / G, solved for C at the ends of both ranges
    by_size = (sizes - log_g) * total / parts["beta"]
    by_data = (data + log_g) * total / parts["alpha"]
    low, high = max(by_size[0], by_data[0]), min(by_size[1], by_data[1])
    if not (np.isfinite([low, high]).all() and low < high):
        raise AnalysisError(
            f"the frontier of {curve.label!r} passes outside all N and D that were run, so no budget was observed; "
            "give observed=(low, high), or run cells nearer to D/N of the optimum"
        )
    return TRAINING_FLOPS * float(np.exp(low)), TRAINING_FLOPS * float(np.exp(high))


@dataclass(frozen=True)
class Gain:
    """How much compute a candidate saves beside a baseline.

    Attributes:
      base: Label of the baseline.
      candidate: Label of the candidate.
      table: The gain curve: the compute column (what the candidate spends), `loss`, `base_flops` (what the baseline
        needs), `gain low high`, and `observed`: whether both curves were observed there.
      observed: The candidate's compute between which both were observed; NaN where they share no loss.
      reference: The budget at which the offset is read.
      offset: The gain there; 1 is no change of intercept.
      exponent: Mean slope d log gain / d log C over the observed range, end to end; 0 is no change of exponent.
      verdict: `neither`, `intercept`, `slope` or `both`: what changed, as far as the intervals tell; `unknown` without
        intervals.
      is_paired: Whether row r of both fits is the same draw.
      notices: What weakens the result.
    """

    base: str
    candidate: str
    table: pd.DataFrame
    observed: tuple[float, float]
    reference: float
    offset: Interval
    exponent: Interval
    verdict: str
    is_paired: bool
    notices: tuple[Notice, ...] = field(default=())

    def __str__(self) -> str:
        return (
            f"{self.candidate} needs 1/{self.offset} of the compute of {self.base} at {self.reference:.3g}; the gain "
            f"grows as C^{self.exponent}: {self.verdict}"
        )


def measure_gain(
    base: Fit | ComputeCurve,
    candidate: Fit | ComputeCurve,
    *,
    at: Sequence[float] | None = None,
    reference: float | None = None,
    paired: bool | None = None,
) -> Gain:
    """Returns C_base(L) / C_new(L) over the candidate's compute, with 95 % intervals and what changed.

    Args:
      base: A fit of a law of one variable (compute), or of `chinchilla`, or a `ComputeCurve`.
      candidate: Another, in the same compute column.
      at: Compute of the candidate at which to report; by default 41 budgets over its observed range.
      reference: Budget of the offset; by default the geometric middle of the range in which both were observed.
      paired: Whether row r of both fits' draws is the same draw, as it is when one bootstrap made both. By default it
        is taken to be when both have equally many draws of one seed and one table; pairing removes what seeds and
        subsets share.

    Raises:
      AnalysisError: if the compute columns differ, a law cannot be inverted, or a budget is not positive.
    """
    import pandas as pd

    if paired is None:
        paired = (
            isinstance(base, ComputeCurve)
            or isinstance(candidate, ComputeCurve)
            or (base.seed, base.table_sha256) == (candidate.seed, candidate.table_sha256)
        )
        paired = paired and _curve(base).params.shape[0] == _curve(candidate).params.shape[0]
    old, new = _curve(base), _curve(candidate)
    if old.variable != new.variable:
        raise AnalysisError(
            f"{old.label!r} is fitted in {old.variable} and {new.label!r} in {new.variable}; bind both to one column"
        )
    if len(old.params) != len(new.params) and paired:
        raise AnalysisError(
            f"{old.label!r} has {len(old.params) - 1} draws and {new.label!r} {len(new.params) - 1}; bootstrap both "
            "together, or pass paired=False"
        )
    if not paired:
        old, new = _unpair(old, new)
    notices: list[Notice] = []
    if len(new.params) < 3:
        notices.append(Notice(code="no_draws", text="no intervals: fit both with a bootstrap, of 1000 resamples say"))
    low, high = _find_common(old, new)
    if not low < high:
        notices.append(
            Notice(
                code="no_overlap",
                is_weak=True,
                text=f"{old.label} and {new.label} were observed at no common loss, so the gain is an extrapolation "
                "everywhere; run the baseline longer, or the candidate shorter",
            )
        )
    ends = (low, high) if low < high else new.observed
    budgets = np.geomspace(*new.observed, POINTS) if at is None else np.asarray(at, dtype=np.float64).ravel()
    middle = float(np.sqrt(ends[0] * ends[1])) if reference is None else float(reference)
    wanted = np.r_[budgets, middle, ends]
    if not (np.isfinite(wanted) & (wanted > 0)).all():
        raise AnalysisError(f"at={wanted.tolist()} must hold finite and positive budgets in {new.variable}")
    z = np.log(wanted)
    loss = new.evaluate(z)
    log_gain = old.invert(loss) - z
    g, log_base = len(budgets), log_gain[0] + z
    reached = np.isfinite(log_gain[:, : g + 3]).mean(axis=0)
    if reached[-3:].min() < DOUBTFUL:
        notices.append(
            Notice(
                code="unreachable",
                is_weak=True,
                text=f"in {1 - reached[-3:].min():.0%} of draws {old.label} never reaches what {new.label} reaches: "
                "the gain has no upper end there; run the baseline nearer to its floor",
            )
        )
    bottom, top = _percentiles(log_gain)
    with np.errstate(all="ignore"):
        slopes = (log_gain[:, -1] - log_gain[:, -2]) / (z[-1] - z[-2])
    slope_low, slope_high = _percentiles(slopes[:, None])
    with np.errstate(over="ignore"):
        offset = Interval(*(float(np.exp(item[g])) for item in (log_gain[0], bottom, top)))
        frame = pd.DataFrame(
            {
                new.variable: budgets,
                "loss": loss[0, :g],
                "base_flops": np.exp(log_base[:g]),
                "gain": np.exp(log_gain[0, :g]),
                "low": np.exp(bottom[:g]),
                "high": np.exp(top[:g]),
                "observed": (budgets >= low * (1 - 1e-12)) & (budgets <= high * (1 + 1e-12)),
            }
        )
    exponent = Interval(float(slopes[0]), float(slope_low[0]), float(slope_high[0]))
    return Gain(
        base=old.label,
        candidate=new.label,
        table=frame,
        observed=(low, high) if low < high else (float("nan"), float("nan")),
        reference=middle,
        offset=offset,
        exponent=exponent,
        verdict=_judge(offset, exponent),
        is_paired=paired,
        notices=tuple(notices),
    )


def compare_series(bootstrap: Bootstrap, base: str, candidate: str, **options: Any) -> Gain:
    """Returns the gain of one series of a bootstrap over another, paired: row r of both is the same draw.

    Raises:
      AnalysisError: on an unknown label, or as `measure_gain`.
    """
    from analysis.errors import suggest_name

    for label in (base, candidate):
        if label not in bootstrap.fits:
            raise suggest_name("label", label, bootstrap.fits)
    curves = [make_curve(bootstrap.fits[label], bootstrap.replicates[label]) for label in (base, candidate)]
    return measure_gain(*curves, **options)


def _curve(one: Fit | ComputeCurve) -> ComputeCurve:
    return one if isinstance(one, ComputeCurve) else make_curve(one)


def _unpair(old: ComputeCurve, new: ComputeCurve) -> tuple[ComputeCurve, ComputeCurve]:
    """Returns both curves with equally many draws in an order that has nothing in common."""
    from dataclasses import replace

    count = min(len(old.params), len(new.params)) - 1
    order = np.random.default_rng(0).permutation(len(new.params) - 1)[:count]
    return replace(old, params=old.params[: count + 1]), replace(new, params=new.params[np.r_[0, order + 1]])


def _find_common(old: ComputeCurve, new: ComputeCurve) -> tuple[float, float]:
    """Returns the candidate's compute between which both curves were observed at the same loss."""
    ends = [ComputeCurve(c.label, c.variable, c.law, c.params[:1], c.observed) for c in (old, new)]
    reach = ends[1].invert(ends[0].evaluate(np.log(old.observed)))[0]  # where the candidate has the baseline's losses
    with np.errstate(over="ignore"):
        low, high = np.exp(reach)
    return max(new.observed[0], float(low)), min(new.observed[1], float(high))


def _percentiles(values: Array) -> tuple[Array, Array]:
    """Returns the 2.5 % and 97.5 % points of the draws, rows 1 and on; NaN without draws.

    A draw without a number says nothing; infinite ones count, which is why nothing is interpolated.
    """
    draws = values[1:]
    if len(draws) < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    low, high = np.full((2, values.shape[1]), np.nan)
    some = ~np.isnan(draws).all(axis=0)
    if some.any():
        low[some] = np.nanquantile(draws[:, some], 0.025, axis=0, method="lower")
        high[some] = np.nanquantile(draws[:, some], 0.975, axis=0, method="higher")
    return low, high


def _judge(offset: Interval, exponent: Interval) -> str:
    if not np.isfinite(offset.low) or np.isnan(exponent.low):
        return "unknown"
    moved, turned = offset.excludes(1.0), exponent.excludes(0.0)
    return "both" if moved and turned else "intercept" if moved else "slope" if turned else "neither"
