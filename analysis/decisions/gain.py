"""Compute-equivalent gain: how many times more compute (or data, or steps) a baseline needs for a candidate's loss.

gain(C) = C_base(L_new(C)) / C, where C is what the candidate spends. For pure power laws log gain is a line in log C:
its height at a reference budget is the change of intercept, its slope the change of exponent. Over another variable
than compute it is the same of that: the examples, tokens, parameters or steps that the baseline needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.axes import Axis, Interval, read_axis, say_factor
from analysis.decisions.curves import ComputeCurve, make_curve
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.fit import Fit
from analysis.fitting.notices import Notice, find_withheld
from analysis.laws.law import Array

if TYPE_CHECKING:
    import pandas as pd

    from analysis.uncertainty.bootstrap import Bootstrap

POINTS, FEW_POINTS = 41, 9  # of the gain curve; few where each has to be searched
DOUBTFUL = 0.95  # share of the draws in which the baseline reaches the loss at all, below which a notice says so


@dataclass(frozen=True)
class Gain:
    """How much less a candidate needs than a baseline, of compute or of whatever else the curves are of.

    Attributes:
      base: Label of the baseline.
      candidate: Label of the candidate.
      table: The gain curve: the column of what the candidate spends, `loss`, `base_needs` (what the baseline needs for
        the same), `gain low high`, and `observed`: whether both curves were observed there.
      observed: What the candidate spends between which both were observed; NaN where they share no loss.
      reference: The budget at which the offset is read.
      offset: The gain there: the baseline needs so many times what the candidate needs; 1 is no change of intercept.
      exponent: Mean slope d log gain / d log C over the observed range, end to end; 0 is no change of exponent.
      verdict: `neither`, `intercept`, `slope` or `both`: what changed, as far as the intervals tell; `unknown` without
        intervals.
      is_paired: Whether row r of both fits is the same draw.
      unit: What data counts where the curves are of data: `examples` or `tokens`, where it is known.
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
    unit: str | None = None
    notices: tuple[Notice, ...] = field(default=())

    @property
    def axis(self) -> Axis:
        """Returns the words for what is spent."""
        return read_axis(str(self.table.columns[0]), self.unit)

    def __str__(self) -> str:
        axis = self.axis
        offset = say_factor(self.candidate, self.base, self.offset, axis, f"at {axis.format(self.reference)}")
        if not np.isfinite(self.exponent.estimate):
            return offset
        symbol = axis.symbol if len(axis.symbol) == 1 else axis.noun
        if np.isnan(self.exponent.low):
            return f"{offset}; the factor goes as {symbol}^{self.exponent.estimate:.3g} (no interval)"
        if not self.exponent.excludes(0.0):
            return f"{offset}; whether the factor changes with {symbol} is not settled: {symbol}^{self.exponent}"
        turn = "grows" if self.exponent.estimate > 0 else "falls"
        return f"{offset}; the factor {turn} with {symbol}, as {symbol}^{self.exponent}"


def measure_gain(
    base: Fit | ComputeCurve,
    candidate: Fit | ComputeCurve,
    *,
    at: Sequence[float] | None = None,
    reference: float | None = None,
    paired: bool | None = None,
    unit: str | None = None,
) -> Gain:
    """Returns C_base(L) / C_new(L) over the candidate's compute, with 95 % intervals and what changed.

    Args:
      base: A fit of a law of one variable, such as compute, or of one of size and data, such as `chinchilla`, or a
        `ComputeCurve`.
      candidate: Another, in the same column.
      at: What the candidate spends where to report; by default 41 budgets over its observed range.
      reference: Budget of the offset; by default the geometric middle of the range in which both were observed.
      paired: Whether row r of both fits' draws is the same draw, as it is when one bootstrap made both. By default it
        is taken to be when both have equally many draws of one seed and one table; pairing removes what seeds and
        subsets share.
      unit: What data counts, `examples` or `tokens`, where the curves are of data.

    Raises:
      AnalysisError: if the columns differ, a law cannot be inverted, or a budget is not positive.
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
        withheld = find_withheld(
            [notice for one in (base, candidate) if isinstance(one, Fit) for notice in one.warnings]
        )
        text = withheld.text if withheld else "no intervals: fit both with a bootstrap, of 1000 resamples say"
        notices.append(Notice(code="no_draws", text=text))
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
    budgets = (
        np.geomspace(*new.observed, FEW_POINTS if new.is_slow else POINTS)
        if at is None
        else np.asarray(at, dtype=np.float64).ravel()
    )
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
                "base_needs": np.exp(log_base[:g]),
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
        unit=unit,
        notices=tuple(notices),
    )


def compare_series(bootstrap: Bootstrap, base: str, candidate: str, **options: Any) -> Gain:
    """Returns the gain of one series of a bootstrap over another, paired: row r of both is the same draw.

    Raises:
      AnalysisError: on an unknown label, or as `measure_gain`.
    """
    for label in (base, candidate):
        if label not in bootstrap.fits:
            raise suggest_name("label", label, bootstrap.fits)
    curves = [make_curve(bootstrap.fits[label], bootstrap.replicates[label]) for label in (base, candidate)]
    return measure_gain(*curves, **options)


def _curve(one: Fit | ComputeCurve) -> ComputeCurve:
    return one if isinstance(one, ComputeCurve) else make_curve(one)


def _unpair(old: ComputeCurve, new: ComputeCurve) -> tuple[ComputeCurve, ComputeCurve]:
    """Returns both curves with equally many draws in an order that has nothing in common."""
    count = min(len(old.params), len(new.params)) - 1
    order = np.random.default_rng(0).permutation(len(new.params) - 1)[:count]
    return replace(old, params=old.params[: count + 1]), replace(new, params=new.params[np.r_[0, order + 1]])


def _find_common(old: ComputeCurve, new: ComputeCurve) -> tuple[float, float]:
    """Returns the candidate's compute between which both curves were observed at the same loss."""
    ends = [replace(c, params=c.params[:1]) for c in (old, new)]
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
