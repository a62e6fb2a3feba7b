"""p-values of t tests over seeds, and Holm's correction of several of them: what a claim of an order is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.laws.law import Array

LEVEL = 0.05  # of corrected p-values at which a claim is made


def find_p_of_mean(values: Any) -> float:
    """Returns the two-sided p of a t test that the mean of independent values is 0; NaN for fewer than two.

    >>> round(find_p_of_mean([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return float("nan")
    return find_p(float(data.mean()), float(data.std(ddof=1) / np.sqrt(len(data))), len(data) - 1)


def find_p(estimate: float, stderr: float, freedom: float) -> float:
    """Returns the two-sided p of a t test that an estimate is 0; without any spread it is 0, or 1 where it is 0."""
    from scipy.special import stdtr

    if stderr == 0:
        return float(estimate == 0)
    return float(2 * stdtr(freedom, -abs(estimate) / stderr))


def correct_holm(p: Sequence[float] | Array) -> Array:
    """Returns p-values `[n]` corrected for their number (Holm 1979); NaN stands for no test, and does not count.

    The smallest is multiplied by their number n, the next by n - 1 and so on, and none may be below the one before it,
    so that the chance of any false claim among all that are at most 0.05 is at most 0.05, however they depend on each
    other.

    >>> correct_holm([0.01, 0.04, 0.03, 0.005]).round(6).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p, dtype=np.float64)
    corrected, known = np.full(values.shape, np.nan), np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def format_p(p: float) -> str:
    """Returns a p-value for people.

    >>> format_p(0.0312), format_p(1e-7)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
