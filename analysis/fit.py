"""Fits of laws: variable projection on a grid finds every basin, a projected Newton method finishes each one.

The objectives, exactly: `huber` = sum of Huber_delta(log y_hat - log y), `lad` = sum |log y_hat - log y|,
`mse` = sum (y_hat - y)^2. Sums, not means; no fitted scale; every tolerance is relative.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from analysis.laws import AnalysisError, Array, Law, get_law, suggest_name
from analysis.solver import Problem

if TYPE_CHECKING:
    import pandas as pd

OBJECTIVES = ("huber", "lad", "mse")
# JᵀJ in (log coefficients, exponents): 1e7 on Chinchilla's well-spread runs, above 1e16 when D = 20 N throughout.
CONDITION_LIMIT = 1e12


class Fit(BaseModel):
    """A law with its estimates, their uncertainty and the objective that was reached; saved as one JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    law: str
    label: str | None = None
    columns: tuple[str, ...]
    params: dict[str, float]
    stderr: dict[str, float | None]
    ci95: dict[str, tuple[float | None, float | None]]
    covariance: list[list[float | None]]
    objective: dict[str, str | float]
    n: int
    dropped: int
    conventions: dict[str, str]
    condition: float | None
    status: str
    warnings: list[str]
    seed: int | None
    code_version: str
    table_sha256: str | None

    def predict(self, columns: Mapping[str, Any]) -> Array:
        """Returns the fitted law at every row of `columns` (a mapping or a table with the fit's columns)."""
        return get_law(self.law).bind(self.columns).predict(self.params, columns)


def fit_law(
    law: str | Law,
    columns: Mapping[str, Any],
    y: Any,
    *,
    objective: str = "huber",
    delta: float = 1e-3,
    label: str | None = None,
    dropped: int = 0,
    conventions: Mapping[str, str] | None = None,
    table_sha256: str | None = None,
) -> Fit:
    """Returns the global optimum of the stated objective, with Gauss-Newton uncertainty.

    Method: on a dense grid of the non-linear parameters the linear coefficients follow exactly (non-negative least
    squares, then three rounds of robust reweighting); every local minimum of that profile starts a Newton refinement
    of the objective itself, and the best one is reported. A weak fit does not raise: read `status` and `warnings`.

    Args:
      law: A registered law's name, or a `Law`.
      columns: The law's variables, `[n]` each.
      y: The target, `[n]`; positive for the objectives in logarithms.
      objective: `huber`, `lad` or `mse`.
      delta: Where Huber's quadratic ends, in log y.
      label: The series this is.
      dropped: Rows that were left out before.
      conventions: What else a reader must know; kept in the fit.
      table_sha256: Fingerprint of the table the points come from.

    Raises:
      AnalysisError: on an unknown name, a missing or non-positive column, lengths that differ, or no points.

    >>> x = np.array([10.0, 100.0, 1e3, 1e4])
    >>> fit = fit_law("power_floor", {"data_unique": x}, 0.1 + 2 * x**-0.5)
    >>> {name: round(value, 6) for name, value in fit.params.items()}
    {'E': 0.1, 'A': 2.0, 'alpha': 0.5}
    """
    law = get_law(law)
    arrays, target = law.read(columns), np.asarray(y, dtype=np.float64)
    check_points(law, arrays, target, objective, delta)
    problem = Problem(law, arrays, target[None], objective, delta)
    starts = problem.scan()
    ends = [problem.refine(starts, first=first) for first in (0.1, 1e-3)]
    values, objectives = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    best = values[np.argmin(objectives)]
    params = problem.unscale(best[None])[0]
    part = law.basis(arrays, params[len(law.linear) :]) * params[: len(law.linear)]
    idle = np.append((part < 1e-12 * part.sum(-1, keepdims=True)).all(axis=0), [False] * len(law.nonlinear))
    params = np.where(idle, 0.0, params)  # a term that rounding alone keeps alive
    return describe(
        law,
        arrays,
        target,
        params,
        objective=objective,
        delta=delta,
        label=label,
        dropped=dropped,
        conventions={
            "residual": "y_hat - y" if objective == "mse" else "log(y_hat) - log(y)",
            "aggregation": "sum over points, no fitted scale",
            "uncertainty": "Gauss-Newton: inverse of JᵀJ times the residual variance, t intervals",
            **(conventions or {}),
        },
        table_sha256=table_sha256,
    )


def fit_table(table: pd.DataFrame, law: str | Law, target: str, **options: Any) -> Fit:
    """Returns the fit of one series to the usable rows of a table (`select_rows`); `dropped` counts the rest."""
    from analysis.table import fingerprint_table, select_rows

    law = get_law(law)
    rows, dropped, rule = select_rows(table, [*law.variables, target])
    columns = {name: rows[name].to_numpy(dtype=float) for name in law.variables}
    notes = {"target": target, "rows": rule, **options.pop("conventions", {})}
    options.setdefault("table_sha256", fingerprint_table(table))
    return fit_law(law, columns, rows[target].to_numpy(dtype=float), dropped=dropped, conventions=notes, **options)


def fit_batch(
    law: str | Law, columns: Mapping[str, Any], y: Array, *, start: Array, objective: str = "huber", delta: float = 1e-3
) -> Array:
    """Returns the parameters `[R, p]` of R resamples `y` `[R, n]` of one series on the same rows.

    Each resample starts from the better of its own grid optimum and `start` `[p]` (the fit of the series itself).

    Raises:
      AnalysisError: as `fit_law`.
    """
    law = get_law(law)
    arrays, targets = law.read(columns), np.atleast_2d(np.asarray(y, dtype=np.float64))
    check_points(law, arrays, targets, objective, delta)
    problem = Problem(law, arrays, targets, objective, delta)
    own, warm = problem.project(), problem.rescale(np.asarray(start, dtype=np.float64))
    better = problem.value(own, problem.delta) <= problem.value(warm, problem.delta)
    values, _ = problem.refine(np.where(better[:, None], own, warm), tolerance=1e-7)
    return problem.unscale(values)


def check_points(law: Law, arrays: Sequence[Array], y: Array, objective: str, delta: float) -> None:
    """Raises `AnalysisError` unless the points and the objective make a problem that can be solved."""
    if objective not in OBJECTIVES:
        raise suggest_name("objective", objective, OBJECTIVES)
    if not delta > 0:
        raise AnalysisError(f"delta={delta} must be positive; use 1e-3, or objective='lad' for the limit at 0")
    if y.shape[-1] == 0:
        raise AnalysisError(f"y has 0 points; law {law.name} needs rows: see what --keep and status left over")
    for name, values in zip(law.variables, arrays, strict=True):
        if values.shape != y.shape[-1:]:
            raise AnalysisError(f"{name} has shape {values.shape} but y has {y.shape}; give one value per point")
    bad = ~np.isfinite(y) if objective == "mse" else ~(np.isfinite(y) & (y > 0))
    if bad.any():
        need = "finite" if objective == "mse" else f"finite and positive for objective={objective}"
        raise AnalysisError(f"y={y[bad].flat[0]} must be {need}; drop that row, or fit objective='mse'")


def measure_objective(
    law: Law, arrays: Sequence[Array], y: Array, params: Array, objective: str, delta: float
) -> float:
    """Returns the stated objective at `params` `[p]`, summed over the points.

    >>> from analysis.laws import power
    >>> round(measure_objective(power, [np.array([1.0])], np.array([1.0]), np.array([np.e, 0.5]), "huber", 1e-3), 9)
    0.0009995
    """
    r = residuals(law, arrays, y, params, objective)
    if objective == "mse":
        return float((r**2).sum())
    size = np.abs(r)
    return float(
        size.sum() if objective == "lad" else np.where(size < delta, r**2 / 2, delta * (size - delta / 2)).sum()
    )


def residuals(law: Law, arrays: Sequence[Array], y: Array, params: Array, objective: str) -> Array:
    """Returns log(y_hat) - log(y) `[n]`, or y_hat - y for `mse`."""
    fitted = law.predict_many(params[None], dict(zip(law.variables, arrays, strict=True)))[0]
    return fitted - y if objective == "mse" else np.log(fitted) - np.log(y)


def differentiate_residuals(law: Law, arrays: Sequence[Array], params: Array, objective: str) -> Array:
    """Returns the gradient `[n, p]` of the residuals with respect to the parameters, by complex steps."""
    k, columns = len(law.linear), []
    for unit in np.eye(len(params)):
        at = params + 1e-30j * unit
        fitted = (law.basis(arrays, at[k:]) * at[:k]).sum(-1)
        columns.append((fitted if objective == "mse" else np.log(fitted)).imag * 1e30)
    return np.stack(columns, axis=-1)


def describe(
    law: Law, arrays: Sequence[Array], y: Array, params: Array, *, objective: str, delta: float, **fields: Any
) -> Fit:
    """Returns the `Fit` of these parameters, with Gauss-Newton uncertainty, condition, status and warnings."""
    from scipy import stats

    names, n = law.params, y.shape[0]
    value = measure_objective(law, arrays, y, params, objective, delta)
    jacobian = differentiate_residuals(law, arrays, params, objective)
    low = np.r_[np.zeros(len(law.linear)), [bound[0] for bound in law.nonlinear.values()]]
    high = np.r_[np.full(len(law.linear), np.inf), [bound[1] for bound in law.nonlinear.values()]]
    # a term whose coefficient is 0 says nothing about its exponent: the derivative is 0 there
    free = (params > low) & (params < high) & (np.abs(jacobian).max(axis=0) > 0)
    unit = np.where(np.arange(len(params)) < len(law.linear), params, 1.0)[free]
    part = jacobian[:, free] * unit  # by log coefficients, the parametrisation in which papers quote the condition
    freedom, distinct = n - int(free.sum()), np.unique(np.stack(arrays), axis=1).shape[1]
    condition = float(np.linalg.cond(part) ** 2) if distinct >= free.sum() > 0 else np.inf
    covariance = np.full((len(params), len(params)), np.nan)
    if freedom > 0 and condition < 1e30:
        variance = (residuals(law, arrays, y, params, objective) ** 2).sum() / freedom
        inverse = np.linalg.pinv(part, rcond=1e-15)
        covariance[np.ix_(free, free)] = variance * (inverse @ inverse.T) * np.outer(unit, unit)
    error = np.sqrt(np.diag(covariance))
    reach = error * (stats.t.ppf(0.975, freedom) if freedom > 0 else np.nan)
    ends = np.stack(
        [np.maximum(params - reach, np.where(np.isnan(low), -np.inf, low)), np.minimum(params + reach, high)], -1
    )
    warnings, weak = judge(law, params, low, high, distinct, condition, value)
    if np.isfinite(error).all():
        reaching, vague = judge_intervals(law, params, params - reach, params + reach)
        warnings, weak = warnings + reaching, weak or vague
    return Fit(
        law=law.name,
        columns=law.variables,
        params=dict(zip(names, params.tolist(), strict=True)),
        stderr=dict(zip(names, map(known, error.tolist()), strict=True)),
        ci95={name: (known(a), known(b)) for name, (a, b) in zip(names, ends.tolist(), strict=True)},
        covariance=[[known(item) for item in row] for row in covariance.tolist()],
        objective={"name": objective, "delta": delta if objective == "huber" else 0.0, "value": value},
        n=n,
        condition=known(condition),
        status="failed" if not np.isfinite(value) else "weak" if weak else "ok",
        warnings=warnings,
        seed=None,
        code_version=importlib.metadata.version("scaling"),
        **fields,
    )


def known(value: float) -> float | None:
    """Returns the number, or None where it is not finite (JSON has no word for that)."""
    return value if np.isfinite(value) else None


def judge(
    law: Law, params: Array, low: Array, high: Array, distinct: int, condition: float, value: float
) -> tuple[list[str], bool]:
    """Returns warnings in plain words, and whether any of them makes the fit weak."""
    warnings, weak = [], False
    if not np.isfinite(value):
        warnings.append("the objective is not finite: no parameters in the bounds describe these points")
    if distinct <= len(params):
        weak = True
        warnings.append(
            f"{distinct} distinct points for {len(params)} parameters: the curve can pass through all; add sizes"
        )
    for i, name in enumerate(law.params):
        if i < len(law.linear) and params[i] == 0:
            weak = True
            what = "no floor is visible in this range, and prediction beyond it assumes none"
            other = "the points do not fall with that term, and its exponent means nothing"
            constant = law.basis([np.array([2.0, 7.0])] * len(law.variables), params[len(law.linear) :])[:, i]
            warnings.append(f"{name} is pinned at 0: {what if constant[0] == constant[1] else other}")
        elif i >= len(law.linear) and (params[i] <= low[i] or params[i] >= high[i]):
            weak = True
            warnings.append(
                f"{name}={params[i]:g} is at the end of its range [{low[i]:g}, {high[i]:g}]: hardly identified"
            )
    if condition > CONDITION_LIMIT:
        weak = True
        warnings.append(
            f"condition number {condition:.1e}: several parameter sets fit these points alike; spread the sizes, or "
            "vary the variables independently of each other"
        )
    return warnings, weak


def judge_intervals(law: Law, params: Array, low: Array, high: Array) -> tuple[list[str], bool]:
    """Returns a warning for each 95 % interval that reaches 0, and whether one of an exponent does (which is weak)."""
    reached = [name for i, name in enumerate(law.params) if low[i] <= 0 < params[i]]
    return [f"the 95 % interval of {name} reaches 0" for name in reached], any(
        name in law.nonlinear for name in reached
    )
