"""The best learning rate, batch or depth at each size of a sweep, and the power law that follows.

Laws of best settings (`step_law_lr`, `deepseek_batch`, …) are fitted to these optima and never to the runs of a sweep,
whose settings were chosen by whoever ran it: `find_best_settings(table, "peak_lr", by=…).fit("step_law_lr")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.optimum import estimate
from analysis.decisions.parabolas import REACH, Sweep, find_lowest
from analysis.decisions.setting_trends import OF_TRENDS, SettingTrend, describe_edges, fit_setting_trend
from analysis.decisions.sweep_runs import choose_profile, describe_points, pick, select_runs, show
from analysis.errors import AnalysisError, suggest_name
from analysis.fit_table import fit, format_estimate
from analysis.fitting.notices import MIN_LEVELS, Notice
from analysis.laws.law import Array, Law
from analysis.tables.sweeps import is_numeric, number_points
from scaling.specs.fits import RESAMPLES
from scaling.specs.metrics import is_lower_better
from scaling.store.columns import CONVENTION

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit


@dataclass(frozen=True)
class BestSettings:
    """The best value of one setting at each size; prints as a table.

    Attributes:
      setting: The column that was swept.
      by: Columns whose values make a group each.
      target: What is lowest there, or highest.
      profile: Columns swept beside the setting: each setting counts with the best of theirs.
      is_log: Whether the parabola is of log target; it is of the target where that reaches 0.
      lower_is_better: Whether the target is to be low.
      points: A row for each group: `by`, `best low high` (the setting and its 95 % interval; infinite or 0 at an end
        that the settings tried do not bound), the target there, `settings` (their number), `runs`, `diverged` (runs
        that are not among them), `is_edge` (whether the best is only the best of those tried), `note` (why, as a code),
        `tried_low tried_high spacing` (of the settings, as a factor), `bend` (of the parabola, in the logarithm of the
        setting), `cost_of_2x` (how much worse the target is a factor of two off: as a share of it where `is_log`), and
        the values of `profile` at the best setting tried.
      sweeps: The settings tried: `by`, setting, target (mean, geometric where `is_log`) and whether the parabola saw
        it (`used`).
      trends: Power laws of the best setting in the numeric columns of `by`; one for each value of the others.
      notices: Coded, with remedies.
      left_out: Runs that do not count, by reason.
      draws: Log of the best setting in resamples `[R, G]`; NaN in a group that has none.
    """

    setting: str
    by: tuple[str, ...]
    target: str
    profile: tuple[str, ...]
    is_log: bool
    lower_is_better: bool
    points: pd.DataFrame
    sweeps: pd.DataFrame
    trends: tuple[SettingTrend, ...]
    notices: tuple[Notice, ...]
    left_out: Mapping[str, int]
    curves: tuple[Sweep, ...] = field(repr=False)
    draws: Array = field(repr=False)

    @property
    def trend(self) -> SettingTrend | None:
        """Returns the power law, where there is one and no more."""
        return self.trends[0] if len(self.trends) == 1 else None

    def curve(self, group: int) -> tuple[Array, Array] | None:
        """Returns the parabola of a row of `points` to draw: settings, over its points, and the target; or None."""
        sweep = self.curves[group]
        if not sweep.used.any():
            return None
        x = np.linspace(sweep.x[sweep.used].min(), sweep.x[sweep.used].max(), 60)
        return np.exp(x), _to_target(sweep.at(x), self.is_log, self.lower_is_better)

    def optima(self) -> pd.DataFrame:
        """Returns a table that laws of best settings are fitted to, of the groups whose best is inside their settings.

        The setting's column holds its best value; `weight` is the inverse variance of its logarithm, 1 where some
        group has no interval.
        """
        from analysis.tables.provenance import note

        kept = ~self.points["is_edge"].to_numpy(dtype=bool)
        extra = [name for name in (CONVENTION, "data_unit") if name in self.points.columns]
        rows = self.points.loc[kept, [*self.by, *extra, "best", self.target, *self.profile]]
        rows = rows.rename(columns={"best": self.setting}).reset_index(drop=True)
        finite = np.where(np.isfinite(self.draws), self.draws, np.nan)[:, kept]
        weight = np.ones(len(rows))
        if len(finite) and len(rows) and (np.isfinite(finite).sum(axis=0) > 1).all():
            weight = 1 / np.maximum(np.nanvar(finite, axis=0), 1e-12)
        best = f"best {self.setting} by {self.target} at each {', '.join(self.by)}"
        text = f"{best}, {int(kept.sum())} of {len(kept)} inside the settings tried"
        return note(rows.assign(weight=weight), "optima", text)

    def fit(self, law: str | Law, **options: Any) -> Fit:
        """Returns the fit of a law to the optima, with what was left out of them and every notice of finding them.

        Args:
          law: Of the setting, like `step_law_lr`; or any law, with `variables`.
          **options: As in `analysis.fit`.

        Raises:
          AnalysisError: as `analysis.fit`, and if no best setting is inside those tried.
        """
        table = self.optima()
        if table.empty:
            raise AnalysisError(
                f"no best {self.setting} is inside the settings tried: {'; '.join(str(item) for item in self.notices)}"
            )
        fitted = fit(table, law, self.setting, **options)
        own = [item for item in fitted.warnings if item.code != "no_repeated_seeds"]  # of optima, seeds are no matter
        found = [item for item in self.notices if item.code not in OF_TRENDS]
        notes = self.points.loc[self.points["is_edge"], "note"].value_counts()
        if len(notes):
            own.append(describe_edges("the fit", int(notes.sum()), len(self.points)))
        out = {f"best {self.setting} not inside the settings tried ({code})": int(n) for code, n in notes.items()}
        left_out = {**{f"{reason} (runs)": count for reason, count in self.left_out.items()}, **out, **fitted.left_out}
        status = "weak" if any(item.is_weak for item in own) else "ok"
        return fitted.model_copy(
            update={
                "warnings": (*own, *found),
                "status": fitted.status if fitted.status == "failed" else status,
                "left_out": left_out,
                "dropped": sum(left_out.values()),
            }
        )

    def to_frame(self) -> pd.DataFrame:
        """Returns `points`."""
        return self.points

    def __str__(self) -> str:
        least = "lowest" if self.lower_is_better else "highest"
        inside = int((~self.points["is_edge"]).sum())
        head = f"{self.setting} of {least} {self.target}: {inside} of {len(self.points)} inside the settings tried"
        rows = []
        for _, row in self.points.iterrows():
            low, high = (None, None) if np.isnan(row["low"]) else (row["low"], row["high"])
            best, interval = format_estimate(row["best"], low, high)
            if low is not None and high is not None and (low == 0 or np.isinf(high)):  # beyond the settings tried
                above, below = ("" if low == 0 else f"> {low:.3g}"), ("" if np.isinf(high) else f"< {high:.3g}")
                interval = above or below or "open"
            rows.append(
                {
                    **{name: show(row[name]) for name in self.by},
                    "best": best,
                    "95 %": "at the edge" if row["note"] == "edge" else row["note"] or interval,
                    self.target: f"{row[self.target]:.5g}",
                    "cost of 2x": "" if np.isnan(row["cost_of_2x"]) else self._show_cost(row["cost_of_2x"]),
                    "settings": row["settings"],
                    "runs": row["runs"],
                }
            )
        import pandas as pd

        table = pd.DataFrame(rows).to_string(index=False)
        out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        rest = [f"left out: {out}"] if out else []
        return "\n".join([head, table, *rest, *map(str, self.trends), *map(str, self.notices)])

    def _show_cost(self, cost: float) -> str:
        return f"{cost:.2%}" if self.is_log else f"{cost:.3g}"


def find_best_settings(
    table: pd.DataFrame,
    setting: str,
    *,
    by: str | Sequence[str] = ("num_params",),
    target: str = "loss",
    profile: str | Sequence[str] = (),
    lower_is_better: bool | None = None,
    reach: float = REACH,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BestSettings:
    """Returns the best value of a setting in every group of runs, and how it grows with size.

    In each group a parabola of log target (of the target itself where some value is not positive) over the log setting
    goes through the lowest of the settings tried and those near it, see `parabolas`; its vertex is the best. Where the
    lowest is the smallest or the largest tried, where the parabola has no minimum among its points, or where fewer
    than three settings were tried, the best of those tried is given, `is_edge` says so and a notice says what to run.

    Intervals (95 %) are of resamples: of seeds where they repeat over settings, else of the coefficients' t
    distribution given the residuals; a parabola through three settings without repeated seeds has none. They do not
    know what a mean over too few seeds at a cliff hides: diverged runs are left out, counted, and named where they are
    next to the best.

    Args:
      table: Rows in our column names, one for each run; their final, usable ones count (`select_rows`).
      setting: Any positive column: `peak_lr`, `batch_size`, `model.depth`, …
      by: Columns whose values make one group each. Runs of a group that differ in anything else that matters are
        refused, where the table says it in our names.
      target: What is to be lowest, or highest.
      profile: Other settings that were swept beside this one: of the runs at each setting those count whose values
        have the best mean.
      lower_is_better: Whether the target is to be low; by default what is known of the metric.
      reach: How far from the lowest point a setting is seen by the parabola, as a factor; the nearest always are.
      resamples: R; 0 for no intervals.
      seed: Of the resamples.

    Raises:
      AnalysisError: on a missing column, a value out of range, no usable runs, runs that are no repeats of each other,
        or where no group has two values of the setting.

    >>> import pandas as pd
    >>> rates = np.array([0.001, 0.002, 0.004, 0.008, 0.016])
    >>> runs = [pd.DataFrame({"num_params": n, "peak_lr": rates}) for n in (1e6, 4e6, 16e6)]
    >>> table = pd.concat(runs, ignore_index=True)
    >>> off = np.log(table["peak_lr"] / 4e-3 * (table["num_params"] / 4e6) ** 0.25)
    >>> found = find_best_settings(table.assign(loss=3 * np.exp(0.02 * off**2)), "peak_lr", resamples=0)
    >>> print(found.trend)
    peak_lr = 0.179 num_params^-0.25   (3 optima)
    """
    import pandas as pd

    by, profile = ((names,) if isinstance(names, str) else tuple(names) for names in (by, profile))
    lower = is_lower_better(target) if lower_is_better is None else lower_is_better
    _check_call(table, setting, by, target, profile, reach, resamples)
    runs = select_runs(table, setting, by, target, profile)
    y = runs.rows[target].to_numpy(dtype=float)
    is_log = bool((y > 0).all())
    height = (1 if lower else -1) * (np.log(y) if is_log else y)
    rng = np.random.default_rng(seed)
    points, tried, curves, draws = [], [], [], []
    for group in np.unique(runs.group):
        here = np.flatnonzero(runs.group == group)
        kept = here[choose_profile(runs.rows.iloc[here], runs.code[here], height[here], profile)]
        sweep = find_lowest(
            runs.code[kept], runs.log_setting[kept], height[kept], runs.seeds[kept], reach=reach, resamples=resamples,
            seed=int(rng.integers(2**31)),
        )  # fmt: skip
        first = {name: pick(runs.rows[name].iloc[here]) for name in (*by, *runs.carried)}
        settings, best = np.exp(sweep.x), np.exp(sweep.vertex)
        drawn = sweep.draws if len(sweep.draws) else np.full(resamples, np.nan)
        ends = estimate(best, np.exp(drawn))
        at_best = kept[runs.code[kept] == np.unique(runs.code[kept])[sweep.lowest]]
        points.append(
            {
                **first,
                "best": best,
                "low": np.nan if ends.low is None else ends.low,
                "high": np.nan if ends.high is None else ends.high,
                target: float(_to_target(np.array(sweep.height), is_log, lower)),
                "settings": len(settings),
                "runs": len(here),
                "diverged": int((runs.lost_group == group).sum()),
                "is_edge": bool(sweep.problem),
                "note": sweep.problem,
                "tried_low": settings[0],
                "tried_high": settings[-1],
                "spacing": float(np.exp(np.diff(sweep.x).mean())) if len(settings) > 1 else 1.0,
                "bend": np.nan if sweep.problem else sweep.coefficients[2],
                "cost_of_2x": _cost(sweep, is_log, lower),
                **{name: pick(runs.rows[name].iloc[at_best]) for name in profile},
            }
        )
        means = _to_target(sweep.means, is_log, lower)
        tried.append(pd.DataFrame({**{n: first[n] for n in by}, setting: settings, target: means, "used": sweep.used}))
        curves.append(sweep)
        draws.append(drawn)
    frame, every = pd.DataFrame(points), np.stack(draws, axis=1)
    if int(frame["settings"].max()) < 2:
        raise AnalysisError(
            f"{setting} has one value in each group of equal {', '.join(by)}: there is nothing to choose from; sweep "
            "it, or group by fewer columns"
        )
    trends, notices = _find_trends(frame, setting, by, every, seed)
    own = describe_points(frame, runs, curves, setting, by, profile, resamples)
    return BestSettings(
        setting, by, target, profile, is_log, lower, frame, pd.concat(tried, ignore_index=True), trends,
        (*own, *notices), runs.left_out, tuple(curves), every,
    )  # fmt: skip


def _check_call(
    table: pd.DataFrame,
    setting: str,
    by: Sequence[str],
    target: str,
    profile: Sequence[str],
    reach: float,
    resamples: int,
) -> None:
    for field_name, names in (("setting", [setting]), ("by", by), ("target", [target]), ("profile", profile)):
        for name in names:
            if name not in table.columns:
                raise suggest_name(field_name, name, table.columns)
    named = [setting, *by, target, *profile]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise AnalysisError(f"{twice} is named twice; setting, by, target and profile must be different columns")
    if not (np.isfinite(reach) and reach > 1):
        raise AnalysisError(f"reach={reach:g} must be above 1: a factor of the setting; {REACH:g} is usual")
    if resamples < 0 or resamples == 1:
        raise AnalysisError(f"resamples={resamples} must be 0 or at least 2; {RESAMPLES} is usual")


def _to_target(height: Array, is_log: bool, lower: bool) -> Array:
    signed = height if lower else -height
    return np.exp(signed) if is_log else signed


def _cost(sweep: Sweep, is_log: bool, lower: bool) -> float:
    """Returns how much worse the target is a factor of two off the best: a share of it, or in its own units."""
    if sweep.problem:
        return np.nan
    rise = float(sweep.coefficients[2]) * np.log(2) ** 2
    return float(rise if not is_log else np.expm1(rise) if lower else -np.expm1(-rise))


def _find_trends(
    points: pd.DataFrame, setting: str, by: Sequence[str], draws: Array, seed: int
) -> tuple[tuple[SettingTrend, ...], list[Notice]]:
    """Returns the power laws through optima, one for each value of the columns that have none, and their notices."""
    columns = [
        name
        for name in by
        if is_numeric(points[name]) and points[name].nunique() >= MIN_LEVELS and (points[name] > 0).all()
    ]
    trends, notices = [], []
    where = [name for name in by if name not in columns]
    for code in np.unique(number := number_points(points, where)) if columns else ():
        here = number == code
        rows = points[here]
        if (rows["settings"] < 2).all():
            continue
        constant = {name: rows[name].iloc[0] for name in where}
        trend, own = fit_setting_trend(rows, setting, columns, constant, draws[:, here], seed)
        trends += [trend] if trend else []
        notices += own
    return tuple(trends), notices
