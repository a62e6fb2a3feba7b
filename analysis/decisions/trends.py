"""Power laws of the best size and data against compute, and what tells that one of them means nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.decisions.optimum import Estimate, estimate
from analysis.errors import AnalysisError
from analysis.fitting.notices import FAR, Notice
from analysis.laws.law import Array

EXPONENTS = (-0.5, 1.5)  # a and b lie in 0 … 1; an interval that leaves them by half as much again says nothing
WIDEST = 1.0  # of an exponent's interval: as wide as all that it could be
MOST_DECADES = 4.0  # of an interval of N* or D*: wider, it names no model
UNKNOWN = "not identified"
# Notices of a fit whose points cannot tell the exponents, however narrow the intervals of its resamples are.
BLIND = ("few_points", "few_levels", "collinear", "no_interior_optimum")
STEP = 0.01  # of log C, for the slope of log N* in laws without a closed form


@dataclass(frozen=True)
class Trend:
    """A power law y = k C^e through optima at several budgets.

    Attributes:
      exponent: e.
      log_factor: log k.
      r2: Of the logarithms; NaN through two budgets, which leave no residual.
      ranges: Smallest and largest C.
      draws: Resamples `[R, 2]` of (log k, e); NaN where a resample has no line.
    """

    exponent: Estimate
    log_factor: float
    r2: float
    ranges: tuple[float, float]
    draws: Array = field(repr=False)

    def at(self, flops: float) -> Estimate:
        """Returns y at a budget; infinite where a steep line leaves all numbers."""
        log_c = np.log(flops)
        with np.errstate(over="ignore"):
            value = np.exp(self.log_factor + self.exponent.value * log_c)
            return estimate(float(value), np.exp(self.draws[:, 0] + self.draws[:, 1] * log_c))


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
    r2 = float(r2) if len(np.unique(x)) > 2 else float("nan")
    return Trend(estimate(float(slope[0]), lines[:, 1]), float(level[0]), r2, ranges, lines)


def is_exponent_identified(exponent: Estimate) -> bool:
    """Returns whether an exponent of N* or D* has an interval that says something.

    >>> [is_exponent_identified(Estimate(value=0.5, low=low, high=0.6)) for low in (0.4, -0.7)]
    [True, False]
    """
    low, high = exponent.ends
    return EXPONENTS[0] <= low and high <= EXPONENTS[1] and high - low <= WIDEST


def is_possible(exponent: Estimate) -> bool:
    """Returns whether an optimum inside, of a loss that falls with N and D, can have this exponent."""
    return 0 < exponent.value < 1


def is_size_identified(size: Estimate) -> bool:
    """Returns whether N* or D* has an interval that names a model.

    >>> [is_size_identified(Estimate(value=1e9, low=low, high=2e9)) for low in (5e8, 1e4)]
    [True, False]
    """
    low, high = size.ends
    return low > 0 and np.isfinite(high) and float(np.log10(high / low)) <= MOST_DECADES


def show_exponent(exponent: Estimate) -> str:
    """Returns an exponent for people: in words where its interval says nothing.

    >>> show_exponent(Estimate(value=0.62, low=-0.54, high=1.95))
    'not identified'
    """
    return str(exponent) if is_exponent_identified(exponent) else UNKNOWN


def show_size(size: Estimate) -> str:
    """Returns N* or D* for people: in words where its interval names no model."""
    return str(size) if is_size_identified(size) else UNKNOWN


def show_lines(size: Estimate, data: Estimate) -> str:
    """Returns the two lines of N* and D* for people.

    >>> show_lines(Estimate(value=0.45), Estimate(value=0.55))
    'N* ~ C^0.45, D* ~ C^0.55'
    >>> show_lines(Estimate(value=3.1), Estimate(value=0.5))
    'exponent of N* not identified, D* ~ C^0.5'
    """
    pairs = {"N*": size, "D*": data}
    return ", ".join(
        f"{name} ~ C^{item}" if is_exponent_identified(item) else f"exponent of {name} {UNKNOWN}"
        for name, item in pairs.items()
    )


def check_exponents(size: Estimate, data: Estimate) -> list[Notice]:
    """Returns what is wrong with the exponents a of N* and b of D*: too uncertain, or impossible inside a valley."""
    notices, pairs = [], {"N*": size, "D*": data}
    lost = [name for name, item in pairs.items() if not is_exponent_identified(item)]
    if lost:
        text = (
            f"the exponent{'s' if len(lost) > 1 else ''} of {' and '.join(lost)} could be anything (intervals as wide "
            "as all that is possible): no number is shown; run more sizes on both sides of the minima, at budgets a "
            "decade apart"
        )
        notices.append(Notice(code="unidentified", text=text, is_weak=True))
    outside = _name_impossible(size.value, data.value)
    if outside:
        text = (
            f"along this line {outside}, which no optimum inside does whose loss falls with both: a minimum is at the "
            "wrong place, or the budgets lie too near to each other; add budgets and sizes around the minima"
        )
        notices.append(Notice(code="implausible_exponent", text=text, is_weak=True))
    return notices


def check_sizes(num_params: Estimate, data_seen: Estimate, flops: float) -> list[Notice]:
    """Returns a notice where the interval of N* or D* at a budget is too wide to name a model."""
    pairs = {"N*": num_params, "D*": data_seen}
    lost = [name for name, item in pairs.items() if not is_size_identified(item)]
    if not lost:
        return []
    text = (
        f"{' and '.join(lost)} at {flops:.3g} FLOPs could be anything over more than {MOST_DECADES:g} decades: no "
        "number is shown; ask for a budget nearer to the runs, or run more sizes"
    )
    return [Notice(code="unidentified", text=text, is_weak=True)]


def check_budget(flops: float, ranges: tuple[float, float]) -> list[Notice]:
    """Returns a notice where a budget is far outside of those that a line was fitted through."""
    beyond = max(flops / ranges[1], ranges[0] / flops)
    if beyond <= FAR:
        return []
    text = (
        f"{flops:.3g} FLOPs are {beyond:.3g} times beyond the budgets ({ranges[0]:.3g} to {ranges[1]:.3g}); a "
        "straight line need not go on that far: add a larger budget"
    )
    return [Notice(code="extrapolation", text=text)]


def merge_notices(told: Iterable[tuple[str, Sequence[Notice]]]) -> list[tuple[tuple[str, ...], Notice]]:
    """Returns each notice once, with the names of all that said it, in the order of the first.

    >>> one, two = (Notice(code=code, text="…") for code in ("a", "b"))
    >>> [(names, notice.code) for names, notice in merge_notices([("x", [one, two]), ("y", [one])])]
    [(('x', 'y'), 'a'), (('x',), 'b')]
    """
    found: dict[Notice, list[str]] = {}
    for name, notices in told:
        for notice in notices:
            names = found.setdefault(notice, [])
            if name not in names:
                names.append(name)
    return [(tuple(names), notice) for notice, names in found.items()]


def name_speaker(names: Sequence[str], notice: Notice) -> Notice:
    """Returns a notice that says whose it is.

    >>> name_speaker(("cubic", "parabola"), Notice(code="few", text="two budgets")).text
    'cubic, parabola: two budgets'
    """
    told = ", ".join(name for name in names if name)
    return notice.model_copy(update={"text": f"{told}: {notice.text}"}) if told else notice


def _name_impossible(size: float, data: float) -> str:
    falls = [f"{name} falls with the budget" for name, value in (("N*", size), ("D*", data)) if value <= 0]
    fast = [f"{name} grows faster than the budget" for name, value in (("N*", size), ("D*", data)) if value >= 1]
    return " and ".join(fast + falls)
