"""Profile likelihood: how much worse the best fit becomes when one parameter is held elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.fit import Fit
from analysis.fitting.notices import Notice
from analysis.laws.law import Array

if TYPE_CHECKING:
    import pandas as pd

PRECISION = 1e-4  # of the interval's end, beside its distance from the estimate
MOST_VALLEYS = 8  # of the objective that a search descends into
REACH = 40  # doublings of the distance from the estimate before an end counts as open


@dataclass(frozen=True)
class Profile:
    """The profile of one parameter.

    Attributes:
      parameter: Its name.
      estimate: Where the deviance is 0.
      interval: Where it passes the limit, on each side; an open side is None.
      values: Parameter values, `[s]`, increasing.
      deviance: What twice the log likelihood falls by there, `[s]`.
      limit: The deviance at the ends of the interval.
      notices: What is open: a parameter whose profile does not close is hardly identified.
    """

    parameter: str
    estimate: float
    interval: tuple[float | None, float | None]
    values: Array
    deviance: Array
    limit: float
    notices: tuple[Notice, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each value: `value deviance`."""
        import pandas as pd

        return pd.DataFrame({"value": self.values, "deviance": self.deviance})

    def __str__(self) -> str:
        low, high = ("open" if end is None else f"{end:.6g}" for end in self.interval)
        return f"{self.parameter} = {self.estimate:.6g}, profile likelihood {low} … {high}"


def profile(
    fit: Fit,
    rows: pd.DataFrame,
    parameter: str,
    *,
    points: int = 25,
    level: float = 0.95,
    precision: float = PRECISION,
) -> Profile:
    """Returns the profile likelihood of one parameter: the others are fitted anew at each of its values.

    With S the objective at its best, n points and p parameters, the deviance is (n - p) log(S(value)/S) for squares and
    2 (n - p) log(S(value)/S) for absolute values (a Laplace likelihood), which `huber` is when most residuals are above
    delta. The limit is that of t² with n - p degrees of freedom.

    Args:
      fit: Of these rows.
      rows: The rows that were fitted (`table.select_rows`).
      parameter: A parameter of the fit.
      points: Values of the profile, between the ends.
      level: Of the interval.
      precision: Of its ends, beside their distance from the estimate.

    Raises:
      AnalysisError: if the fit has no such parameter, or no degrees of freedom.
    """
    from scipy.special import stdtrit

    if parameter not in fit.params:
        raise suggest_name("parameter", parameter, fit.params)
    law, goal = fit.form, fit.objective
    columns = [rows[name].to_numpy(dtype=float) for name in law.variables]
    y = rows[fit.target or law.target].to_numpy(dtype=float)
    freedom = len(y) - len(fit.params)
    if freedom < 1 or len(fit.params) < 2:
        raise AnalysisError(f"{len(y)} points and {len(fit.params)} parameters leave nothing to profile; add points")
    with np.errstate(all="ignore"):
        predicted = fit.predict(dict(zip(law.variables, columns, strict=True)))
        residual = np.abs(np.log(predicted) - np.log(y)) if goal.is_log else np.abs(predicted - y)
    best = float(goal.value or 0.0)
    absolute = goal.follows_median(residual)
    factor = freedom * (2.0 if absolute else 1.0)
    limit = factor * np.log1p(float(stdtrit(freedom, 0.5 + level / 2)) ** 2 / freedom) * (0.5 if absolute else 1.0)
    start = {name: value for name, value in fit.params.items() if name != parameter}
    known: dict[float, tuple[float, dict[str, float]]] = {fit.params[parameter]: (best, start)}

    def measure(value: float, everywhere: bool = False) -> float:
        """Returns the deviance at a value, from the nearest known optimum and from the fit's own, or from anywhere."""
        if value not in known or everywhere:
            nearest = known[min(known, key=lambda at: abs(at - value))][1]
            found = _fit_others(fit, columns, y, parameter, value, [nearest, start], everywhere)
            known[value] = min(found, known.get(value, found), key=lambda of: of[0])
        return factor * float(np.log(max(known[value][0], 1e-300) / max(best, 1e-300)))

    at, floor, top = fit.params[parameter], *_bounds(fit, parameter)
    step = float(fit.stderr.get(parameter) or 0.1 * abs(at) or 0.1)
    ends: list[float | None] = []
    for sign, stop in ((-1, floor), (1, top)):
        ends.append(_find_end(measure, at, sign * step, stop, limit, precision))
    low = ends[0] if ends[0] is not None else max(floor, at - 4 * step)
    high = ends[1] if ends[1] is not None else min(top, at + 4 * step)
    values = np.unique(np.r_[np.linspace(low, high, points), at])
    deviance = np.array([max(0.0, measure(float(value))) for value in values])
    sides = [side for side, end in zip(("below", "above"), ends, strict=True) if end is None]
    text = f"the profile of {parameter} is open {' and '.join(sides)}: hardly identified; spread the sizes, or hold it"
    notices = (Notice(code="profile_open", text=text, is_weak=True),) if sides else ()
    return Profile(parameter, at, (ends[0], ends[1]), values, deviance, limit, notices)


def _find_end(
    measure: Callable[..., float], at: float, step: float, stop: float, limit: float, precision: float
) -> float | None:
    """Returns where the deviance passes the limit in one direction, or None; the way there is doubled until it does.

    Optima move little from one value to the next, which is where a fit begins. Only where the limit is passed is one
    sought everywhere: another valley of the objective, below the limit, has an optimum there.
    """
    from scipy.optimize import brentq

    inside, outside = at, at + step
    for _ in range(REACH):
        outside = min(outside, stop) if step > 0 else max(outside, stop)
        if measure(outside) > limit and measure(outside, everywhere=True) > limit:
            break
        if outside == stop:
            return None
        inside, outside = outside, at + 2 * (outside - at)
    else:
        return None
    return float(brentq(lambda value: measure(value) - limit, inside, outside, xtol=precision * abs(outside - at)))


def _fit_others(
    fit: Fit,
    columns: list[Array],
    y: Array,
    parameter: str,
    value: float,
    starts: list[dict[str, float]],
    everywhere: bool,
) -> tuple[float, dict[str, float]]:
    """Returns the best objective with one parameter held, and the others there; from starts, or from a search too."""
    from analysis.fitting.solver import Problem

    law, w = fit.form.hold({parameter: value}), np.ones(len(y))
    problem = Problem(law, columns, y, fit.objective)
    guesses = problem.rescale(np.array([[start[name] for name in law.params] for start in starts]))
    if everywhere and law.linear:
        others = problem.scan(y, w, keep=MOST_VALLEYS)
        best = np.argsort(problem.measure(others, y, w), kind="stable")[:MOST_VALLEYS]
        guesses = np.concatenate([guesses, others[best]])
    ends = problem.refine(guesses, y, w, first=0.01, tolerance=1e-11)
    params = problem.unscale(ends.z[ends.value.argmin()][None])[0]
    fitted = law.predict_many(params[None], dict(zip(law.variables, columns, strict=True)))[0]
    return fit.objective.measure(fitted, y), dict(zip(law.params, params.tolist(), strict=True))


def _bounds(fit: Fit, parameter: str) -> tuple[float, float]:
    law = fit.form
    if parameter in law.linear:
        return (-np.inf, np.inf) if parameter in law.signed else (0.0, np.inf)
    bounds = law.ranges[parameter]
    if bounds.of is not None and bounds.of not in fit.ranges:
        return -np.inf, np.inf
    return bounds.resolve({name: np.array(ends) for name, ends in fit.ranges.items()})
