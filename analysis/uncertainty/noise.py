"""How noisy runs are, measured from repeated seeds and from the evaluation set's size, and the weights that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import AnalysisError
from analysis.laws.law import Array
from analysis.tables.table import select_rows

if TYPE_CHECKING:
    import pandas as pd

MIN_PAIRS = 3  # degrees of freedom below which a spread is a guess
FRACTIONS = ("error", "accuracy")  # metrics that are shares of the evaluation examples


@dataclass(frozen=True)
class Noise:
    """Two levels of noise, in log y.

    Attributes:
      run_sd: Standard deviation between runs that differ in seed alone, at the middle of the sizes, without what the
        evaluation adds.
      slope: How log run_sd changes with log size; 0 where the spread is even, -0.5 where it falls as size^-1/2.
      middle: The size (geometric mean) at which `run_sd` holds.
      size: The column of sizes.
      freedom: Degrees of freedom of `run_sd`.
      evaluation_sd: Median standard deviation from the finite evaluation set; 0 where that is unknown.
    """

    run_sd: float
    slope: float
    middle: float
    size: str
    freedom: int
    evaluation_sd: float

    def run_sd_at(self, sizes: Array) -> Array:
        """Returns the run noise (standard deviation of log y) at sizes `[n]`."""
        return self.run_sd * (np.asarray(sizes, dtype=np.float64) / self.middle) ** self.slope


def measure_noise(
    table: pd.DataFrame,
    target: str,
    *,
    within: Sequence[str] = ("label", "num_params", "data_seen", "data_unique"),
    size: str | None = None,
    evaluation_size: int | None = None,
) -> Noise:
    """Returns the noise of runs, pooled over groups of rows that differ in seed alone.

    The variance between seeds holds the evaluation's too, which is subtracted where it is known. Its trend over sizes
    is a line in logarithms, kept when it is more than twice its standard error.

    Args:
      table: Rows with repeated seeds.
      target: The column; positive.
      within: Columns that are equal among repeats; those that are missing are ignored.
      size: Column over which the noise may change; by default the first of data_unique, data_seen, num_params.
      evaluation_size: Examples of the evaluation set, for `error` and `accuracy`: variance p (1 - p) / n.

    Raises:
      AnalysisError: if a column is missing, or fewer than 3 degrees of freedom repeat.

    >>> import pandas as pd
    >>> y = np.exp([0.01, -0.01, 0.02, -0.02, 0.01, -0.01])
    >>> table = pd.DataFrame({"data_unique": [1, 1, 10, 10, 100, 100], "loss": y})
    >>> round(measure_noise(table, "loss").run_sd, 4)
    0.02
    """
    names = [name for name in within if name in table.columns and table[name].notna().any()]
    size = size or next((name for name in ("data_unique", "data_seen", "num_params") if name in names), None)
    if size is None:
        raise AnalysisError("size=None: the table has none of data_unique, data_seen and num_params; name the column")
    rows, _, _ = select_rows(table, [size, target], positive=[size, target])
    log_y = np.log(rows[target].to_numpy(dtype=float))
    groups = rows.groupby([*names] if names else [size], dropna=False, sort=False).ngroup().to_numpy()
    count = np.bincount(groups)
    mean = np.bincount(groups, log_y) / count
    squares = np.bincount(groups, (log_y - mean[groups]) ** 2)
    freedom = count - 1
    total = int(freedom.sum())
    if total < MIN_PAIRS:
        raise AnalysisError(
            f"seeds repeat with {total} degrees of freedom, at least {MIN_PAIRS} are needed to measure noise; run more "
            "seeds, or give weights of your own"
        )
    sizes = np.exp(np.bincount(groups, np.log(rows[size].to_numpy(dtype=float))) / count)
    evaluation = evaluation_variance(rows[target].to_numpy(dtype=float), target, evaluation_size)
    repeated = freedom > 0
    variance = squares[repeated] / freedom[repeated]
    middle = float(np.exp(np.average(np.log(sizes[repeated]), weights=freedom[repeated])))
    slope = _find_slope(np.log(sizes[repeated] / middle), variance, freedom[repeated])
    shrunk = variance * (sizes[repeated] / middle) ** (-2 * slope)
    inside = float(np.average(evaluation[np.isin(groups, np.flatnonzero(repeated))])) if evaluation_size else 0.0
    pooled = float(np.average(shrunk, weights=freedom[repeated])) - inside
    return Noise(
        run_sd=float(np.sqrt(max(pooled, 0.0))),
        slope=slope,
        middle=middle,
        size=size,
        freedom=total,
        evaluation_sd=float(np.sqrt(np.median(evaluation))),
    )


def evaluation_variance(y: Array, target: str, evaluation_size: int | None) -> Array:
    """Returns the variance of log y that a finite evaluation set adds: (1 - p) / (p n) for a share p; 0 if unknown.

    >>> evaluation_variance(np.array([0.2]), "error", 1000).tolist()
    [0.004]
    """
    if evaluation_size is None:
        return np.zeros(len(y))
    if target not in FRACTIONS:
        raise AnalysisError(
            f"evaluation_size={evaluation_size} gives the noise of {' and '.join(FRACTIONS)}, not of {target!r}; leave "
            "it out, or give weights of your own"
        )
    share = np.clip(y, 0.5 / evaluation_size, 1 - 0.5 / evaluation_size)
    return (1 - share) / (share * evaluation_size)


def weigh_rows(rows: pd.DataFrame, target: str, noise: Noise, *, evaluation_size: int | None = None) -> Array:
    """Returns weights `[n]`, 1 / (run variance + evaluation variance), with mean 1.

    Raises:
      AnalysisError: if all noise is 0, which weighs nothing.
    """
    run = noise.run_sd_at(rows[noise.size].to_numpy(dtype=float)) ** 2
    variance = run + evaluation_variance(rows[target].to_numpy(dtype=float), target, evaluation_size)
    if not (variance > 0).all():
        raise AnalysisError("weights=noise: repeated runs are identical, so that their noise is 0; leave weights out")
    weights = 1 / variance
    return weights / weights.mean()


def _find_slope(log_sizes: Array, variance: Array, freedom: Array) -> float:
    """Returns the slope of log sd on log size, or 0 where it is within two standard errors of 0.

    The logarithm of a variance with f degrees of freedom has a variance of about 2/f.
    """
    usable = variance > 0
    if usable.sum() < MIN_PAIRS or np.ptp(log_sizes[usable]) == 0:
        return 0.0
    x, w = log_sizes[usable], freedom[usable] / 2
    centred = x - np.average(x, weights=w)
    spread = float((w * centred**2).sum())
    slope = float((w * centred * np.log(variance[usable])).sum()) / spread
    return slope / 2 if abs(slope) > 2 / np.sqrt(spread) else 0.0
