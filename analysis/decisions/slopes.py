"""What more data still brings each series at the end of its range: a verdict with its test, and not a last difference.

The change of the target for each doubling of size is the slope of its logarithm by log2 of size over the last sizes.
Where seeds repeat, each seed has a slope of its own, and t tests and intervals are over seeds, which share a subset at
every size; with one seed they are of the residuals of one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.axes import Axis, read_axis, read_unit
from analysis.errors import AnalysisError
from analysis.laws.law import Array
from analysis.tables.measures import Measure, read_measure
from analysis.uncertainty.significance import LEVEL, correct_holm, find_p, format_p

if TYPE_CHECKING:
    import pandas as pd

    from scaling.specs.metrics import MetricFacts

MIN_SIZES = 4  # of one seed: fewer leave a line less than two degrees of freedom
FOUND = ["label", "size", "unit", "sizes", "seeds", "method", "change", "low", "high", "p", "reason"]
COLUMNS = [
    "label",
    "size",
    "sizes",
    "seeds",
    "method",
    "unit",
    "change",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
    "reason",
]


@dataclass(frozen=True)
class Slopes:
    """What a doubling of size changes at the end of each series' range.

    Attributes:
      table: One row for each series: `label`, `size` (its largest), `sizes seeds` (how many were used), `method`
        (`seeds` or `residuals`), `unit` (`share` where all of its values are positive, so that a change is one of
        log y, else `spread`), `change low high` (for each doubling, with a 95 % interval for this series by itself),
        `p` (of no change), `p_holm` (corrected for the number of series), `verdict` (`improves`, `worsens`, `flat`,
        `not settled` or `no test`) and `reason` (why there is no test).
      measure: What is measured of the target.
      axis: The words for size.
      margin: The change for each doubling within which a series is flat.
      spread: The standard deviation of the target over all rows.
    """

    table: pd.DataFrame
    measure: Measure
    axis: Axis
    margin: float
    spread: float

    def describe(self) -> dict[str, str]:
        """Returns one sentence for each series, by label."""
        tests = int(self.table["p"].notna().sum())
        return {str(row["label"]): self._say(row, tests) for row in self.table.to_dict("records")}

    def _say(self, row: Mapping[Any, Any], tests: int) -> str:
        label, at = row["label"], f"at {self.axis.format(row['size'])}"
        if row["verdict"] == "no test":
            return f"{label}: no test {at} ({row['reason']})"
        ends = [row["low"], row["high"]]
        unit = "" if row["unit"] == "share" else ", as shares of its spread,"
        proof = f"({format_p(row['p_holm'])}, Holm over {tests} series)"
        between = f"by {_percent(min(ends))} to {_percent(max(ends))} %{unit.rstrip(',')}"
        if row["verdict"] == "flat":
            return (
                f"{label} is flat {at}: a doubling changes {self.measure.name} {between}, within "
                f"±{_percent(self.margin)} %"
            )
        if row["verdict"] == "not settled":
            return (
                f"{label}: whether it still changes {at} is not settled: a doubling changes {self.measure.name} "
                f"{between} {proof}"
            )
        sizes = sorted(map(abs, ends))
        way = "lower" if row["change"] < 0 else "higher"
        still = "still improves" if row["verdict"] == "improves" else "worsens"
        return (
            f"{label} {still} {at}: {_percent(abs(row['change']))} % ({_percent(sizes[0])} to {_percent(sizes[1])} %) "
            f"{way} {self.measure.name}{unit} for each doubling {proof}"
        )

    def __str__(self) -> str:
        return "\n".join(self.describe().values())


def judge_slopes(
    table: pd.DataFrame,
    target: str,
    *,
    by: str = "label",
    size: str = "data_unique",
    cluster: str = "seed",
    lower_is_better: bool = True,
    margin: float = 0.01,
    last: int = 3,
    known: Iterable[MetricFacts] = (),
) -> Slopes:
    """Returns which series still improve with size, which are flat, and which cannot be told.

    The change is a share of the value where all values are positive (the slope of log target), else it is in units of
    the target's spread. Of accuracy, R² and the like, of which 1 is the best, it is the change of what they lack to 1.
    A series whose 95 % interval lies within the margin is flat, whatever its p; of the others, those with a corrected p
    of at most 0.05 improve or worsen. P-values are corrected for the number of series (Holm), intervals are not.

    Args:
      table: Rows in the contract's columns; only usable rows count (`table.select_rows`).
      target: What may change.
      by: Column that names the series.
      size: Column of sizes: m, or another that is spent.
      cluster: Column of seeds.
      lower_is_better: True for loss and error, False for accuracy.
      margin: The change for each doubling, as a share, within which a series counts as flat.
      last: How many of the largest sizes count, 2 or more; of one seed at least 4 do.
      known: Metrics beside those of the package.

    Raises:
      AnalysisError: on a missing column, several rows for one series, size and seed, a size that is not positive, or a
        margin or number of sizes out of range.
    """
    import pandas as pd

    from analysis.decisions.compare import pick_rows

    if not 0 < margin < 1:
        raise AnalysisError(f"margin={margin} must be above 0 and below 1; 0.01 is a change of 1 % for each doubling")
    if last < 2:
        raise AnalysisError(f"last={last} must be at least 2; a slope needs two sizes")
    rows, measure = (
        pick_rows(table, target, by, size, cluster),
        read_measure(target, known, lower_is_better=lower_is_better),
    )
    if (rows[size] <= 0).any():
        raise AnalysisError(f"{size}={rows[size].min():g} must be positive, as doublings need; drop it with --keep")
    values = np.asarray(measure.convert(rows[target].to_numpy(dtype=float)))
    spread = float(values.std()) or 1.0
    rows = rows.assign(y=values, x=np.log2(rows[size].to_numpy(dtype=float)))
    found = []
    for label in dict.fromkeys(rows[by]):
        own = rows[rows[by] == label]
        grid, largest = own.pivot(index=cluster, columns="x", values="y"), own[size].max()
        is_relative = bool((grid.stack() > 0).all())
        scaled = np.log(grid) if is_relative else grid / spread
        unit = "share" if is_relative else "spread"
        found.append((label, float(largest), unit, *_measure_slope(scaled, last, is_relative)))
    slopes = pd.DataFrame(found, columns=FOUND)
    slopes["p_holm"] = correct_holm(slopes["p"].to_numpy(dtype=float))
    sign = 1.0 if measure.falls else -1.0
    slopes["verdict"] = [
        _judge(sign * row["change"], row["low"], row["high"], row["p_holm"], margin, bool(row["reason"]))
        for row in slopes.to_dict("records")
    ]
    units = {str(unit) for unit in rows["data_unit"].dropna()} if "data_unit" in rows.columns else set()
    return Slopes(slopes[COLUMNS], measure, read_axis(size, read_unit(units)), margin, spread)


def _measure_slope(grid: pd.DataFrame, last: int, is_relative: bool) -> tuple[Any, ...]:
    """Returns `sizes seeds method change low high p reason` of one series: rows are seeds, columns log2 of sizes."""
    nothing = (np.nan,) * 4
    if grid.shape[1] < 2:
        return grid.shape[1], len(grid), "none", *nothing, "one size only; run more"
    near = grid.iloc[:, -last:]
    whole = near.dropna()
    if len(whole) >= 2:
        x = near.columns.to_numpy(dtype=float)
        each = whole.to_numpy() @ ((x - x.mean()) / ((x - x.mean()) ** 2).sum())
        return (
            near.shape[1],
            len(each),
            "seeds",
            *_interval(float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))), len(each) - 1, is_relative),
            "",
        )
    near = grid.iloc[:, -max(last, MIN_SIZES) :]
    points = near.stack()
    x, y = points.index.get_level_values("x").to_numpy(dtype=float), points.to_numpy(dtype=float)
    if near.shape[1] < MIN_SIZES:
        reason = f"no two seeds at its last sizes, and {near.shape[1]} sizes; run 2 seeds, or {MIN_SIZES} sizes"
        return near.shape[1], len(near), "none", *nothing, reason
    away, freedom = x - x.mean(), len(x) - 2
    slope = float((away * y).sum() / (away**2).sum())
    rest = y - y.mean() - slope * away
    error = float(np.sqrt((rest**2).sum() / freedom / (away**2).sum()))
    return near.shape[1], len(near.dropna(how="all")), "residuals", *_interval(slope, error, freedom, is_relative), ""


def _interval(slope: float, error: float, freedom: int, is_relative: bool) -> tuple[float, float, float, float]:
    """Returns change, its 95 % interval and its p, of a slope with its standard error."""
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, 0.975)) * error
    ends: Array = np.array([slope, slope - reach, slope + reach])
    with np.errstate(over="ignore"):
        change, low, high = (np.expm1(ends) if is_relative else ends).tolist()
    return change, low, high, find_p(slope, error, freedom)


def _judge(worse: float, low: float, high: float, p: float, margin: float, has_no_test: bool) -> str:
    if has_no_test:
        return "no test"
    if -margin <= low and high <= margin:
        return "flat"
    if not p <= LEVEL:
        return "not settled"
    return "improves" if worse < 0 else "worsens"


def _percent(share: float) -> str:
    """Returns a share in per cent, with as many digits as say something.

    >>> _percent(0.1234), _percent(-0.0041), _percent(0.0)
    ('12', '-0.41', '0')
    """
    return f"{100 * share:.2g}" if abs(share) < 0.995 else f"{100 * share:.3g}"
