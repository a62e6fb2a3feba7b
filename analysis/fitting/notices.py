"""What a fit says of its own weakness: coded warnings, each with its remedy, and the checks that find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from analysis.laws.law import Array, Law
from analysis.tables.words import count_things

# JᵀJ in (log coefficients, exponents): 1e7 on Chinchilla's well-spread runs, above 1e16 when D = 20 N throughout.
CONDITION_LIMIT = 1e12
MIN_LEVELS = 3  # two levels of a predictor fix a slope and say nothing of its curvature
COLLINEAR = 0.98  # |correlation| of two predictors' logarithms above which their exponents cannot be told apart
MIN_SPAN = 10.0  # the ratio D/N should span a decade (SCIENCE: three values or more over ten times)
FAR = 10.0  # how far beyond the design, as a factor, a prediction is called an extrapolation worth a warning
UNITS_DISAGREE = "units_disagree"  # the code of a fit whose N and D cannot be in the units of the table's C
# Codes of notices for which a fit has estimates and no interval.
WITHHELD = ("one_cluster", "too_few_clusters", "too_few_points", "equal_draws")


class Notice(BaseModel):
    """One warning: a code for programs, and a sentence for people that ends in the remedy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    text: str
    is_weak: bool = False  # whether it makes the fit weak

    def __str__(self) -> str:
        return f"{self.text} [{self.code}]"


def check_design(law: Law, columns: Mapping[str, Array]) -> list[Notice]:
    """Returns what is wrong with the points before anything is fitted: levels, collinear predictors, their number."""
    found = []
    arrays = {name: np.asarray(columns[name], dtype=np.float64) for name in law.variables}
    distinct = len(np.unique(np.stack(list(arrays.values())), axis=1).T)
    if distinct <= len(law.params):
        found.append(
            Notice(
                code="few_points",
                is_weak=True,
                text=f"{distinct} distinct points for {len(law.params)} parameters: the curve can pass through all; "
                "add sizes, or choose a law with fewer parameters",
            )
        )
    for name, values in arrays.items():
        levels = len(np.unique(values))
        if levels < MIN_LEVELS:
            found.append(
                Notice(
                    code="few_levels",
                    is_weak=True,
                    text=f"{name} has {levels} distinct values: its exponent is not identified; run at least "
                    f"{MIN_LEVELS}, spread over a decade",
                )
            )
    if law.may_be_zero:  # proportions, which have no logarithms
        return found
    names = [name for name, values in arrays.items() if len(np.unique(values)) >= MIN_LEVELS]
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            correlation = float(np.corrcoef(np.log(arrays[first]), np.log(arrays[second]))[0, 1])
            if abs(correlation) > COLLINEAR:
                ratio = arrays[second] / arrays[first]
                found.append(
                    Notice(
                        code="collinear",
                        is_weak=True,
                        text=f"{first} and {second} move together (correlation of logarithms {correlation:.3f}, ratio "
                        f"{ratio.min():.3g} to {ratio.max():.3g}): their exponents cannot be told apart; vary "
                        f"{second}/{first} over at least {MIN_SPAN:g} times",
                    )
                )
    return found


def check_params(law: Law, params: Array, low: Array, high: Array, columns: Mapping[str, Array]) -> list[Notice]:
    """Returns notices about estimates: coefficients pinned at 0, parameters on a bound, breaks beyond the points."""
    found, k = [], len(law.linear)
    for i, name in enumerate(law.params):
        if i < k and params[i] == 0:
            constant = is_constant(law, i, params)
            what = (
                "no floor is visible in this range, and prediction beyond it assumes none; run larger sizes"
                if constant
                else "the points do not fall with that term, and its exponent means nothing; use a law without it"
            )
            found.append(Notice(code="pinned", is_weak=True, text=f"{name} is pinned at 0: {what}"))
        elif i >= k and (params[i] <= low[i] or params[i] >= high[i]):
            found.append(
                Notice(
                    code="at_bound",
                    is_weak=True,
                    text=f"{name}={params[i]:g} is at the end of its range [{low[i]:g}, {high[i]:g}]: hardly "
                    "identified; spread the sizes, or hold it at a known value",
                )
            )
        of = law.ranges[name].of if i >= k else None
        if of is not None and of in columns and not columns[of].min() < params[i] < columns[of].max():
            found.append(
                Notice(
                    code="break_unidentified",
                    is_weak=True,
                    text=f"{name}={params[i]:.4g} lies outside the points ({columns[of].min():.4g} to "
                    f"{columns[of].max():.4g} in {of}): that break is not identified; run beyond it, or use a law "
                    "with fewer breaks",
                )
            )
    return found


def check_condition(condition: float, converged: bool, value: float) -> list[Notice]:
    """Returns notices about the optimum: not finite, not reached, or flat in some direction."""
    found = []
    if not np.isfinite(value):
        text = "the objective is not finite: no parameters in the bounds describe these points; choose another law"
        found.append(Notice(code="no_solution", is_weak=True, text=text))
    elif not converged:
        text = "the search stopped before the gradient vanished; report this table, and use another law or objective"
        found.append(Notice(code="not_converged", is_weak=True, text=text))
    if condition > CONDITION_LIMIT:
        found.append(
            Notice(
                code="ill_conditioned",
                is_weak=True,
                text=f"condition number {condition:.1e}: several parameter sets fit these points alike; spread the "
                "sizes, or vary the variables independently of each other",
            )
        )
    return found


def check_intervals(law: Law, params: Array, low: Array, high: Array) -> list[Notice]:
    """Returns a notice for each 95 % interval that reaches 0; one of an exponent makes a fit weak."""
    return [
        Notice(
            code="interval_reaches_0",
            is_weak=name in law.nonlinear,
            text=f"the 95 % interval of {name} reaches 0; add points or seeds where it matters",
        )
        for i, name in enumerate(law.params)
        if low[i] <= 0 < params[i] and name not in law.signed
    ]


def refuse_intervals(points: int, clusters: int, parameters: int, names: Sequence[str] = ()) -> list[Notice]:
    """Returns why no interval can be built, or nothing: there must be more points, and more clusters, than parameters.

    With as many as parameters the law passes through them all, and drawing them anew gives the same law again.

    Args:
      points: That were fitted.
      clusters: Independent ones among them.
      parameters: That were estimated.
      names: Columns that make clusters.

    >>> [one.code for one in refuse_intervals(60, 1, 5, ["project"])], refuse_intervals(60, 60, 5)
    (['one_cluster'], [])
    """
    by, unknowns = f" by {', '.join(names)}" if names else "", count_things(parameters, "parameter")
    if points <= parameters:
        code = "too_few_points"
        text = (
            f"no interval: {count_things(points, 'point')} for {unknowns}, and the law can pass through all; add sizes "
            "or seeds, or hold parameters at known values"
        )
    elif clusters == 1:
        code = "one_cluster"
        text = (
            f"no interval: all {points} points are one cluster{by}, and one says nothing of what another would give; "
            "name a column with several values, or leave it out where points are independent"
        )
    elif clusters <= parameters:
        code = "too_few_clusters"
        text = (
            f"no interval: {clusters} independent clusters{by} for {unknowns}; add clusters, or choose a law with "
            "fewer parameters"
        )
    else:
        return []
    return [Notice(code=code, text=text, is_weak=True)]


def find_withheld(notices: Sequence[Notice]) -> Notice | None:
    """Returns the notice for which a fit has no interval at all; None where it may have some."""
    return next((notice for notice in notices if notice.code in WITHHELD), None)


def check_distance(ranges: Mapping[str, tuple[float, float]], columns: Mapping[str, Array]) -> list[Notice]:
    """Returns a notice for each variable that is asked for more than `FAR` times beyond the points of a fit.

    Args:
      ranges: the ranges of the fit, the smallest and the largest value of each variable.
      columns: what is asked for, by variable.
    """
    found = []
    for name, (low, high) in ranges.items():
        values = np.asarray(columns[name], dtype=np.float64)
        beyond = max(float(values.max()) / high, low / float(values.min()))
        if beyond > FAR:
            found.append(
                Notice(
                    code="extrapolation",
                    text=f"{name} is {beyond:.3g} times beyond the points ({low:.4g} to {high:.4g}); trust in a law "
                    "ends about a decade out: run nearer to it, and see how this law extrapolates on held-out runs",
                )
            )
    return found


def is_constant(law: Law, term: int, params: Array) -> bool:
    """Returns whether a linear term is a constant, like a floor."""
    theta = [np.asarray([value]) for value in params[len(law.linear) :]]
    try:
        parts = law.terms(*[np.array([2.0, 7.0])] * len(law.variables), *theta)
    except (TypeError, ValueError, AttributeError):  # columns that are no plain arrays
        return False
    value = np.broadcast_to(np.asarray(parts[term]), (2,))
    return bool(value[0] == value[1])


def is_weak(notices: Sequence[Notice]) -> bool:
    """Returns whether any notice makes the fit weak."""
    return any(notice.is_weak for notice in notices)
