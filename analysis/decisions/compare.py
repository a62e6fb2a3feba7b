"""Who is ahead at which size: crossings of fitted curves, and the order of series by paired differences at each m.

Claims of who is ahead are made where a paired t test, corrected for the number of all pairs and sizes compared (Holm
1979), has p of at most 0.05: among true ties, any false claim at all has a chance of 5 %. Intervals are 95 % for each
comparison by itself, and not corrected.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.laws.law import Array
from analysis.uncertainty.bootstrap import mean_interval
from analysis.uncertainty.moderation import MIN_FREEDOM, moderate_variances
from analysis.uncertainty.resampling import read_percentiles, settle_seeds
from analysis.uncertainty.significance import LEVEL, correct_holm, find_p, find_p_of_mean

if TYPE_CHECKING:
    import pandas as pd

    from analysis.uncertainty.bootstrap import Bootstrap

GRID = 401  # points in log m on which sign changes are sought: 0.7 % apart over three decades before the polish


@dataclass(frozen=True)
class Crossing:
    """One size at which the fitted curves of two series cross.

    Attributes:
      first: A label.
      second: Another label.
      size: The m of the crossing.
      low: Lower end of its 95 % interval, among the replicates that cross here at all.
      high: Upper end.
      share: Share of the replicates with a crossing in this direction inside the common range; below 0.95 the crossing
        itself is in doubt, not only its place. NaN, as the ends are, where a fit has no replicates.
      ahead_before: The label that is better at smaller m.
      ahead_after: The label that is better at larger m.
      value: The curves' common value there.
    """

    first: str
    second: str
    size: float
    low: float
    high: float
    share: float
    ahead_before: str
    ahead_after: str
    value: float


def find_crossings(bootstrap: Bootstrap, *, lower_is_better: bool = True) -> list[Crossing]:
    """Returns every crossing of every pair of fitted curves inside the range of m in which both were observed.

    The estimate is the root of the fitted curves' difference; each replicate contributes its crossing in the same
    direction that lies nearest (in log m), so the interval is paired like the replicates.

    Raises:
      AnalysisError: if the law has more than one variable, where curves cross in lines and not in points.
    """
    from scipy.optimize import brentq

    law = bootstrap.law
    if len(law.variables) != 1:
        raise AnalysisError(
            f"law={law.name} has variables {law.variables!r}; crossings need a law of one, like power_floor"
        )
    variable, found = law.variables[0], []
    for first, second in itertools.combinations(sorted(bootstrap.fits), 2):
        low = max(bootstrap.ranges[label][variable][0] for label in (first, second))
        high = min(bootstrap.ranges[label][variable][1] for label in (first, second))
        if not low < high:
            continue
        logs = np.linspace(np.log(low), np.log(high), GRID)
        fits = [bootstrap.fits[label] for label in (first, second)]

        def gap(log_size: Array | float, fits: list = fits) -> Array:
            at = {variable: np.exp(np.atleast_1d(log_size))}
            return fits[0].predict(at) - fits[1].predict(at)

        sign = gap(logs) > 0
        turns = np.flatnonzero(sign[1:] != sign[:-1])
        if not len(turns):
            continue
        at = {variable: np.exp(logs)}
        draws = [bootstrap.replicates[label] for label in (first, second)]
        has_draws = all(map(len, draws))
        gaps = (
            law.predict_many(draws[0], at) - law.predict_many(draws[1], at) if has_draws else np.empty((0, len(logs)))
        )
        for turn in turns:
            root = float(brentq(lambda z, gap=gap: float(gap(z)[0]), logs[turn], logs[turn + 1], xtol=1e-13))
            near = locate_turns(gaps, logs, root, rising=bool(sign[turn + 1]))
            crossed = near[np.isfinite(near)]
            ends = np.exp(read_percentiles(crossed, [2.5, 97.5])) if len(crossed) else np.full(2, np.nan)
            # the difference rises through 0: the first was below, which is ahead where lower is better
            before = first if bool(sign[turn + 1]) == lower_is_better else second
            found.append(
                Crossing(
                    first=first,
                    second=second,
                    size=float(np.exp(root)),
                    low=float(ends[0]),
                    high=float(ends[1]),
                    share=len(crossed) / len(near) if len(near) else float("nan"),
                    ahead_before=before,
                    ahead_after=second if before == first else first,
                    value=float(fits[0].predict({variable: np.exp([root])})[0]),
                )
            )
    return found


def locate_turns(gaps: Array, logs: Array, root: float, *, rising: bool) -> Array:
    """Returns, for each row of `gaps` `[R, g]`, its root in that direction nearest to `root`, or NaN without one."""
    above = gaps > 0
    turns = (above[:, 1:] & ~above[:, :-1]) if rising else (~above[:, 1:] & above[:, :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        places = logs[:-1] + (logs[1:] - logs[:-1]) * gaps[:, :-1] / (gaps[:, :-1] - gaps[:, 1:])
    distance = np.where(turns, np.abs(places - root), np.inf)
    nearest, every = distance.argmin(axis=1), np.arange(len(gaps))
    return np.where(turns.any(axis=1), places[every, nearest], np.nan)


@dataclass(frozen=True)
class Ordering:
    """The order of several series at every size; its claims are corrected for their number, its intervals are not.

    Attributes:
      pairs: One row for each pair and common size: `first second m seeds difference low high p p_holm better`;
        `difference` is the mean of first - second over common seeds with its own 95 % interval, `p` that of a paired t
        test whose variance is moderated, `p_holm` is corrected for all tests of the table, and `better` names the label
        that is ahead with `p_holm` of at most 0.05, or is empty.
      sizes: One row for each size: `m best value low high runner_up settled leaders`; `settled` says that the best
        mean is ahead of the runner-up by the corrected test, and `leaders` names all that are not significantly worse
        than the best.
      borrowed: Degrees of freedom that each variance took from all of them, see `uncertainty.moderation`; 0 for plain
        t tests.
    """

    pairs: pd.DataFrame
    sizes: pd.DataFrame
    borrowed: float = 0.0

    @property
    def num_tests(self) -> int:
        """Returns the number of tests that p-values were corrected for."""
        return int(self.pairs["p"].notna().sum())

    @property
    def unsettled_sizes(self) -> list[float]:
        """Returns the m at which the best mean is not significantly ahead of the runner-up."""
        return self.sizes.loc[~self.sizes["settled"].astype(bool), "m"].tolist()

    def ahead_from(self, label_a: str, label_b: str) -> float | None:
        """Returns the smallest m from which on a is better at every common size by the corrected test, or None.

        Raises:
          AnalysisError: if a label is unknown or the two share no size.
        """
        known = set(self.pairs["first"]) | set(self.pairs["second"])
        for label in (label_a, label_b):
            if label not in known:
                raise suggest_name("label", label, known)
        rows = self.pairs[self.pairs["first"].isin([label_a, label_b]) & self.pairs["second"].isin([label_a, label_b])]
        if rows.empty:
            raise AnalysisError(
                f"labels {label_a!r} and {label_b!r} share no size; run both at one m, or name two others"
            )
        start = None
        for m, better in sorted(zip(rows["m"], rows["better"], strict=True), reverse=True):
            if better != label_a:
                break
            start = float(m)
        return start


def order_by_size(
    table: pd.DataFrame,
    target: str,
    *,
    by: str = "label",
    size: str = "data_unique",
    cluster: str = "seed",
    lower_is_better: bool = True,
) -> Ordering:
    """Returns who is ahead at each size, from differences paired by seed, by t tests corrected for their number.

    A few seeds know little of the spread of one difference: of three seeds or more and forty differences from one
    series or more, variances are moderated, each moved towards the trend that all of them follow with size
    (`uncertainty.moderation`). Intervals are those of t for each difference by itself, and not corrected. With one
    common seed there is neither interval nor test, and nothing is settled. To compare two series alone, give a table of
    these two: the fewer tests, the less each is corrected.

    Args:
      table: Rows in the contract's columns; only usable rows count (`table.select_rows`).
      target: What to compare.
      by: Column that names the series.
      size: Column of m.
      cluster: Column of seeds; runs of one seed share their subset, which is what pairing removes.
      lower_is_better: True for loss and error, False for accuracy.

    Raises:
      AnalysisError: on a missing column, or several rows for one series, size and seed.
    """
    import pandas as pd

    rows = pick_rows(table, target, by, size, cluster)
    grid = rows.pivot(index=[size, cluster], columns=by, values=target)
    blocks = [(m, block.dropna(axis=1, how="all")) for m, block in grid.groupby(level=0, sort=True)]
    tests: list[tuple[Any, ...]] = []
    for m, block in blocks:
        for first, second in itertools.combinations(sorted(block.columns), 2):
            gaps = (block[first] - block[second]).dropna().to_numpy()
            if len(gaps):
                spread = float(gaps.var(ddof=1)) if len(gaps) > 1 else np.nan
                tests.append((first, second, m, len(gaps), *mean_interval(gaps), spread, find_p_of_mean(gaps)))
    # Nested subsets make the noise of one seed alike at neighbouring sizes, so that two sizes count as one.
    tests, borrowed = _moderate(tests, independent=sum(block.shape[1] - 1 for _, block in blocks) // 2)
    pairs, ahead = [], {}
    for test, p in zip(tests, correct_holm([test[-1] for test in tests]), strict=True):
        first, second, m, _, difference, *_ = test
        better = (first if (difference < 0) == lower_is_better else second) if p <= LEVEL else ""
        pairs.append((*test[:-2], test[-1], p, better))
        ahead[m, frozenset((first, second))] = better
    sizes: list[tuple[Any, ...]] = []
    for m, block in blocks:
        means = block.mean().sort_values(ascending=lower_is_better, kind="stable")
        best, runner_up = means.index[0], means.index[1] if len(means) > 1 else None
        leaders = tuple(one for one in means.index if one == best or ahead.get((m, frozenset((best, one)))) != best)
        settled = runner_up is None or ahead.get((m, frozenset((best, runner_up)))) == best
        sizes.append((m, best, *mean_interval(block[best].dropna().to_numpy()), runner_up, settled, leaders))
    of_pairs = ["first", "second", "m", "seeds", "difference", "low", "high", "p", "p_holm", "better"]
    of_sizes = ["m", "best", "value", "low", "high", "runner_up", "settled", "leaders"]
    return Ordering(pd.DataFrame(pairs, columns=of_pairs), pd.DataFrame(sizes, columns=of_sizes), borrowed)


def _moderate(tests: list[tuple[Any, ...]], independent: int) -> tuple[list[tuple[Any, ...]], float]:
    """Returns tests `first second m seeds difference low high variance p` with p-values of moderated variances.

    Args:
      tests: with plain p-values.
      independent: how many of their differences are independent.
    """
    places = [place for place, test in enumerate(tests) if test[3] > MIN_FREEDOM]
    if not places:
        return tests, 0.0
    seeds = np.array([tests[place][3] for place in places], dtype=np.float64)
    sizes = np.array([tests[place][2] for place in places], dtype=np.float64)
    along = np.log(sizes) if (sizes > 0).all() else sizes
    found = moderate_variances(np.array([tests[place][-2] for place in places]), seeds - 1, along, independent)
    if not found.prior_freedom:
        return tests, 0.0
    again = list(tests)
    errors = np.sqrt(found.variance / seeds)
    for place, error, freedom in zip(places, errors, found.freedom, strict=True):
        again[place] = (*tests[place][:-1], find_p(tests[place][4], float(error), float(freedom)))
    return again, found.prior_freedom


def name_series(rows: pd.DataFrame, by: str, cluster: str) -> pd.DataFrame:
    """Returns rows with the names of their series as text, also where there is none, and a seed for each.

    Without seeds all have one; where some rows lack theirs, each of those has one of its own, which pairs with none.
    """
    from analysis.tables.run_names import is_empty
    from analysis.tables.runs import fill_names

    has_seeds = cluster in rows.columns and not is_empty(rows[cluster]).all()
    rows = fill_names(rows, by)
    return rows.assign(**{cluster: settle_seeds(rows[cluster]) if has_seeds else 0, by: rows[by].astype(str)})


def pick_rows(table: pd.DataFrame, target: str, by: str, size: str, cluster: str) -> pd.DataFrame:
    """Returns the usable rows, one for each series, size and seed."""
    from analysis.tables.table import select_rows

    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    rows = name_series(select_rows(table, [size, target])[0], by, cluster)
    twice = rows[rows.duplicated([by, size, cluster])]
    if len(twice):
        label, m, seed = twice.iloc[0][[by, size, cluster]]
        raise AnalysisError(
            f"{by}={label} has several rows at {size}={m:g}, {cluster}={seed}: several settings share it, so there is "
            "no one value to compare; keep one setting with --keep, or label them apart"
        )
    return rows
