"""How much more likely a fit's points are under its parameters than under others, such as published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.laws.law import Array
from scaling.specs.fits import DELTA

MIN_SCALE = 1e-300


@dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio test of given parameters against a fit's.

    Attributes:
      statistic: Twice the difference of the log likelihoods, each with its own best scale.
      df: Degrees of freedom: the fit's parameters.
      p: Probability of so large a statistic if the given parameters were true.
      scales: Best scale of the residuals under the fit and under the given parameters.
      n: Points.
    """

    statistic: float
    df: int
    p: float
    scales: tuple[float, float]
    n: int


def measure_log_likelihood(residuals: Array, scale: float, delta: float = DELTA) -> float:
    """Returns the log likelihood of residuals `[n]` under the density ~ exp(-Huber_delta(r / scale)).

    Besiroglu et al. 2024, arXiv 2404.10102. As delta applies to r / scale, it is Laplace's density of width
    scale / delta for all but the smallest residuals, and its optimum is that of least absolute deviations.

    >>> round(measure_log_likelihood(np.zeros(1), 1.0, 10.0), 6)  # with a wide delta the normal one: -log(2 pi)/2
    -0.918939
    """
    from scipy.special import ndtr

    size = np.abs(np.asarray(residuals, dtype=np.float64)) / scale
    charge = np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))
    norm = math.sqrt(2 * math.pi) * (1 - 2 * ndtr(-delta)) + 2 * math.exp(-(delta**2) / 2) / delta
    return float(-charge.sum() - size.size * (math.log(norm) + math.log(scale)))


def fit_scale(residuals: Array, delta: float = DELTA) -> float:
    """Returns the scale that makes the residuals most likely under `measure_log_likelihood`.

    >>> round(fit_scale(np.array([-0.01, 0.01]), 1e-3) / 1e-5, 3)  # mean absolute residual × delta
    1.0
    """
    from scipy.optimize import brentq

    size = np.abs(np.asarray(residuals, dtype=np.float64))
    if not (size.size and np.isfinite(size).all() and (size > 0).any()):
        raise AnalysisError(
            f"residuals ({size.size} of them) must be finite and not all 0 to have a scale; with an exact fit there "
            "is nothing to compare"
        )

    def slope(log_scale: float) -> float:  # of the log likelihood in log scale; falls from above 0 to -n
        at = size / math.exp(log_scale)
        return float(np.where(at <= delta, at**2, delta * at).sum() - size.size)

    middle = math.log(max(float(size.mean()) * delta, MIN_SCALE))
    wide = math.log(max(float(size.max()), MIN_SCALE)) + 3
    low = min(middle, wide) - math.log(size.size) - 3
    while slope(low) < 0:
        low -= 5
    return math.exp(brentq(slope, low, max(middle, wide) + 3, xtol=1e-14, rtol=1e-14))


def compare_parameters(
    fit: Fit, params: Mapping[str, float], columns: Mapping[str, Any], y: Any, *, delta: float = DELTA
) -> LikelihoodRatio:
    """Returns the likelihood-ratio test of `params` against the fit on these points.

    The statistic is chi-square if the fit is the most likely one, which is that of `objective="lad"` (another objective
    gives a little less), if the points are independent, and if they are those that were fitted. On Chinchilla's
    240 points Hoffmann et al.'s parameters give 84.00, p = 1.2e-16.

    Args:
      fit: The fit whose parameters are free.
      params: All parameters of the fit's law that are to be tested, by name.
      columns: The law's variables, `[n]` each.
      y: The target, `[n]`; positive.
      delta: Of the density, in units of its scale.

    Raises:
      AnalysisError: if a parameter is missing, a target is not positive, or a prediction is not finite.
    """
    from scipy.special import chdtrc

    law = fit.form
    missing = [name for name in law.params if name not in params]
    if missing:
        raise AnalysisError(f"params lack {', '.join(missing)} of law {fit.law}; give all of {', '.join(law.params)}")
    y = np.asarray(y, dtype=np.float64)
    if not (y.size and np.isfinite(y).all() and (y > 0).all()):
        raise AnalysisError(f"y ({y.size} points) must be finite and positive: residuals are of logarithms")
    residuals = [np.log(law.predict(each, columns)) - np.log(y) for each in (fit.params, params)]
    scales = [fit_scale(each, delta) for each in residuals]
    ours, theirs = (measure_log_likelihood(r, s, delta) for r, s in zip(residuals, scales, strict=True))
    statistic, df = 2 * (ours - theirs), len(law.params)
    return LikelihoodRatio(
        statistic=statistic,
        df=df,
        p=float(chdtrc(df, max(statistic, 0.0))),
        scales=(scales[0], scales[1]),
        n=len(y),
    )
