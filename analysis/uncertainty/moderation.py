"""Variances of few repeats, each moved towards what all of them say: the moderated t of Smyth 2004.

Of d degrees of freedom a variance is hardly known where d is 3, as of differences over four seeds, and a t test has
little power. Many such variances tell how variances of their kind are spread: as s0² d0 / chi²(d0) around a trend. Each
is then moved towards the trend with the weight d0 against its own d, and tests have d0 + d degrees of freedom.
Source: Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3, article 3; the trend as in Phipson et
al. 2016, Annals of Applied Statistics 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.laws.law import Array

MIN_INDEPENDENT = 20  # fewer variances say little of how they are spread
MIN_FREEDOM = 2  # with one, tails are so long that claims of noisy series were false in up to 16 % of tables
SMALLEST = 1e-5  # of the median: a variance below is rounding, and its logarithm says nothing


@dataclass(frozen=True)
class Moderated:
    """Variances with what they borrow.

    Attributes:
      variance: Of each test `[n]`, moved towards the prior.
      freedom: Of each test `[n]`: its own degrees of freedom and those of the prior.
      prior_freedom: d0: how much all variances say of each; 0 where nothing is borrowed.
    """

    variance: Array
    freedom: Array
    prior_freedom: float


def moderate_variances(variance: Array, freedom: Array, covariate: Array, independent: int) -> Moderated:
    """Returns variances `[n]` moved towards the trend that they follow along a covariate.

    Args:
      variance: Sample variances `[n]`.
      freedom: The degrees of freedom of each `[n]`, 1 or more.
      covariate: What variances may follow `[n]`, as the logarithm of a size.
      independent: How many of the variances are independent of each other: those of pairs of the same series are not.

    >>> generator = np.random.default_rng(0)
    >>> found = moderate_variances(generator.chisquare(3, 400) / 3, np.full(400, 3.0), np.zeros(400), 400)
    >>> found.prior_freedom > 10, bool(abs(found.variance.mean() - 1) < 0.1)
    (True, True)
    """
    from scipy.special import digamma, polygamma

    variance, freedom = np.asarray(variance, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
    middle = float(np.median(variance))
    if independent < MIN_INDEPENDENT or not middle > 0:
        return Moderated(variance, freedom, 0.0)
    half = freedom / 2
    logs = np.log(np.maximum(variance, SMALLEST * middle)) - digamma(half) + np.log(half)
    levels = len(np.unique(covariate))
    basis = np.vander(np.asarray(covariate, dtype=np.float64), 2 if levels > 1 else 1)
    fitted = basis @ np.linalg.lstsq(basis, logs, rcond=None)[0]
    spread = ((logs - fitted) ** 2).sum() / (len(logs) - basis.shape[1])
    # As far up as one standard error of the spread of so many: a prior that is taken for surer than it is makes claims.
    kinds = float(spread * (1 + np.sqrt(2 / independent)) - polygamma(1, half).mean())
    most = independent * float(freedom.mean())
    prior = min(2 * invert_trigamma(kinds), most) if kinds > 0 else most
    level = np.exp(fitted + digamma(prior / 2) - np.log(prior / 2))
    return Moderated((prior * level + freedom * variance) / (prior + freedom), prior + freedom, prior)


def invert_trigamma(value: float) -> float:
    """Returns y with trigamma(y) = value, by Newton's method on 1 / trigamma, which is nearly a line.

    >>> from scipy.special import polygamma
    >>> round(invert_trigamma(float(polygamma(1, 2.5))), 10)
    2.5
    """
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, y))
        step = now * (1 - now / value) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
