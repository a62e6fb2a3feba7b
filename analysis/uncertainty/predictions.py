"""Predictions with intervals, of the fitted curve and of runs that were not made, from a fit or its file alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import differentiate
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from analysis.uncertainty.resampling import read_percentiles

if TYPE_CHECKING:
    import pandas as pd


def predict_interval(
    fit: Fit, columns: Mapping[str, Any], *, level: float = 0.95, new_run: bool = False, run_sd: float | None = None
) -> pd.DataFrame:
    """Returns `estimate low high` at every row: of the curve, or of a new run there.

    The curve's interval is of percentiles of the resampled curves; without resamples, of the covariance by the delta
    method. A new run adds noise: `run_sd` where it was measured, else the residuals' spread with its trend over sizes
    (`Fit.noise`, as far as there are points), which has degrees of freedom of its own and so the tails of t. A fit
    without intervals gives none: the ends are NaN.

    Args:
      fit: A fit, which may come from a file.
      columns: The law's variables.
      level: Of the intervals.
      new_run: Whether the interval is for a run that was not made, instead of the curve.
      run_sd: Standard deviation of a run in the objective's units (log y, or y for `mse`).

    Raises:
      AnalysisError: if the level is out of range or a column is missing or not positive.
    """
    import pandas as pd
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise AnalysisError(f"level={level} must lie between 0 and 1; 0.95 is usual")
    law, is_log = fit.form, fit.objective.is_log
    estimate = fit.predict(columns)
    freedom = max(1, fit.n - len(fit.params))
    sd = run_sd if run_sd is not None else _spread_runs(fit, columns)
    if not fit.draws and not np.isfinite(np.diag(np.array(fit.covariance, dtype=np.float64))).any():
        none = np.full(len(estimate), np.nan)
        return pd.DataFrame({"estimate": estimate, "low": none, "high": none})
    if new_run and sd is None:
        raise AnalysisError(f"a new run needs a spread and the fit of {fit.n} points has none; give run_sd")
    rng = np.random.default_rng(fit.seed or 0)
    with np.errstate(all="ignore"):
        if fit.draws:
            curves = law.predict_many(fit.replicates, columns)
            curves = np.log(curves) if is_log else curves
            if new_run:
                noise = rng.standard_normal(curves.shape) * (0.0 if sd is None else sd)
                if run_sd is None:
                    noise *= np.sqrt(freedom / rng.chisquare(freedom, (len(curves), 1)))
                curves = curves + noise
            ends = read_percentiles(np.nan_to_num(curves, nan=np.inf), [50 * (1 - level), 50 * (1 + level)])
        else:
            arrays = law.read(columns)
            jacobian = differentiate(law, arrays, fit.vector, is_log)
            covariance = np.array(fit.covariance, dtype=np.float64)
            usable = np.isfinite(np.diag(covariance))
            part = jacobian[:, usable]
            variance = np.einsum("ni,ij,nj->n", part, covariance[np.ix_(usable, usable)], part)
            variance = variance + (sd**2 if new_run and sd is not None else 0.0)
            reach = float(stdtrit(freedom, 0.5 + level / 2)) * np.sqrt(variance)
            centre = np.log(estimate) if is_log else estimate
            ends = np.stack([centre - reach, centre + reach])
        low, high = np.exp(ends) if is_log else ends
    return pd.DataFrame({"estimate": estimate, "low": low, "high": high})


def _spread_runs(fit: Fit, columns: Mapping[str, Any]) -> Array | float | None:
    """Returns the standard deviation of a run at every row; beyond the fitted sizes that of the nearest one."""
    if not fit.noise:
        return fit.residual_sd
    level: Any = fit.noise["log_sd"]
    for name in fit.columns:
        level = level + fit.noise[name] * np.log(np.clip(np.asarray(columns[name], float), *fit.ranges[name]))
    return np.exp(level)


def chain(
    loss_law: str | Law,
    loss_params: Mapping[str, float],
    accuracy_law: str | Law,
    accuracy_params: Mapping[str, float],
) -> Callable[[Mapping[str, Any]], Array]:
    """Returns a function from the loss law's columns `[n]` to accuracy `[n]`: the two-step protocol of Bhagia et al.

    Args:
      loss_law: A law, such as `chinchilla` fitted to a task's loss.
      loss_params: Its fitted parameters.
      accuracy_law: A law of one variable, the loss.
      accuracy_params: Its fitted parameters.

    >>> params = {"E": 0.5, "A": 100.0, "B": 100.0, "alpha": 0.3, "beta": 0.3}
    >>> predict = chain("chinchilla", params, "accuracy_sigmoid", get_law("accuracy_sigmoid").example)
    >>> predict({"num_params": [1e8, 1e10], "data_seen": [2e9, 2e11]}).round(3).tolist()
    [0.591, 0.81]
    """
    first, second = get_law(loss_law), get_law(accuracy_law)
    (name,) = second.variables
    return lambda columns: second.predict(accuracy_params, {name: first.predict(loss_params, columns)})
