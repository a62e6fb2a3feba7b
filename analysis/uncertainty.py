"""Uncertainty of fits by seed: one bootstrap for all series at once, so that their differences are paired.

The noise of a run is split into what a seed does at every size (its subset, its initialisation; sd `between`) and
what is new at every size (`within`), because 3 to 5 seeds say little about the first (S - 1 degrees of freedom) and
much about the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.fit import Fit, fit_batch, fit_law, judge_intervals, known
from analysis.laws import AnalysisError, Array, Law, get_law, suggest_name

if TYPE_CHECKING:
    import pandas as pd

# With one degree of freedom the largest of a thousand t factors is above 10,000, which carries exp(log y) out of float
# range. Such draws are far outside the percentiles that are read.
MAX_LOG_DEVIATION = 100.0

METHOD = (
    "two-way bootstrap by seed: seed effects resampled over seeds, remainders within each size, each scaled by a draw "
    "of its t distribution; percentiles"
)
FALLBACK = "bootstrap of log residuals, scaled by a draw of their t distribution; percentiles"


@dataclass(frozen=True)
class Bootstrap:
    """The fits of several series with their replicates.

    Attributes:
      law: The law, bound to its columns.
      fits: One `Fit` for each label, with percentile intervals.
      replicates: Parameters `[R, p]` of each label in the order of `law.params`; row r of every label is the same draw.
      ranges: Smallest and largest value of each variable that was fitted, for each label.
      seed: Seed of the draws.
    """

    law: Law
    fits: dict[str, Fit]
    replicates: dict[str, Array]
    ranges: dict[str, dict[str, tuple[float, float]]]
    seed: int

    def predict(self, label: str, columns: Mapping[str, Any]) -> tuple[Array, Array, Array]:
        """Returns estimate, lower and upper end of the pointwise 95 % interval of the fitted curve at every row."""
        draws = self.law.predict_many(self.replicates[label], columns)
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        return self.fits[label].predict(columns), low, high


def bootstrap_series(
    table: pd.DataFrame,
    law: str | Law,
    target: str,
    *,
    by: str = "label",
    cluster: str = "seed",
    resamples: int = 1000,
    seed: int = 0,
    objective: str = "huber",
    delta: float = 1e-3,
) -> Bootstrap:
    """Returns a fit with bootstrap intervals for every value of `by`, with paired replicates.

    For each series, log y = size mean + seed effect + remainder, by least squares. A replicate adds to the size means
    seed effects drawn over seeds and remainders drawn within their size, each times sqrt(df / chi2_df) with its own
    degrees of freedom, so that percentiles have the tails of t; then the law is fitted again. All series share the
    draws.

    Measured coverage of the 95 % intervals of `power_floor` (Huber 1e-3; E 0.1, A 5, alpha 0.5; 11 sizes from 100 to
    60,000; within 2 %; 120 tables of 400 resamples, so each number is known to about 0.02; `far` is m = 1e6):

    | seeds | between | alpha | E | y(60,000) | y(far) |
    | --- | --- | --- | --- | --- | --- |
    | 3 | 0 % | .958 | .975 | .958 | .975 |
    | 3 | 1 % | .967 | .967 | .950 | .958 |
    | 3 | 2 % | .975 | .967 | .958 | .958 |
    | 5 | 0 % | .942 | .933 | .967 | .942 |
    | 5 | 1 % | .950 | .967 | .967 | .967 |
    | 5 | 2 % | .983 | .983 | .958 | .983 |

    Where seed effects dominate, intervals of `mse` equal the t interval over seeds; those of `huber` and `lad`, which
    follow the median of a few seeds, are up to 1.7 times as wide. Seed noise is all they know: a law that does not bend
    as the points do has errors beyond them, most of all in extrapolation.

    Without a seed column, or with one seed, residuals of the fit are resampled instead and each fit warns of it.

    Args:
      table: Rows in the contract's columns; only usable rows count (`table.select_rows`).
      law: The law of every series.
      target: Column to fit.
      by: Column that names the series.
      cluster: Column that names the seed.
      resamples: Number of replicates R.
      seed: Seed of the draws.
      objective: As in `fit.fit_law`.
      delta: As in `fit.fit_law`.

    Raises:
      AnalysisError: on a missing column, or a value that `fit_law` refuses.
    """
    from analysis.table import fingerprint_table, select_rows

    law = get_law(law)
    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    if resamples < 2:
        raise AnalysisError(f"resamples={resamples} must be at least 2; 1000 is usual")
    digest, usable = fingerprint_table(table), select_rows(table, [*law.variables, target])[0]
    draws = Draws(usable, law, cluster if cluster in table.columns else None, resamples, seed)
    fits, replicates, ranges = {}, {}, {}
    for label, whole in table.groupby(by, sort=True):
        rows, dropped, rule = select_rows(whole, [*law.variables, target])
        columns = {name: rows[name].to_numpy(dtype=float) for name in law.variables}
        y = rows[target].to_numpy(dtype=float)
        options: dict[str, Any] = {"objective": objective, "delta": delta}
        notes = {"target": target, "rows": rule}
        fit = fit_law(
            law, columns, y, **options, label=str(label), dropped=dropped, conventions=notes, table_sha256=digest
        )
        start = np.array(list(fit.params.values()))
        log_fit = np.log(fit.predict(columns))
        resampled, notice = draws.resample(rows, np.log(y), log_fit)
        resampled = np.clip(resampled, log_fit - MAX_LOG_DEVIATION, log_fit + MAX_LOG_DEVIATION)
        replicate = fit_batch(law, columns, np.exp(resampled), start=start, **options)
        replicates[str(label)] = replicate
        ranges[str(label)] = {name: (float(x.min()), float(x.max())) for name, x in columns.items()}
        fits[str(label)] = attach_intervals(fit, law, replicate, seed, notice)
    return Bootstrap(law, fits, replicates, ranges, seed)


def attach_intervals(fit: Fit, law: Law, replicates: Array, seed: int, notice: str | None) -> Fit:
    """Returns the fit with standard errors, covariance and percentile intervals of its replicates `[R, p]`."""
    low, high = np.percentile(replicates, [2.5, 97.5], axis=0)
    covariance = np.atleast_2d(np.cov(replicates, rowvar=False))
    params = np.array(list(fit.params.values()))
    warnings = [text for text in fit.warnings if "95 % interval" not in text]
    reaching, weak = judge_intervals(law, params, low, high)
    method = f"{FALLBACK if notice else METHOD}; {len(replicates)} resamples"
    return fit.model_copy(
        update={
            "stderr": {
                name: known(float(item)) for name, item in zip(law.params, np.sqrt(np.diag(covariance)), strict=True)
            },
            "ci95": {name: (float(a), float(b)) for name, a, b in zip(law.params, low, high, strict=True)},
            "covariance": [[known(item) for item in row] for row in covariance.tolist()],
            "conventions": {**fit.conventions, "uncertainty": method},
            "warnings": warnings + reaching + ([notice] if notice else []),
            "status": "weak" if weak and fit.status == "ok" else fit.status,
            "seed": seed,
        }
    )


class Draws:
    """Random choices that every series of one table shares: of seeds, of runs within a size, and of scales."""

    def __init__(self, table: pd.DataFrame, law: Law, cluster: str | None, resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.cluster, self.variables = cluster, list(law.variables)
        sizes = table[self.variables].drop_duplicates()
        self.sizes = {tuple(row): i for i, row in enumerate(sorted(sizes.itertuples(index=False, name=None)))}
        seeds = sorted(table[cluster].unique()) if cluster else []
        self.seeds = {name: i for i, name in enumerate(seeds)}
        self.over_seeds = rng.random((resamples, max(1, len(seeds))))
        self.over_runs = rng.random((resamples, max(1, len(self.sizes)), max(1, len(seeds))))
        self.scales = rng.random((2, resamples))
        self.rng = rng

    def resample(self, rows: pd.DataFrame, log_y: Array, log_fit: Array) -> tuple[Array, str | None]:
        """Returns log targets `[R, n]` of the replicates, and a warning when seeds could not be used."""
        size = np.array([self.sizes[key] for key in rows[self.variables].itertuples(index=False, name=None)])
        seed = np.array([self.seeds[key] for key in rows[self.cluster]]) if self.cluster else np.zeros(len(rows), int)
        levels, place = np.unique(size, return_inverse=True)
        names, who = np.unique(seed, return_inverse=True)
        freedom = len(rows) - len(levels) - len(names) + 1
        if len(names) < 2 or freedom < 1:
            return self.resample_residuals(log_y, log_fit), (
                "no repeated seeds: intervals come from the residuals of the fit, and say nothing of what a seed "
                "changes at every size; run at least 3 seeds"
            )
        mean, effect, rest = split_two_ways(log_y, place, who)
        spread = (rest**2).sum() / freedom
        rest = rest * np.sqrt(len(rows) / freedom)
        between = effect.var(ddof=1)
        # An estimated effect holds the mean of its remainders too, which is drawn a second time below
        keep = np.sqrt(max(0.0, 1 - spread / len(levels) / between)) if between > 0 else 0.0
        effect = effect * keep * np.sqrt(len(names) / (len(names) - 1))
        chosen = np.minimum((self.over_seeds[:, names] * len(names)).astype(int), len(names) - 1)  # [R, S]
        drawn = mean[place] + self.scale(0, len(names) - 1)[:, None] * effect[chosen][:, who]
        pooled = rest[np.bincount(place)[place] > 1]
        noise = np.empty_like(drawn)
        for level, key in enumerate(levels):
            here = np.flatnonzero(place == level)
            pool = rest[here] if len(here) > 1 else pooled  # a size that ran once borrows the spread of the others
            noise[:, here] = pool[(self.over_runs[:, key][:, seed[here]] * len(pool)).astype(int)]
        return drawn + self.scale(1, freedom)[:, None] * noise, None

    def scale(self, which: int, freedom: int) -> Array:
        """Returns factors `[R]` that turn a normal spread into a t spread, the same for every series."""
        from scipy import stats

        return np.sqrt(freedom / stats.chi2.ppf(self.scales[which], freedom))

    def resample_residuals(self, log_y: Array, log_fit: Array) -> Array:
        """Returns log targets `[R, n]` around the fit, with its residuals drawn with replacement."""
        rest, n = log_y - log_fit, len(log_y)
        freedom = max(1, n - 3)
        rest = (rest - rest.mean()) * np.sqrt(n / freedom)
        drawn = rest[self.rng.integers(0, n, (self.scales.shape[1], n))]
        return log_fit + self.scale(1, freedom)[:, None] * drawn


def split_two_ways(values: Array, place: Array, who: Array) -> tuple[Array, Array, Array]:
    """Returns size means, seed effects (mean 0) and remainders of an additive least-squares split, balanced or not.

    >>> values, size, seed = np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> mean, effect, rest = split_two_ways(values, size, seed)
    >>> mean.round(6).tolist(), effect.round(6).tolist()
    ([2.0, 6.0], [-1.0, 1.0])
    """
    sizes, seeds = np.eye(place.max() + 1)[place], np.eye(who.max() + 1)[who]
    solution = np.linalg.lstsq(np.concatenate([sizes, seeds], axis=1), values, rcond=None)[0]
    mean, effect = solution[: sizes.shape[1]], solution[sizes.shape[1] :]
    mean, effect = mean + effect.mean(), effect - effect.mean()
    return mean, effect, values - mean[place] - effect[who]


def mean_interval(values: Any) -> tuple[float, float, float]:
    """Returns mean, lower and upper end of the 95 % t interval over seeds (NaN ends for one seed).

    >>> [round(item, 4) for item in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.4841, 4.4841]
    """
    from scipy import stats

    data = np.asarray(values, dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise AnalysisError(f"values={data.tolist()} must be at least one finite number; drop the missing seeds first")
    mean = float(data.mean())
    if data.size == 1:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf(0.975, data.size - 1) * data.std(ddof=1) / np.sqrt(data.size))
    return mean, mean - reach, mean + reach
