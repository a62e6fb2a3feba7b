"""Uncertainty of fits: resampled fits with percentile or BCa intervals, of one series or of several paired ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never, get_args

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.fit import Fit, known
from analysis.fitting.fit_law import differentiate, evaluate, fit_law, refit
from analysis.fitting.notices import Notice, check_intervals, refuse_intervals
from analysis.fitting.objective import make_objective
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from analysis.uncertainty.refusals import find_refusal, name_clusters, withhold_intervals
from analysis.uncertainty.resampling import (
    FEW_CLUSTERS,
    NO_SEEDS,
    Draws,
    Points,
    check_scheme,
    describe_noise,
    describe_scheme,
    draw_pairs,
    draw_residuals,
    draw_wild,
    number_clusters,
    read_percentiles,
    restore,
    settle_seeds,
)
from scaling.specs.fits import DELTA, OBJECTIVE, RESAMPLES, AnyScheme, IntervalKind

if TYPE_CHECKING:
    import pandas as pd

FRESH = 1 - np.exp(-1)  # share of the clusters that a draw with replacement has
ON_BOUND = 0.05  # share of resamples at the end of a parameter's range above which the fit warns


@dataclass(frozen=True)
class Bootstrap:
    """The fits of several series with their replicates.

    Attributes:
      law: The law, bound to its columns.
      fits: One `Fit` for each label, with percentile intervals.
      replicates: Parameters `[R, p]` of each label in the order of `law.params`; row r of every label is the same draw.
        R is 0 for a fit without intervals.
      ranges: Smallest and largest value of each variable that was fitted, for each label.
      seed: Seed of the draws.
    """

    law: Law
    fits: dict[str, Fit]
    replicates: dict[str, Array]
    ranges: dict[str, dict[str, tuple[float, float]]]
    seed: int

    def predict(self, label: str, columns: Mapping[str, Any]) -> tuple[Array, Array, Array]:
        """Returns estimate, lower and upper end of the pointwise 95 % interval of the fitted curve at every row.

        The ends are NaN of a fit without intervals.
        """
        if not len(self.replicates[label]):
            value = self.fits[label].predict(columns)
            return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
        draws = self.law.predict_many(self.replicates[label], columns)
        low, high = read_percentiles(draws, [2.5, 97.5])
        return self.fits[label].predict(columns), low, high

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each label and parameter: `estimate stderr low high`."""
        import pandas as pd

        return pd.concat({label: fit.to_frame() for label, fit in self.fits.items()}, names=["label"])

    def __str__(self) -> str:
        return "\n\n".join(f"{label}\n{fit}" for label, fit in self.fits.items())


def bootstrap_series(
    table: pd.DataFrame,
    law: str | Law,
    target: str,
    *,
    by: str = "label",
    cluster: str = "seed",
    resamples: int = RESAMPLES,
    seed: int = 0,
    objective: str = OBJECTIVE,
    delta: float = DELTA,
) -> Bootstrap:
    """Returns a fit with bootstrap intervals for every value of `by`, with paired replicates.

    For each series, log y = size mean + seed effect + remainder, by least squares. A replicate adds to the size means
    seed effects drawn over seeds and remainders drawn within their size, each times sqrt(df / chi2_df) with its own
    degrees of freedom, so that percentiles have the tails of t; then the law is fitted again. All series share the
    draws. Where seed effects dominate, intervals of `mse` equal the t interval over seeds; those of `huber` and `lad`,
    which follow the median of a few seeds, are up to 1.7 times as wide. Seed noise is all they know, and not how a law
    bends (`benchmarks/coverage.md`). Without two seeds, corrected residuals are drawn instead and each fit warns of it.
    A series of no more points than parameters has no intervals. Rows that lack a name are a series too.

    Args:
      table: Rows in the contract's columns; only usable rows count (`table.select_rows`).
      law: The law of every series.
      target: Column to fit.
      by: Column that names the series.
      cluster: Column that names the seed.
      resamples: Number of replicates R.
      seed: Seed of the draws.
      objective: As in `fitting.fit_law`.
      delta: As in `fitting.fit_law`.

    Raises:
      AnalysisError: on a missing column, or a value that `fit_law` refuses.
    """
    from analysis.tables.provenance import describe
    from analysis.tables.runs import fill_names
    from analysis.tables.table import fingerprint_table, select_rows, sort_rows

    law = get_law(law)
    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    check_scheme("seed", resamples)
    digest, table = fingerprint_table(table), fill_names(table, by)
    if cluster in table.columns:
        table = table.assign(**{cluster: settle_seeds(table[cluster])})
    needed = [*law.variables, target]
    usable = sort_rows(select_rows(table, needed)[0], needed)
    draws = Draws(usable, law.variables, cluster if cluster in table.columns else None, resamples, seed)
    fits, replicates, ranges = {}, {}, {}
    for label, whole in table.groupby(by, sort=True):
        rows, left_out, rule = select_rows(whole, needed)
        rows = sort_rows(rows, needed)
        columns = {name: rows[name].to_numpy(dtype=float) for name in law.variables}
        y = rows[target].to_numpy(dtype=float)
        fit = fit_law(
            law, columns, y, objective=objective, delta=delta, label=str(label), target=target, left_out=left_out,
            conventions={"rows": rule, **describe(table)}, table_sha256=digest,
        )  # fmt: skip
        clusters = number_clusters(rows, name_clusters(rows))
        refused = refuse_intervals(fit.n, len(np.unique(clusters)), len(law.params), name_clusters(rows))
        if refused:
            fits[str(label)] = withhold_intervals(fit, refused).model_copy(update={"seed": seed})
            replicates[str(label)], ranges[str(label)] = np.empty((0, len(law.params))), dict(fit.ranges)
            continue
        points = make_points(fit, law, columns, y, np.ones(len(y)), clusters)
        if draws.can_cross(rows):
            drawn, notices, method = draws.cross(rows, points.y), [], describe_scheme("seed")
        else:
            drawn, notices, method = (
                draw_residuals(points, resamples, draws.rng),
                [NO_SEEDS],
                describe_scheme("residual"),
            )
        fit, goal = add_noise(fit, points), make_objective(objective, delta)
        replicate = refit(law, columns, restore(drawn, points, goal.is_log), start=fit.vector, objective=goal)
        fit = attach_intervals(fit, law, replicate, seed=seed, method=method, notices=notices)
        fits[str(label)], replicates[str(label)], ranges[str(label)] = fit, fit.replicates, dict(fit.ranges)
    return Bootstrap(law, fits, replicates, ranges, seed)


def bootstrap_fit(
    fit: Fit,
    rows: pd.DataFrame,
    *,
    scheme: AnyScheme = "auto",
    clusters: Sequence[str] | None = None,
    interval: IntervalKind = "percentile",
    resamples: int = RESAMPLES,
    seed: int = 0,
    weights: Array | None = None,
) -> Fit:
    """Returns a fit with the draws of its resamples, and with standard errors and 95 % intervals from them.

    | scheme | what is drawn anew | for |
    | --- | --- | --- |
    | `seed` | seed effects over seeds, remainders within each size | repeated seeds |
    | `residual` | corrected residuals, pooled, and those of clusters | one run a size; branches of trunks |
    | `wild` | one sign a cluster for its own corrected residuals | many cells with noise of unknown spread |
    | `pairs` | whole clusters, as they are | many cells of a random design |
    | `auto` | `seed` where seeds repeat, no trunk is shared and no other clusters are named; else `residual` | |

    Args:
      fit: Of these rows.
      rows: The rows that were fitted (`table.select_rows`).
      scheme: See above.
      clusters: Columns whose equal values make rows dependent; by default `cell` and `trunk`, where they are there. Of
        a combination, such as `a+b`, both must be equal. No more clusters than parameters give no intervals.
      interval: `percentile`, or `bca`, corrected for bias and skewness by a jackknife over clusters (Efron 1987).
      resamples: R.
      seed: Of the draws.
      weights: Of the points, as in the fit.

    Raises:
      AnalysisError: on an unknown name, or a scheme that the rows do not allow.
    """
    check_scheme(scheme, resamples)
    if interval not in get_args(IntervalKind):
        raise suggest_name("interval", interval, get_args(IntervalKind))
    law, goal = fit.form, fit.objective
    columns = {name: rows[name].to_numpy(dtype=float) for name in law.variables}
    y = rows[fit.target or law.target].to_numpy(dtype=float)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    groups = number_clusters(rows, name_clusters(rows, clusters))
    if refused := find_refusal(fit, rows, clusters, weights=w, scheme=scheme):
        return withhold_intervals(fit, refused).model_copy(update={"seed": seed})
    points = make_points(fit, law, columns, y, w, groups)
    fit = add_noise(fit, points)
    count = len(np.unique(points.clusters))
    rng, notices = np.random.default_rng(seed), []
    if "seed" in rows.columns:
        rows = rows.assign(seed=settle_seeds(rows["seed"]))
    draws = Draws(rows, law.variables, "seed" if "seed" in rows.columns else None, resamples, seed)
    shared = "trunk" in rows.columns and bool(rows["trunk"].dropna().duplicated().any())
    if scheme == "auto":
        by_seed = clusters is None or list(clusters) == ["seed"]
        scheme = "seed" if draws.can_cross(rows) and by_seed and not shared and weights is None else "residual"
    drawn = count * FRESH if scheme == "pairs" else count
    if scheme != "seed" and (count < FEW_CLUSTERS or drawn <= len(law.params)):
        text = f"{count} independent clusters: intervals from so few are rough; run more cells, or more trunks"
        notices.append(Notice(code="few_clusters", text=text, is_weak=True))
    targets: Array = y
    new_weights: Array | None = None if weights is None else w
    method = f"{describe_scheme(scheme)}; {count} clusters"
    match scheme:
        case "seed":
            if not draws.can_cross(rows):
                raise AnalysisError(
                    "scheme=seed needs seeds that repeat over sizes (a seed column with 2 or more); use "
                    "scheme='residual'"
                )
            targets, method = restore(draws.cross(rows, points.y), points, goal.is_log), describe_scheme(scheme)
        case "wild" | "residual":
            draw = draw_wild if scheme == "wild" else draw_residuals
            targets = restore(draw(points, resamples, rng), points, goal.is_log)
            notices += [] if draws.can_cross(rows) else [NO_SEEDS]
        case "pairs":
            new_weights = draw_pairs(points, resamples, rng)
        case _:
            assert_never(scheme)
    replicate = refit(law, columns, targets, new_weights, start=fit.vector, objective=goal)
    knife = _jackknife(fit, law, columns, y, w, points.clusters) if interval == "bca" else None
    return attach_intervals(fit, law, replicate, seed=seed, method=method, notices=notices, knife=knife)


def make_points(fit: Fit, law: Law, columns: Mapping[str, Array], y: Array, w: Array, clusters: Array) -> Points:
    """Returns what resampling schemes see of a fit."""
    arrays, params, is_log = [columns[name] for name in law.variables], fit.vector, fit.objective.is_log
    fitted = evaluate(law, arrays, params)
    jacobian = differentiate(law, arrays, params, is_log)
    free = np.isfinite(jacobian).all(axis=0) & (np.abs(jacobian).max(axis=0) > 0)
    jacobian = jacobian[:, free] / np.abs(jacobian[:, free]).max(axis=0)
    sizes = np.stack(arrays, axis=-1)
    # Over proportions, which have no logarithms where they are 0, noise is taken to be the same everywhere.
    sizes = np.zeros_like(sizes) if law.may_be_zero else np.log(sizes)
    return Points(np.log(y) if is_log else y, np.log(fitted) if is_log else fitted, jacobian, w, clusters, sizes)


def add_noise(fit: Fit, points: Points) -> Fit:
    """Returns the fit with how the noise of a run changes over the sizes; as it is where weights or nothing say so."""
    if not fit.residual_sd or not (points.weights == 1).all() or not points.sizes.any():
        return fit
    level, slopes = describe_noise(points, fit.residual_sd)
    return fit.model_copy(update={"noise": {"log_sd": level, **dict(zip(fit.columns, slopes.tolist(), strict=True))}})


def attach_intervals(
    fit: Fit,
    law: Law,
    replicates: Array,
    *,
    seed: int,
    method: str,
    notices: Sequence[Notice] = (),
    knife: Array | None = None,
) -> Fit:
    """Returns the fit with draws, standard errors, covariance and intervals of its replicates `[R, p]`.

    What is the same in every draw has no interval, and where all is, the fit has none.
    """
    if not (replicates != replicates[:1]).any():
        text = (
            f"no interval: all {len(replicates)} resamples give the same parameters: drawing anew changes nothing; "
            "see whether rows repeat each other, or lie on the law exactly as made ones do, and add points or seeds"
        )
        refused = [Notice(code="equal_draws", text=text, is_weak=True)]
        return withhold_intervals(fit, refused).model_copy(update={"seed": seed})
    with np.errstate(all="ignore"):
        covariance = np.atleast_2d(np.cov(replicates, rowvar=False))
    params, k = fit.vector, len(law.linear)
    names = law.params
    draws = dict(zip(names, replicates.T, strict=True))
    estimates: dict[str, float] = dict(fit.params)
    knives = dict(zip(names, knife.T, strict=True)) if knife is not None else {}
    if law.derived is not None:
        with np.errstate(all="ignore"):
            more = law.derived(draws)
            draws |= {name: np.broadcast_to(more[name], len(replicates)) for name in fit.derived}
            estimates |= fit.derived
            if knife is not None:
                again = law.derived(dict(knives))
                knives |= {name: np.broadcast_to(again[name], len(knife)) for name in fit.derived}
    varies = {name: bool((values != values[0]).any()) for name, values in draws.items()}
    ends: dict[str, tuple[float | None, float | None]] = {}
    for name, values in draws.items():
        finite = np.where(np.isnan(values), np.inf, values)
        levels = read_levels(finite, estimates[name], knives.get(name))
        low, high = read_percentiles(finite, levels)
        ends[name] = (known(float(low)), known(float(high))) if varies[name] else (None, None)
    with np.errstate(all="ignore"):  # a derived quantity can be infinite in a draw
        spread = {name: known(float(values.std(ddof=1))) if varies[name] else None for name, values in draws.items()}
    bounds = [item.resolve({**{v: np.array(fit.ranges[v]) for v in fit.ranges}, "target": np.ones(1)})
              if item.of in (None, *fit.ranges) else (-np.inf, np.inf) for item in law.ranges.values()]  # fmt: skip
    stuck = [
        f"{name} in {share:.0%}"
        for i, (name, (low, high)) in enumerate(zip(law.nonlinear, bounds, strict=True))
        if (share := float(((replicates[:, k + i] <= low) | (replicates[:, k + i] >= high)).mean())) > ON_BOUND
    ]
    text = f"resamples end on a bound ({', '.join(stuck)}): hardly identified; add sizes or seeds"
    own = [Notice(code="resamples_on_bound", text=text)] if stuck else []
    still = [notice for notice in fit.warnings if notice.code != "interval_reaches_0"]
    limits = [
        np.array([ends[name][side] if ends[name][side] is not None else np.nan for name in names]) for side in (0, 1)
    ]
    own += check_intervals(law, params, *limits)
    every = (*still, *own, *notices)
    weak = fit.status == "failed" or any(notice.is_weak for notice in every)
    kind = "percentiles" if knife is None else "BCa"
    return fit.model_copy(
        update={
            "stderr": spread,
            "ci95": ends,
            "covariance": [[known(item) for item in row] for row in covariance.tolist()],
            "conventions": {**fit.conventions, "uncertainty": f"{method}; {kind}; {len(replicates)} resamples"},
            "warnings": every,
            "status": fit.status if fit.status == "failed" else "weak" if weak else "ok",
            "seed": seed,
            "draws": tuple(map(tuple, replicates.tolist())),
        }
    )


def read_levels(draws: Array, estimate: float, knife: Array | None, level: float = 0.95) -> tuple[float, float]:
    """Returns the percentiles at which an interval is read: plain ones, or BCa's (Efron 1987) with a jackknife.

    >>> read_levels(np.arange(100.0), 49.5, None)
    (2.5, 97.5)
    """
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if knife is None:
        low, high = 100 * tails
        return round(float(low), 10), round(float(high), 10)
    from scipy.special import ndtr, ndtri

    size = len(draws)
    below = ((draws < estimate).sum() + 0.5 * (draws == estimate).sum()) / size
    bias = ndtri(np.clip(below, 0.5 / size, 1 - 0.5 / size))
    off = knife.mean() - knife
    total = (off**2).sum() ** 1.5
    skew = float((off**3).sum() / (6 * total)) if total > 0 else 0.0
    z = bias + ndtri(tails)
    low, high = 100 * ndtr(bias + z / (1 - np.clip(skew * z, -0.9, 0.9)))
    return float(low), float(high)


def mean_interval(values: Any) -> tuple[float, float, float]:
    """Returns mean, lower and upper end of the 95 % t interval over seeds (NaN ends for one seed).

    >>> [round(item, 4) for item in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.4841, 4.4841]
    """
    from scipy.special import stdtrit

    data = np.asarray(values, dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise AnalysisError(f"values={data.tolist()} must be at least one finite number; drop the missing seeds first")
    mean = float(data.mean())
    if data.size == 1:
        return mean, float("nan"), float("nan")
    reach = float(stdtrit(data.size - 1, 0.975) * data.std(ddof=1) / np.sqrt(data.size))
    return mean, mean - reach, mean + reach


def _jackknife(fit: Fit, law: Law, columns: Mapping[str, Array], y: Array, w: Array, clusters: Array) -> Array:
    """Returns the parameters `[G, p]` without each cluster in turn."""
    names = np.unique(clusters)
    without = np.where(clusters[None, :] == names[:, None], 0.0, w)
    return refit(law, columns, y, without, start=fit.vector, objective=fit.objective)
