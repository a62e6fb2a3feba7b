"""Chinchilla's second approach: the size with the lowest loss at each budget, from a curve through its isoFLOP profile.

A parabola, as published, is biased even without noise when the two exponents of the loss differ, by more the wider the
sizes are spread; a cubic is hardly biased and is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.decisions.optimum import estimate
from analysis.decisions.trends import Trend, check_exponents, fit_trend, show_lines
from analysis.decisions.uneven import UNEVEN, find_moves, measure_spread
from analysis.decisions.valleys import DEGREES, Curve, Valley, check_share, check_valley, draw_valley, locate
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice
from analysis.laws.law import Array
from scaling.specs.fits import RESAMPLES

if TYPE_CHECKING:
    import pandas as pd

Tolerance = float | Literal["auto"]
Weigh = Literal["equal", "spread"]

FLOOR = 0.33  # least spread of a vertex, in spacings of the sizes: no grid says more of where its minimum is (ibid.)
MIN_BUDGETS = 5  # SCIENCE: below, one budget off its line moves the exponent
TOLERANCES = (0.1, 0.25, 0.5)  # within which budgets are one, where `auto` chooses
MIN_SIZES = 4  # of a profile that `auto` wants: a cubic needs them
NAMED = 6  # budgets that a notice names; `valleys` has all


@dataclass(frozen=True)
class IsoFlops:
    """The optima of isoFLOP profiles and how they grow with compute; prints as a table.

    Attributes:
      curve: What was put through each profile.
      points: A row for each budget that counts: `train_flops num_params low high data_seen loss sizes share`, with the
        95 % interval of the size and the share of resamples in which its minimum was inside.
      valleys: Every budget, those too that do not count.
      size: N* against C.
      data: D* against C.
      warnings: Coded warnings with remedies.
    """

    curve: Curve
    points: pd.DataFrame
    valleys: tuple[Valley, ...] = field(repr=False)
    size: Trend
    data: Trend
    warnings: tuple[Notice, ...]

    @property
    def skipped(self) -> dict[float, str]:
        """Returns why a budget does not count, by its FLOPs."""
        return {item.train_flops: str(item.skip) for item in self.valleys if item.skip is not None}

    def to_frame(self) -> pd.DataFrame:
        """Returns `points`."""
        return self.points

    def __str__(self) -> str:
        head = f"isoFLOP profiles ({self.curve}): {show_lines(self.size.exponent, self.data.exponent)}"
        table = self.points.to_string(index=False, float_format=lambda value: f"{value:.5g}")
        return "\n".join([head, table, *map(str, self.warnings)])


def fit_isoflops(
    table: pd.DataFrame,
    *,
    curve: Curve = "cubic",
    target: str = "loss",
    log_target: bool = False,
    tolerance: Tolerance = "auto",
    budget: str | None = None,
    move: bool = True,
    weights: str | None = None,
    noise: float | str | None = None,
    weigh: Weigh = "equal",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> IsoFlops:
    """Returns the minimum of every isoFLOP profile, and the power laws of N* and D* through them.

    A budget counts only if its minimum is bracketed: the lowest point, and the lowest place of the curve, lie between
    the smallest and the largest size. Resamples go through both stages: points are drawn again within each budget (or
    noise is added to all of them), minima sought again, and lines fitted through what they give.

    Args:
      table: Rows with `train_flops`, `num_params`, `data_seen` and the target; of runs, their final ones count.
      curve: `cubic`, `parabola` (for comparison with published numbers) or `akima`, in log N.
      target: What to minimise.
      log_target: Whether the curve describes its logarithm.
      tolerance: Budgets within this share of the smallest of them are one; `auto` as `choose_tolerance` says.
      budget: A column that names each run's budget, in place of a tolerance.
      move: Whether losses are moved to the mean FLOPs of a budget whose runs differ by more than 2 %, as `find_moves`
        says. Intervals take the slope of these moves as known.
      weights: A column of weights of the points.
      noise: Standard deviation of log target, a number or a column: resamples then add it instead of drawing points.
      weigh: In the lines: every budget alike, or by the inverse variance of its size over the resamples.
      resamples: R.
      seed: Of the resamples.

    Raises:
      AnalysisError: on unknown names, missing columns, or fewer than two budgets with a minimum inside; for a look at
        such a table, `find_valleys`.
    """
    _check_weigh(weigh)
    valleys = find_valleys(
        table, curve=curve, target=target, log_target=log_target, tolerance=tolerance, budget=budget, move=move,
        weights=weights, noise=noise, resamples=resamples, seed=seed,
    )  # fmt: skip
    return fit_valleys(valleys, weigh=weigh)


def find_valleys(
    table: pd.DataFrame,
    *,
    curve: Curve = "cubic",
    target: str = "loss",
    log_target: bool = False,
    tolerance: Tolerance = "auto",
    budget: str | None = None,
    move: bool = True,
    weights: str | None = None,
    noise: float | str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Valley, ...]:
    """Returns every budget of a table with its curve and its minimum, in ascending order; those that do not count too.

    Arguments are those of `fit_isoflops`. No profile is too poor for this: its valley says in `skip` why it does not
    count.

    Raises:
      AnalysisError: on unknown names, missing columns, or rows that name no budget.
    """
    from analysis.tables.table import read_numbers, select_rows

    if curve not in DEGREES:
        raise suggest_name("curve", curve, DEGREES)
    if isinstance(tolerance, str):
        if tolerance != "auto":
            raise suggest_name("tolerance", tolerance, ("auto",))
    elif not 0 <= tolerance < 1:
        raise AnalysisError(f"tolerance={tolerance:g} must be at least 0 and below 1; 0.1 joins budgets within 10 %")
    if resamples < 0:
        raise AnalysisError(f"resamples={resamples} must not be negative; 1000 give 95 % intervals")
    needed = ["train_flops", "num_params", "data_seen", target]
    extra = [name for name in (weights, noise) if isinstance(name, str)]
    rows, _, _ = select_rows(table, [*needed, *extra], positive=needed)
    C, N, D, y = (read_numbers(rows, name) for name in needed)
    w = np.ones(len(rows)) if weights is None else read_numbers(rows, weights)
    sd = None if noise is None else read_numbers(rows, noise) if isinstance(noise, str) else np.full(len(rows), noise)
    if budget is not None:
        groups = _group_names(rows, budget, C)
    else:
        groups = group_budgets(C, choose_tolerance(C, N) if isinstance(tolerance, str) else tolerance)
    moves = find_moves(C, N, y, w, groups) if move else None
    rng, valleys = np.random.default_rng(seed), []
    for here in groups:
        log_c, x, log_y, log_d = np.log(C[here]), np.log(N[here]), np.log(y[here]), np.log(D[here])
        flops, spread = float(np.exp(log_c.mean())), measure_spread(C[here])
        is_moved = moves is not None and spread > UNEVEN
        if moves is not None and is_moved:
            log_y, log_d = log_y + moves[here], log_d - (log_c - log_c.mean())  # at one size D is proportional to C
        skip, found, share = check_valley(x, log_y, curve), None, 0.0
        if skip is None:
            found = locate(x, log_y, w[here], None if sd is None else sd[here], curve, log_target, resamples, rng)
            share = float(np.isfinite(found[0][1:]).mean()) if resamples else 1.0
            skip = found[2] or check_share(share)
        values = np.exp(log_y) if is_moved else y[here]
        item = draw_valley(flops, x, values, w[here], curve, log_target, None if found is None else found[0], skip)
        item = replace(item, spread=spread, is_moved=is_moved)
        if found is not None and np.isfinite(found[0][0]):
            slope, level = np.polyfit(x, log_d, 1)  # exact where C = 6 N D
            item = replace(
                item, loss=found[1], share=share, spacing=float(np.diff(np.unique(x)).mean()), minima=found[0],
                log_data=level + slope * found[0],
            )  # fmt: skip
        valleys.append(item)
    return tuple(valleys)


def fit_valleys(valleys: Sequence[Valley], *, weigh: Weigh = "equal") -> IsoFlops:
    """Returns the power laws of N* and D* through the minima of the valleys that count.

    Raises:
      AnalysisError: on an unknown way to weigh them, or fewer than two that count.
    """
    import pandas as pd

    _check_weigh(weigh)
    kept, notices = [item for item in valleys if item.skip is None], _tell_skipped(valleys)
    if len(kept) < 2:
        reasons = "; ".join(notice.text for notice in notices) or "there are no others"
        raise AnalysisError(
            f"train_flops has {len(valleys)} budgets of which {len(kept)} have a minimum inside their sizes, and a "
            f"line needs 2 ({reasons}); run more sizes at each budget"
        )
    log_n, log_d = (np.stack([getattr(item, name) for item in kept], axis=1) for name in ("minima", "log_data"))
    by_spread = None
    if weigh == "spread" and len(log_n) > 1:
        by_spread = np.maximum(np.nanstd(log_n[1:], axis=0), FLOOR * np.array([item.spacing for item in kept]))
    notices += _tell_uneven(kept)
    if len(kept) < MIN_BUDGETS:
        text = (
            f"{len(kept)} budgets carry the line{', which leaves no residual' if len(kept) == 2 else ''}: one that is "
            f"off moves the exponent; run at least {MIN_BUDGETS} over two decades"
        )
        notices.append(Notice(code="few_budgets", text=text, is_weak=len(kept) < 3))
    budgets = [item.train_flops for item in kept]
    ends = [estimate(np.exp(item.minima[0]), np.exp(item.minima[1:])) for item in kept]
    points = pd.DataFrame(
        {
            "train_flops": budgets,
            "num_params": np.exp(log_n[0]),
            "low": [end.low for end in ends],
            "high": [end.high for end in ends],
            "data_seen": np.exp(log_d[0]),
            "loss": [item.loss for item in kept],
            "sizes": [len(item.sizes) for item in kept],
            "share": [item.share for item in kept],
        }
    ).astype({"low": float, "high": float})
    size, growth = (fit_trend(budgets, np.exp(log), sd=by_spread) for log in (log_n, log_d))
    notices += check_exponents(size.exponent, growth.exponent)
    return IsoFlops(kept[0].shape, points, tuple(valleys), size, growth, tuple(notices))


def choose_tolerance(flops: Array, sizes: Array) -> float:
    """Returns within which share of the smallest budgets are one, by the sizes that come into profiles of 4 or more.

    A quarter, since a study's budgets lie further apart than that and splitting one only makes short profiles; a tenth
    where that brings more sizes into profiles, as of budgets that share their sizes; a half where that brings in more
    and makes no fewer profiles.

    >>> choose_tolerance(np.geomspace(1e9, 1.24e9, 9), np.arange(9))
    0.25
    >>> choose_tolerance(np.array([1e9, 1.2e9, 1.3e9, 1.1e9]), np.array([1, 2, 3, 4]))
    0.5
    >>> choose_tolerance(np.repeat([1e9, 1.2e9], 4), np.tile([1, 2, 3, 4], 2))
    0.1
    """

    def measure(tolerance: float) -> tuple[int, int]:
        counts = [len(np.unique(sizes[places])) for places in group_budgets(flops, tolerance)]
        long = [count for count in counts if count >= MIN_SIZES]
        return len(long), sum(long)

    narrow, middle, wide = TOLERANCES
    best = middle if measure(middle)[1] >= measure(narrow)[1] else narrow
    (profiles, covered), (wide_profiles, wide_covered) = measure(best), measure(wide)
    return wide if wide_covered > covered and wide_profiles >= profiles else best


def group_budgets(flops: Array, tolerance: float) -> list[Array]:
    """Returns the places of each budget's points, in ascending order of the budgets.

    >>> [places.tolist() for places in group_budgets(np.array([1e19, 1.05e18, 1e18]), 0.1)]
    [[2, 1], [0]]
    """
    groups: list[list[int]] = []
    for place in np.argsort(flops, kind="stable"):
        if groups and flops[place] <= flops[groups[-1][0]] * (1 + tolerance):
            groups[-1].append(int(place))
        else:
            groups.append([int(place)])
    return [np.array(group) for group in groups]


def _group_names(rows: pd.DataFrame, budget: str, flops: Array) -> list[Array]:
    """Returns as `group_budgets` by the names of budgets in a column."""
    if budget not in rows.columns:
        raise suggest_name("budget", budget, rows.columns)
    if lost := int(rows[budget].isna().sum()):
        raise AnalysisError(f"budget={budget!r} names none in {lost} rows; fill it in, or leave these rows out")
    codes = rows[budget].factorize()[0]
    groups = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)] if len(codes) else []
    return sorted(groups, key=lambda places: float(np.log(flops[places]).mean()))


def _check_weigh(weigh: str) -> None:
    if weigh not in ("equal", "spread"):
        raise suggest_name("weigh", weigh, ("equal", "spread"))


def _tell_uneven(kept: Sequence[Valley]) -> list[Notice]:
    """Returns a notice of the budgets whose runs differ in FLOPs: those that were moved, and others."""
    notices = []
    for is_moved in (True, False):
        items = [item for item in kept if item.spread > UNEVEN and item.is_moved == is_moved]
        if not items:
            continue
        differ = f"{max(item.spread for item in items):.0%} in FLOPs{' at most' if len(items) > 1 else ''}"
        remedy = (
            "and their losses were moved to the budget's mean along the slope in FLOPs; run equal budgets"
            if is_moved
            else "and their losses for that too; give a smaller tolerance, or run equal budgets"
        )
        text = f"runs of {_name_budgets([item.train_flops for item in items])} differ by {differ}, {remedy}"
        notices.append(Notice(code="uneven_budget", text=text))
    return notices


def _tell_skipped(valleys: Sequence[Valley]) -> list[Notice]:
    """Returns a notice for each way in which budgets do not count."""
    groups: dict[tuple[str, str, str], list[Valley]] = {}
    for item in valleys:
        if item.skip is not None:
            groups.setdefault((item.skip.code, item.skip.any, item.skip.remedy), []).append(item)
    notices = []
    for (code, some, remedy), items in groups.items():
        named, many = _name_budgets([item.train_flops for item in items]), len(items) > 1
        says = f"do not count: {some}; {remedy}" if many else f"does not count: {items[0].skip}"
        text = f"{named} {says}"
        notices.append(Notice(code=code, text=text))
    return notices


def _name_budgets(budgets: Sequence[float]) -> str:
    if len(budgets) == 1:
        return f"budget {budgets[0]:.4g}"
    named = [f"{flops:.3g}" for flops in budgets[:NAMED]]
    rest = f" and {len(budgets) - NAMED} more" if len(budgets) > NAMED else ""
    return f"{len(budgets)} budgets ({', '.join(named)}{rest})"
