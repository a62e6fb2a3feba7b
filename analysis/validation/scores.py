"""Scores of predictions beside observations, in natural logarithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.laws.law import Array


@dataclass(frozen=True)
class Score:
    """How far predictions lie from observations, in natural logarithms (0.01 is 1 %).

    Attributes:
      rmse: Root mean square of log(y_hat / y).
      max: Largest of its absolute values.
      bias: Its mean; positive where the law predicts too much.
      n: Number of observations.
    """

    rmse: float
    max: float
    bias: float
    n: int


def score_log(predicted: Any, observed: Any) -> Score:
    """Returns the score of predictions `[n]` beside observations `[n]`; infinite where a prediction is not positive.

    sqrt(mean((log y_hat - log y)^2)), as in Alabdulmohsin et al. 2022.

    Raises:
      AnalysisError: if an observation is not positive, or there are none.

    >>> score = score_log([np.e, 1.0], [1.0, 1.0])
    >>> round(score.rmse, 6), score.max, score.bias, score.n
    (0.707107, 1.0, 0.5, 2)
    """
    error = log_errors(np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64))
    return summarise_errors(error)


def log_errors(predicted: Array, observed: Array) -> Array:
    """Returns log(y_hat / y) `[n]`; infinite where a prediction is not positive."""
    bad = ~(np.isfinite(observed) & (observed > 0))
    if bad.any():
        raise AnalysisError(
            f"observed={observed[bad].flat[0]} must be finite and positive to be scored in logarithms; drop such rows"
        )
    usable = np.isfinite(predicted) & (predicted > 0)
    return np.where(usable, np.log(np.where(usable, predicted, 1.0)) - np.log(observed), np.inf)


def summarise_errors(error: Array) -> Score:
    """Returns the score of errors in logarithms `[n]`."""
    if not error.size:
        raise AnalysisError("observed has 0 rows to score; lower the cut, or add runs beyond it")
    return Score(
        rmse=float(np.sqrt((error**2).mean())),
        max=float(np.abs(error).max()),
        bias=float(error.mean()),
        n=int(error.size),
    )
