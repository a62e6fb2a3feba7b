"""Ways to draw a study anew: whole clusters, signs of residuals, residuals, and seeds crossed with sizes.

Every scheme returns targets `[R, n]` in the space of the objective's residuals (log y, or y), or weights `[R, n]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never, get_args

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice
from analysis.laws.law import Array
from scaling.specs.fits import RESAMPLES, AnyScheme, Scheme

if TYPE_CHECKING:
    import pandas as pd

NO_SEEDS = Notice(
    code="no_repeated_seeds",
    text="no repeated seeds: intervals come from the residuals of the fit, and say nothing of what a seed changes at "
    "every size; run at least 3 seeds",
)
# With one degree of freedom the largest of a thousand t factors is above 10,000, which carries exp(log y) out of float
# range. Such draws are far outside the percentiles that are read.
MAX_LOG_DEVIATION = 100.0
SMALLEST = 0.01  # of the median residual; a point that the fit happens to meet says as much of the noise as this
FEW_CLUSTERS = 6  # below this many, signs of clusters have under 64 patterns, and intervals are rough


@dataclass(frozen=True)
class Points:
    """What a scheme sees of one series.

    Attributes:
      y: Targets in the space of residuals, `[n]`.
      fitted: The fit in the same space, `[n]`.
      jacobian: Its derivative by the free parameters, `[n, p]`.
      weights: `[n]`.
      clusters: Number of each point's cluster, `[n]`: points that are not independent share one.
      sizes: Logarithms of the law's variables, `[n, v]`, over which the noise may change.
    """

    y: Array
    fitted: Array
    jacobian: Array
    weights: Array
    clusters: Array
    sizes: Array


def number_clusters(rows: pd.DataFrame, names: Sequence[str]) -> Array:
    """Returns the number of each row's cluster: rows that share any of the named columns' values are together.

    Rows of one cell (checkpoints), of one trunk (branches) or of one seed are not independent. A row without a value is
    a cluster of its own; one name is joined with the next where clusters overlap. Of a combination `a+b`, rows are
    together that share both values; a column whose own name has a + is taken as it stands.

    Raises:
      AnalysisError: if a named column is missing.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(rows)
    row, group, groups = [], [], count  # a graph of rows and of what they share
    for name in names:
        codes = _number_values(rows, read_combination(rows, name))
        known = np.flatnonzero(codes >= 0)
        row.append(known)
        group.append(groups + codes[known])
        groups += int(codes.max(initial=-1)) + 1
    if not row:
        return np.arange(count)
    ends = np.concatenate(row), np.concatenate(group)
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(groups, groups))
    label = connected_components(graph, directed=False)[1][:count]
    first = np.unique(label, return_index=True)[1]  # clusters are numbered by their first row
    order = np.empty(int(label.max(initial=-1)) + 1, dtype=np.int64)
    order[label[np.sort(first)]] = np.arange(len(first))
    return order[label]


def read_combination(rows: pd.DataFrame, name: str) -> list[str]:
    """Returns the columns that `name` stands for: itself, or those of a combination `a+b`.

    Raises:
      AnalysisError: if one is missing.
    """
    if name in rows.columns:
        return [name]
    parts = str(name).split("+")
    for end in range(len(parts) - 1, 0, -1):  # a column of a combination may have a + in its own name
        first = "+".join(parts[:end]).strip()
        if first in rows.columns:
            return [first, *read_combination(rows, "+".join(parts[end:]).strip())]
    raise suggest_name("cluster", parts[0].strip() if len(parts) > 1 else name, rows.columns)


def _number_values(rows: pd.DataFrame, names: Sequence[str]) -> Array:
    """Returns the number of each row's values in some columns, -1 where one of them is missing or blank."""
    import pandas as pd

    from analysis.tables.run_names import number_runs

    codes = number_runs(rows[names[0]])
    for name in names[1:]:
        more = number_runs(rows[name])
        both = pd.factorize(codes * (int(more.max(initial=-1)) + 1) + more)[0]
        codes = np.where((codes >= 0) & (more >= 0), both, -1)
    return codes


def settle_seeds(column: pd.Series) -> pd.Series:
    """Returns seeds as they are; numbered where kinds are mixed or some are missing, each of which is one by itself."""
    import pandas as pd

    from analysis.tables.run_names import is_empty, number_runs

    empty = is_empty(column)
    try:
        if not empty.any() and len(sorted(column.unique())):
            return column
    except TypeError:
        pass
    codes = number_runs(column)
    codes[empty] = codes.max(initial=-1) + 1 + np.arange(int(empty.sum()))
    return pd.Series(codes, index=column.index)


def correct_residuals(points: Points) -> tuple[Array, int]:
    """Returns residuals `[n]` whose spread is that of the noise, and their degrees of freedom.

    The residuals of one Gauss-Newton step of least squares from the fit, multiplied within each cluster by
    (I - H)^(-1/2) of its block of the hat matrix (Bell & McCaffrey's CR2, of which HC2 is the case of clusters of one).
    A fit to medians passes through as many points as it has parameters; the step gives those a residual, too.
    """
    root = np.sqrt(points.weights)
    scaled = points.jacobian * root[:, None]
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    left = left[:, sizes > 1e-10 * max(sizes.max(initial=0.0), 1e-300)]
    residual = (points.y - points.fitted) * root
    residual = residual - left @ (left.T @ residual)
    fixed = residual.copy()
    for cluster in np.unique(points.clusters):
        own = points.clusters == cluster
        values, vectors = np.linalg.eigh(np.eye(int(own.sum())) - left[own] @ left[own].T)
        # a direction that the fit follows wholly has no residual left to correct
        scale = np.where(values > 1e-8, 1 / np.sqrt(np.maximum(values, 1e-8)), 0.0)
        fixed[own] = vectors @ (scale * (vectors.T @ residual[own]))
    count, parameters = int((points.weights > 0).sum()), left.shape[1]
    freedom, groups = count - parameters, int(points.clusters.max()) + 1
    if groups < len(residual):  # between clusters there are only as many independent numbers as there are clusters
        sizes = np.bincount(points.clusters, minlength=groups)
        means = np.stack([np.bincount(points.clusters, column, minlength=groups) / sizes for column in left.T], axis=1)
        freedom = min(freedom, groups - int(np.linalg.matrix_rank(means, tol=1e-6)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(root > 0, fixed / root, 0.0), max(1, freedom)


def stretch(quantiles: Array, freedom: int) -> Array:
    """Returns factors `[R]` that turn a normal spread into a t spread, from uniform draws `[R]`."""
    from scipy.special import chdtri

    return np.sqrt(freedom / chdtri(freedom, 1 - quantiles))


def draw_wild(points: Points, resamples: int, rng: np.random.Generator) -> Array:
    """Returns targets `[R, n]`: the fit plus corrected residuals, with one Rademacher sign a cluster.

    Signs keep the density of the residuals near 0, on which fits to medians depend (Feng, He & Hu 2011).
    """
    residual, freedom = correct_residuals(points)
    signs = rng.integers(0, 2, (resamples, int(points.clusters.max()) + 1)) * 2.0 - 1.0
    scale = stretch(rng.random(resamples), freedom)
    return points.fitted + scale[:, None] * signs[:, points.clusters] * residual


def draw_residuals(points: Points, resamples: int, rng: np.random.Generator) -> Array:
    """Returns targets `[R, n]`: the fit plus corrected residuals drawn with replacement, each with a random sign.

    Pooling is what makes nine points enough: a point that the fit follows closely has hardly a residual of its own.
    Where clusters hold several points, each cluster's common part and the rest are drawn apart.
    """
    residual, freedom = correct_residuals(points)
    scale = find_spread(points, residual)
    residual = residual / scale
    groups = int(points.clusters.max()) + 1
    count = np.bincount(points.clusters, minlength=groups)
    common = np.bincount(points.clusters, residual, minlength=groups) / count
    if groups == len(residual):
        common[:] = 0.0
    rest = residual - common[points.clusters]
    drawn = rest[rng.integers(0, len(rest), (resamples, len(rest)))]
    shared = common[rng.integers(0, groups, (resamples, groups))]
    noise = drawn * _signs(rng, drawn.shape) + (shared * _signs(rng, shared.shape))[:, points.clusters]
    return points.fitted + stretch(rng.random(resamples), freedom)[:, None] * noise * scale


def find_spread(points: Points, residual: Array) -> Array:
    """Returns how the noise's spread changes over the sizes, `[n]` with geometric mean 1.

    A line in logarithms for each variable, shrunk by the share of it that chance would explain: with q slopes and F
    their mean square over that of the rest, 1 - 1/F of the line is kept, and nothing of it where F is below 1 (the
    positive part of James & Stein 1961). Runs at small sizes are often noisier; a few points can hardly tell.
    """
    size, x = np.abs(residual), points.sizes - points.sizes.mean(axis=0)
    floor = SMALLEST * float(np.median(size))
    left, stretches, _ = np.linalg.svd(x, full_matrices=False)
    left = left[:, stretches > 1e-10 * max(stretches.max(initial=0.0), 1e-300)]
    slopes, freedom = left.shape[1], len(size) - left.shape[1] - 1
    if floor <= 0 or not slopes or freedom < slopes + 1:
        return np.ones(len(size))
    spread = np.log(np.maximum(size, floor))
    trend = left @ (left.T @ spread)
    rest = ((spread - spread.mean() - trend) ** 2).sum() / freedom
    signal = (trend**2).sum() / slopes
    return np.exp(max(0.0, 1 - rest / signal) * trend) if signal > 0 else np.ones(len(size))


def describe_noise(points: Points, sd: float) -> tuple[float, Array]:
    """Returns the log sd of a run where all sizes are 1, and its slopes `[v]` by their logarithms.

    Args:
      points: Of a fit without weights.
      sd: Of all residuals together, corrected for the parameters.
    """
    trend = np.log(find_spread(points, correct_residuals(points)[0]))
    middle = points.sizes.mean(axis=0)
    slopes = np.linalg.lstsq(points.sizes - middle, trend, rcond=None)[0]
    return float(np.log(sd) - 0.5 * np.log(np.exp(2 * trend).mean()) - slopes @ middle), slopes


def restore(drawn: Array, points: Points, is_log: bool) -> Array:
    """Returns targets `[R, n]` in the units of y from those in the space of residuals."""
    if not is_log:
        return drawn
    return np.exp(np.clip(drawn, points.fitted - MAX_LOG_DEVIATION, points.fitted + MAX_LOG_DEVIATION))


def read_percentiles(draws: Array, levels: Sequence[float]) -> Array:
    """Returns the percentiles of draws over their first axis, each at (R + 1) times its level (Weibull 1939).

    The usual rule, (R - 1) times the level, takes intervals of a hundred draws too narrow.

    >>> read_percentiles(np.arange(1.0, 40.0), [2.5, 97.5]).tolist()
    [1.0, 39.0]
    """
    with np.errstate(invalid="ignore"):  # between two infinite draws
        return np.percentile(draws, levels, axis=0, method="weibull")


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, 2, shape) * 2.0 - 1.0


def draw_pairs(points: Points, resamples: int, rng: np.random.Generator) -> Array:
    """Returns weights `[R, n]`: how often each point's cluster was drawn, times its own weight."""
    groups = int(points.clusters.max()) + 1
    times = rng.multinomial(groups, np.full(groups, 1 / groups), resamples)
    return times[:, points.clusters] * points.weights


class Draws:
    """Random choices that every series of one table shares: of seeds, of runs within a size, and of scales."""

    def __init__(
        self, table: pd.DataFrame, variables: Sequence[str], cluster: str | None, resamples: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.cluster, self.variables = cluster, list(variables)
        sizes = table[self.variables].drop_duplicates()
        self.sizes = {tuple(row): i for i, row in enumerate(sorted(sizes.itertuples(index=False, name=None)))}
        seeds = sorted(table[cluster].unique()) if cluster else []
        self.seeds = {name: i for i, name in enumerate(seeds)}
        self.over_seeds = rng.random((resamples, max(1, len(seeds))))
        self.over_runs = rng.random((resamples, max(1, len(self.sizes)), max(1, len(seeds))))
        self.scales = rng.random((2, resamples))
        self.rng, self.resamples = rng, resamples

    def place(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        """Returns the numbers of each row's size and seed among those of the table."""
        size = np.array([self.sizes[key] for key in rows[self.variables].itertuples(index=False, name=None)])
        if not self.cluster:
            return size, np.zeros(len(rows), int)
        return size, np.array([self.seeds[key] for key in rows[self.cluster]])

    def can_cross(self, rows: pd.DataFrame) -> bool:
        """Returns whether seeds repeat over sizes, so that their effects can be told from the rest."""
        size, seed = self.place(rows)
        return len(np.unique(seed)) >= 2 and len(rows) - len(np.unique(size)) - len(np.unique(seed)) + 1 >= 1

    def cross(self, rows: pd.DataFrame, y: Array) -> Array:
        """Returns targets `[R, n]`: size means, plus seed effects drawn over seeds, plus remainders within each size.

        The noise of a run is split into what a seed does at every size (its subset, its initial values) and what is
        new at every size, because 3 to 5 seeds say little about the first (S - 1 degrees of freedom) and much about the
        second.
        """
        size, seed = self.place(rows)
        levels, place = np.unique(size, return_inverse=True)
        names, who = np.unique(seed, return_inverse=True)
        freedom = len(rows) - len(levels) - len(names) + 1
        mean, effect, rest = split_two_ways(y, place, who)
        spread = (rest**2).sum() / freedom
        rest = rest * np.sqrt(len(rows) / freedom)
        between = effect.var(ddof=1)
        # An estimated effect holds the mean of its remainders too, which is drawn a second time below
        keep = np.sqrt(max(0.0, 1 - spread / len(levels) / between)) if between > 0 else 0.0
        effect = effect * keep * np.sqrt(len(names) / (len(names) - 1))
        chosen = np.minimum((self.over_seeds[:, names] * len(names)).astype(int), len(names) - 1)  # [R, S]
        drawn = mean[place] + stretch(self.scales[0], len(names) - 1)[:, None] * effect[chosen][:, who]
        pooled = rest[np.bincount(place)[place] > 1]
        noise = np.empty_like(drawn)
        for level, key in enumerate(levels):
            here = np.flatnonzero(place == level)
            pool = rest[here] if len(here) > 1 else pooled  # a size that ran once borrows the spread of the others
            noise[:, here] = pool[(self.over_runs[:, key][:, seed[here]] * len(pool)).astype(int)]
        return drawn + stretch(self.scales[1], freedom)[:, None] * noise


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


def describe_scheme(scheme: Scheme) -> str:
    """Returns what a scheme draws anew, as a fit says where its intervals come from."""
    match scheme:
        case "seed":
            return (
                "two-way bootstrap by seed: seed effects resampled over seeds, remainders within each size, each "
                "scaled by a draw of its t distribution"
            )
        case "wild":
            return (
                "wild bootstrap: residuals over the root of 1 - leverage, one random sign a cluster, scaled by a draw "
                "of their t distribution"
            )
        case "residual":
            return (
                "residual bootstrap: residuals over the root of 1 - leverage and over the trend of their spread, drawn "
                "with replacement and a random sign, scaled by a draw of their t distribution"
            )
        case "pairs":
            return "pairs bootstrap: clusters drawn with replacement"
        case _:
            assert_never(scheme)


def check_scheme(scheme: AnyScheme, resamples: int) -> None:
    """Raises `AnalysisError` on an unknown scheme or too few resamples."""
    if scheme not in get_args(AnyScheme):
        raise suggest_name("scheme", scheme, get_args(AnyScheme))
    if resamples < 2:
        raise AnalysisError(f"resamples={resamples} must be at least 2; {RESAMPLES} is usual")
