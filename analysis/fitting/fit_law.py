"""Fits one series of points: the global optimum of a stated objective, and the same for many resamples at once."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit, known
from analysis.fitting.notices import (
    check_condition,
    check_design,
    check_intervals,
    check_params,
    is_weak,
    refuse_intervals,
)
from analysis.fitting.objective import Objective, make_objective
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from scaling.specs.fits import DELTA

FEW_POINTS = 64  # up to so many, a second start of each refit costs little beside what it may find
ARRIVED = 1e-6  # how near, relatively, a start must end to the best objective to count as arrived


def fit_law(
    law: str | Law,
    columns: Mapping[str, Any],
    y: Any,
    *,
    weights: Any = None,
    objective: str | Objective | None = None,
    delta: float = DELTA,
    tilt: float = 0.5,
    hold: Mapping[str, float] | None = None,
    label: str | None = None,
    target: str | None = None,
    left_out: Mapping[str, int] | None = None,
    conventions: Mapping[str, str] | None = None,
    table_sha256: str | None = None,
) -> Fit:
    """Returns the global optimum of the stated objective, with Gauss-Newton uncertainty.

    Method: over a dense search of the non-linear parameters the linear coefficients follow exactly (non-negative least
    squares, then three rounds of robust reweighting); every local minimum of that profile and a spread of other points
    start a Newton refinement of the objective itself, and the best one is reported. A weak fit does not raise: read
    `status` and `warnings`.

    Args:
      law: A registered law's name, or a `Law`.
      columns: The law's variables, `[n]` each.
      y: The target, `[n]`; positive for objectives in logarithms.
      weights: Weight of each point, `[n]`; 1 by default.
      objective: See `analysis.fitting.objective`; the law's own by default.
      delta: Where Huber's quadratic ends, in log y.
      tilt: Of the asymmetric objective.
      hold: Parameters to fix, by name.
      label: The series this is.
      target: Name of y.
      left_out: Points that were left out before, by reason.
      conventions: What else a reader must know; kept in the fit.
      table_sha256: Fingerprint of the table the points come from.

    Raises:
      AnalysisError: on an unknown name, a missing or non-positive column, lengths that differ, or no points.

    >>> x = np.array([10.0, 100.0, 1e3, 1e4])
    >>> fit = fit_law("power_floor", {"data_unique": x}, 0.1 + 2 * x**-0.5)
    >>> {name: round(value, 6) for name, value in fit.params.items()}
    {'E': 0.1, 'A': 2.0, 'alpha': 0.5}
    """
    from analysis.fitting.solver import FIRST_DELTA, Problem

    law = get_law(law).hold(hold or {})
    goal = make_objective(objective or law.objective, delta, tilt)
    arrays, y = law.read(columns), np.asarray(y, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    check_points(law, arrays, y, w, goal)
    problem = Problem(law, arrays, y, goal)
    starts = problem.scan(y, w)
    if not len(starts):
        raise AnalysisError(
            f"law {law.name} is finite nowhere in its bounds on these {len(y)} points; check the columns' units"
        )
    first = np.repeat([FIRST_DELTA, 1e-3], len(starts)) if np.isfinite(goal.threshold) else FIRST_DELTA
    ends = problem.refine(np.tile(starts, (2 if np.isfinite(goal.threshold) else 1, 1)), y, w, first=first)
    best = int(np.argmin(ends.value))
    params = problem.unscale(ends.z[best : best + 1])[0]
    params = np.where(_idle(law, arrays, params), 0.0, params)
    share = float((ends.value <= ends.value[best] * (1 + ARRIVED) + 1e-24).mean())
    return describe(
        law,
        arrays,
        y,
        params,
        weights=w,
        objective=goal,
        converged=bool(ends.converged[best]),
        bounds=(problem.low, problem.high, problem.logs),
        gradient=known(float(ends.gradient[best])),
        starts={"count": len(ends.value), "arrived": share},
        label=label,
        target=target,
        dropped=sum((left_out or {}).values()),
        left_out=dict(left_out or {}),
        conventions={
            "residual": goal.residual,
            "aggregation": "weighted sum over points, no fitted scale"
            if weights is not None
            else "sum over points, no fitted scale",
            "uncertainty": "Gauss-Newton: inverse of JᵀJ times the residual variance, t intervals",
            **(conventions or {}),
        },
        table_sha256=table_sha256,
    )


def refit(
    law: str | Law,
    columns: Mapping[str, Any],
    y: Array,
    weights: Array | None = None,
    *,
    start: Array,
    objective: str | Objective | None = None,
    delta: float = DELTA,
    tilt: float = 0.5,
) -> Array:
    """Returns the parameters `[R, p]` of R resamples of one series: other targets, other weights, or both.

    Each resample starts from the best of `start`: the fit of the series itself, and other candidates. With few points
    its optimum can lie in another basin: where the law is a plain sum of terms with one or two non-linear parameters,
    it then also starts from its own grid optimum, and the better end counts.

    Args:
      law: As in `fit_law`; with what is held already held.
      columns: The law's variables, `[n]`.
      y: Targets `[R, n]`, or `[n]` for all.
      weights: Weights `[R, n]`, or `[n]` for all; 1 by default. Weight 0 holds a point out.
      start: Parameters `[p]` or `[s, p]`.
      objective: As in `fit_law`.
      delta: As in `fit_law`.
      tilt: As in `fit_law`.

    Raises:
      AnalysisError: as `fit_law`.
    """
    from analysis.fitting.solver import Problem

    law = get_law(law)
    goal = make_objective(objective or law.objective, delta, tilt)
    arrays, targets = law.read(columns), np.atleast_2d(np.asarray(y, dtype=np.float64))
    w = np.ones((1, targets.shape[1])) if weights is None else np.atleast_2d(np.asarray(weights, dtype=np.float64))
    check_points(law, arrays, targets, w, goal)
    members, n = max(len(targets), len(w)), targets.shape[1]
    problem = Problem(law, arrays, np.median(targets, axis=0), goal)
    candidates = problem.rescale(np.atleast_2d(np.asarray(start, dtype=np.float64)))
    every_y, every_w = np.broadcast_to(targets, (members, n)), np.broadcast_to(w, (members, n))
    choices = [np.broadcast_to(candidate, (members, candidates.shape[1])) for candidate in candidates]
    values = np.stack([problem.value_each(choice, every_y, every_w) for choice in choices])
    z, times = np.stack(choices)[values.argmin(axis=0), np.arange(members)], 1
    if n <= FEW_POINTS and not (law.link or law.offset) and law.linear and 0 < len(law.nonlinear) <= 2:
        z, times = np.concatenate([z, problem.project(every_y, every_w)]), 2
        targets, w = np.tile(every_y, (2, 1)), np.tile(every_w, (2, 1))
    ends = problem.refine(z, targets, w, first=max(5e-3, 5 * goal.threshold), tolerance=1e-9)
    best = ends.value.reshape(times, members).argmin(axis=0)
    return problem.unscale(ends.z.reshape(times, members, -1)[best, np.arange(members)])


def check_points(law: Law, arrays: Sequence[Array], y: Array, weights: Array, objective: Objective) -> None:
    """Raises `AnalysisError` unless the points and the objective make a problem that can be solved."""
    n = y.shape[-1]
    if n == 0:
        raise AnalysisError(f"y has 0 points; law {law.name} needs rows: see what --keep and status left over")
    for name, values in zip(law.variables, arrays, strict=True):
        if isinstance(values, np.ndarray) and values.shape != (n,):
            raise AnalysisError(f"{name} has shape {values.shape} but y has {y.shape}; give one value per point")
    if weights.shape[-1] != n:
        raise AnalysisError(f"weights have shape {weights.shape} but y has {y.shape}; give one weight per point")
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        raise AnalysisError(f"weights hold {weights[wrong].flat[0]}; they must be finite and not negative")
    bad = ~(np.isfinite(y) & (y > 0)) if objective.is_log else ~np.isfinite(y)
    if bad.any():
        need = f"finite and positive for objective={objective.name}" if objective.is_log else "finite"
        raise AnalysisError(
            f"y={y[bad].flat[0]} must be {need} ({int(bad.sum())} of {y.size} are not); drop such rows, or fit "
            "objective='mse'"
        )


def describe(
    law: Law,
    arrays: Sequence[Array],
    y: Array,
    params: Array,
    *,
    weights: Array,
    objective: Objective,
    converged: bool,
    bounds: tuple[Array, Array, Array],
    **fields: Any,
) -> Fit:
    """Returns the `Fit` of these parameters, with Gauss-Newton uncertainty, condition, status and warnings."""
    from scipy.special import stdtrit

    columns, k = dict(zip(law.variables, arrays, strict=True)), len(law.linear)
    plain = all(isinstance(column, np.ndarray) for column in arrays)
    fitted = evaluate(law, arrays, params)
    value = objective.measure(fitted, y, weights)
    jacobian = differentiate(law, arrays, params, objective.is_log) * np.sqrt(weights)[:, None]
    low, high, logs = bounds
    natural = [np.where(np.r_[np.zeros(k, bool), logs], np.exp(np.minimum(end, 700.0)), end) for end in (low, high)]
    edge = 1e-9 * np.r_[np.zeros(k), np.where(np.isfinite(high - low), high - low, 0.0)[k:]]
    at = np.r_[params[:k], np.where(logs, np.log(np.maximum(params[k:], 1e-300)), params[k:])]
    # what rounding in and out of logarithms moves off a bound is on it
    params = np.where((at <= low + edge), natural[0], np.where(at >= high - edge, natural[1], params))
    # a term whose coefficient is 0 says nothing about its exponent: the derivative is 0 there
    with np.errstate(invalid="ignore"):
        free = (at > low + edge) & (at < high - edge) & (np.abs(jacobian).max(axis=0) > 0)
    unit = np.where(np.r_[np.ones(k, bool), logs], np.abs(params), 1.0)[free]
    part = jacobian[:, free] * unit  # by log coefficients, the parametrisation in which papers quote the condition
    used = int((weights > 0).sum())
    distinct = len(np.unique(np.stack(arrays)[:, weights > 0], axis=1).T) if plain else used
    freedom = used - int(free.sum())
    finite = bool(np.isfinite(part).all())
    condition = float(np.linalg.cond(part) ** 2) if finite and distinct >= free.sum() > 0 else np.inf
    covariance, variance = np.full((len(params), len(params)), np.nan), np.nan
    if freedom > 0 and np.isfinite(value):
        with np.errstate(all="ignore"):
            r = np.log(fitted) - np.log(y) if objective.is_log else fitted - y
        variance = float((weights * r**2).sum() / freedom)
        if condition < 1e30 and used > len(params):
            inverse = np.linalg.pinv(part, rcond=1e-15)
            covariance[np.ix_(free, free)] = variance * (inverse @ inverse.T) * np.outer(unit, unit)
    error = np.sqrt(np.diag(covariance))
    times = float(stdtrit(freedom, 0.975)) if freedom > 0 else np.nan
    reach = error * times
    ends = np.stack([np.maximum(params - reach, natural[0]), np.minimum(params + reach, natural[1])], -1)
    notices = check_design(law, columns) if plain else []
    notices += check_condition(condition, converged, value)
    notices += refuse_intervals(used, used, len(params))
    notices += check_params(law, params, natural[0], natural[1], columns if plain else {})
    if np.isfinite(error).all():
        notices += check_intervals(law, params, params - reach, params + reach)
    derived, spread = derive_quantities(law, params, covariance)
    around = {
        name: (known(value - times * e), known(value + times * e)) if (e := spread[name]) is not None else (None, None)
        for name, value in derived.items()
    }
    names = law.params
    return Fit(
        law=law.name,
        columns=law.variables,
        held=dict(law.held),
        params=dict(zip(names, params.tolist(), strict=True)),
        derived=derived,
        stderr={**dict(zip(names, map(known, error.tolist()), strict=True)), **spread},
        ci95={**{name: (known(a), known(b)) for name, (a, b) in zip(names, ends.tolist(), strict=True)}, **around},
        covariance=[[known(item) for item in row] for row in covariance.tolist()],
        objective=objective.model_copy(update={"value": value}),
        n=used,
        ranges={name: (float(x.min()), float(x.max())) for name, x in columns.items()} if plain else {},
        residual_sd=known(np.sqrt(variance)),
        condition=known(condition),
        status="failed" if not np.isfinite(value) else "weak" if is_weak(notices) else "ok",
        warnings=tuple(notices),
        seed=None,
        code_version=importlib.metadata.version("scaling"),
        **fields,
    )


def derive_quantities(law: Law, params: Array, covariance: Array) -> tuple[dict[str, float], dict[str, float | None]]:
    """Returns the law's derived quantities and their standard errors by the delta method."""
    if law.derived is None:
        return {}, {}

    def compute(vector: Array) -> dict[str, float]:
        given = {name: np.float64(value) for name, value in zip(law.params, vector, strict=True)}
        with np.errstate(all="ignore"):
            return {name: float(item) for name, item in law.derived(given).items()}  # type: ignore[misc]

    values = compute(params)
    step = 1e-6 * np.maximum(np.abs(params), 1e-8)
    slopes = {name: np.zeros(len(params)) for name in values}
    for i, size in enumerate(step):
        ahead, behind = compute(params + size * np.eye(len(params))[i]), compute(params - size * np.eye(len(params))[i])
        for name in values:
            slopes[name][i] = (ahead[name] - behind[name]) / (2 * size)
    with np.errstate(all="ignore"):
        errors = {name: known(float(np.sqrt(slope @ covariance @ slope))) for name, slope in slopes.items()}
    finite = {name: value for name, value in values.items() if np.isfinite(value)}
    return finite, {name: errors[name] for name in finite}


def evaluate(law: Law, arrays: Sequence[Any], params: Array) -> Array:
    """Returns the law's value `[n]` at parameters `[p]`."""
    with np.errstate(all="ignore"):
        value = law.evaluate(arrays, [np.float64(item) for item in params])
    n = arrays[0].shape[0] if isinstance(arrays[0], np.ndarray) else np.shape(value)[0]
    return np.broadcast_to(value, (n,))


def differentiate(law: Law, arrays: Sequence[Any], params: Array, is_log: bool) -> Array:
    """Returns the gradient `[n, p]` of y, or of log y, by central differences of fourth order."""
    step = 1e-3 * np.maximum(np.abs(params), 1e-6)
    columns = []
    for i in range(len(params)):
        unit = step[i] * np.eye(len(params))[i]

        def at(times: float, unit: Array = unit) -> Array:
            fitted = evaluate(law, arrays, params + times * unit)
            with np.errstate(all="ignore"):
                return np.log(fitted) if is_log else fitted

        columns.append((8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step[i]))
    return np.stack(columns, axis=-1)


def _idle(law: Law, arrays: Sequence[Any], params: Array) -> Array:
    """Returns `[p]` which coefficients are nothing beside the rest at every point: rounding alone keeps them alive."""
    k = len(law.linear)
    if not k or law.link or law.offset:
        return np.zeros(len(params), bool)
    n = len(evaluate(law, arrays, params))
    parts = law.terms(*arrays, *[np.float64(item) for item in params[k:]])
    sizes = np.stack([np.abs(np.broadcast_to(part, (n,)) * c) for part, c in zip(parts, params[:k], strict=True)], -1)
    return np.r_[(sizes < 1e-12 * sizes.sum(-1, keepdims=True)).all(axis=0), np.zeros(len(law.nonlinear), bool)]
