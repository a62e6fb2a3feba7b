"""How the best setting grows with size: a power law through the optima of sweeps, in one column or in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.optimum import Estimate, estimate
from analysis.errors import AnalysisError
from analysis.fit_table import format_estimate
from analysis.fitting.notices import COLLINEAR, MIN_LEVELS, Notice
from analysis.laws.law import Array
from analysis.uncertainty.resampling import stretch

if TYPE_CHECKING:
    import pandas as pd

FEW = 5  # points of a trend below which one that is off moves the exponent, as for isoFLOP budgets
FLOOR = 0.33  # least spread of an optimum, in spacings of its settings: no grid says more (Porian et al., 2406.19146)
MANY = 0.1  # share of optima left out above which what is left is a selection
SURE = 0.95  # of the chi-square distribution: above, optima scatter about the trend more than they are uncertain


OF_TRENDS = ("few_sizes", "edges_left_out", "collinear", "scatter")  # codes of what is said of trends alone


@dataclass(frozen=True)
class SettingTrend:
    """A power law of the best setting: best = k x_1^e_1 x_2^e_2 and so on.

    Attributes:
      setting: The column.
      where: Values of the columns that the trend is not of, such as a label.
      exponents: e by column.
      log_factor: log k.
      scatter: Standard deviation of log best about the trend, corrected for its parameters; NaN where all were needed.
      count: Optima that it goes through.
      ranges: Smallest and largest value of each column.
      source: What the intervals come from: `optima` (their resamples), `scatter` about the trend, or nothing.
      draws: Resamples `[R, 1 + v]` of (log k, e_1, …).
    """

    setting: str
    where: Mapping[str, Any]
    exponents: Mapping[str, Estimate]
    log_factor: float
    scatter: float
    count: int
    ranges: Mapping[str, tuple[float, float]]
    source: str
    draws: Array = field(repr=False)

    def at(self, **values: float) -> Estimate:
        """Returns the best setting at a size, with the interval of the trend (not of one more optimum about it).

        Raises:
          AnalysisError: if the trend is of other columns.
        """
        if set(values) != set(self.exponents):
            raise AnalysisError(
                f"at={values!r} must give {', '.join(self.exponents)}, which the trend is of; no others"
            )
        x = np.array([1.0, *(np.log(values[name]) for name in self.exponents)])
        middle = self.log_factor + sum(e.value * z for e, z in zip(self.exponents.values(), x[1:], strict=True))
        return estimate(float(np.exp(middle)), np.exp(self.draws @ x))

    def __str__(self) -> str:
        parts = [f"{self.setting} = {np.exp(self.log_factor):.3g}"]
        for name, exponent in self.exponents.items():
            value, interval = format_estimate(exponent.value, exponent.low, exponent.high)
            parts.append(f"{name}^{value}" + ("" if exponent.low is None else f" ({interval})"))
        where = ", ".join(f"{name}={value}" for name, value in self.where.items())
        return (f"{where}: " if where else "") + " ".join(parts) + f"   ({self.count} optima)"


def fit_setting_trend(
    points: pd.DataFrame, setting: str, columns: Sequence[str], where: Mapping[str, Any], draws: Array, seed: int
) -> tuple[SettingTrend | None, list[Notice]]:
    """Returns the power law through optima by least squares of logarithms, and what is wrong with it.

    Optima whose resamples all say how uncertain they are, are weighted by that, but none by more than its grid can
    tell. The interval comes from these resamples, or where the optima scatter about the trend by more than they
    explain, or some have none, from that scatter.

    Args:
      points: Optima, of which those inside their settings count: `best`, `is_edge`, `spacing` and the columns.
      setting: What they are of.
      columns: Positive columns.
      where: As the trend has it.
      draws: Log of the best setting in resamples `[R, G]`, infinite beyond the settings tried; a column of NaN where
        an optimum has none.
      seed: Of the resamples from scatter.
    """
    name = ", ".join(f"{key}={value}" for key, value in where.items())
    head = (f"{name}: " if name else "") + "the trend of " + setting
    inside = ~points["is_edge"].to_numpy(dtype=bool)
    rows, draws, notices = points[inside], draws[:, inside], []
    if left := int((~inside).sum()):
        notices.append(describe_edges(head, left, len(points)))
    kept = [column for column in columns if rows[column].nunique() >= MIN_LEVELS]
    for column in list(kept):
        before = kept[: kept.index(column)]
        if before and _correlate(rows, before, column) > COLLINEAR:
            text = (
                f"{head}: {column} moves with {' and '.join(before)}, and their exponents cannot be told apart: the "
                f"trend is without {column}, along this path; vary it by itself"
            )
            notices.append(Notice(code="collinear", text=text))
            kept.remove(column)
    if not kept or len(rows) < len(kept) + 2:
        text = f"{head} needs {MIN_LEVELS} sizes with a best setting inside those tried, and has {len(rows)}; add some"
        return None, [*notices, Notice(code="few_sizes", text=text, is_weak=True)]
    if len(rows) < FEW:
        text = f"{head} goes through {len(rows)} optima: one that is off moves the exponent; run at least {FEW} sizes"
        notices.append(Notice(code="few_sizes", text=text))
    x = np.stack([np.ones(len(rows)), *(np.log(rows[column].to_numpy(dtype=float)) for column in kept)], axis=1)
    y, freedom = np.log(rows["best"].to_numpy(dtype=float)), len(rows) - x.shape[1]
    low, high = (np.log(rows[end].to_numpy(dtype=float)) for end in ("tried_low", "tried_high"))
    drawn, is_known = np.clip(draws, low, high), bool(len(draws)) and not np.isnan(draws).any()
    weight = np.ones(len(y))
    if is_known:
        floor = FLOOR * np.log(rows["spacing"].to_numpy(dtype=float))
        weight = 1 / np.maximum(drawn.std(axis=0), floor) ** 2
    # centred, since log N is far from 0 where the factor k is
    root, centre = np.sqrt(weight)[:, None], np.r_[0.0, np.average(x[:, 1:], axis=0, weights=weight)]
    solve = np.linalg.pinv(root * (x - centre)) * root[:, 0]
    beta = solve @ y
    rest = weight * (y - (x - centre) @ beta) ** 2
    scatter = float(np.sqrt(rest.sum() / freedom / weight.mean()))
    lines, source = drawn @ solve.T, "optima"
    excess = rest.sum() > _chi_square(freedom)
    if not is_known or excess:
        source = "scatter" if len(draws) else ""
        if is_known:
            text = (
                f"{head}: optima scatter about it by more than they are uncertain ({scatter:.0%} each), and its "
                "intervals are as wide as that; look for a column that it lacks, or sweep more finely"
            )
            notices.append(Notice(code="scatter", text=text))
        rng = np.random.default_rng(seed)
        shape = np.linalg.cholesky(np.linalg.inv((x - centre).T @ (weight[:, None] * (x - centre))))
        scale = np.sqrt(rest.sum() / freedom) * stretch(rng.random(len(draws)), freedom)
        lines = beta + scale[:, None] * (rng.standard_normal((len(draws), len(beta))) @ shape.T)
    for line in (beta, *lines):
        line[0] -= line[1:] @ centre[1:]
    exponents = {column: estimate(float(beta[place]), lines[:, place]) for place, column in enumerate(kept, start=1)}
    ranges = {column: (float(rows[column].min()), float(rows[column].max())) for column in kept}
    trend = SettingTrend(setting, where, exponents, float(beta[0]), scatter, len(rows), ranges, source, lines)
    return trend, notices


def _correlate(rows: pd.DataFrame, before: Sequence[str], column: str) -> float:
    """Returns the multiple correlation of the logarithm of a column with those of others."""
    x = np.log(rows[[*before, column]].to_numpy(dtype=float))
    x -= x.mean(axis=0)
    rest = x[:, -1] - x[:, :-1] @ np.linalg.lstsq(x[:, :-1], x[:, -1], rcond=None)[0]
    return float(np.sqrt(max(0.0, 1 - (rest**2).sum() / (x[:, -1] ** 2).sum())))


def describe_edges(head: str, left: int, count: int) -> Notice:
    """Returns the notice of optima that a trend or a fit leaves out, which is weak where they are many."""
    text = f"{head} leaves out {left} of {count} optima that are not inside the settings tried: "
    if is_weak := left > MANY * count:
        text += "left out for their value, they bend the exponents; "
    return Notice(code="edges_left_out", text=text + "widen those sweeps", is_weak=is_weak)


def _chi_square(freedom: int) -> float:
    """Returns what a sum of squares stays below by chance."""
    from scipy.special import chdtri

    return float(chdtri(freedom, 1 - SURE))
