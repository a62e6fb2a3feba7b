"""What each series needs to reach a level of its target: steps, data, compute and seconds, and ratios to a baseline.

A run is followed over its evaluations to the first that is at or beyond the level. Between it and the one before, what
was spent is interpolated, in logarithms of both, so that sparse evaluations cost little; the first crossing of a noisy
curve counts, also where the curve rises again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.axes import Interval, read_axis, read_unit, say_factor
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice
from analysis.laws.law import Array
from analysis.tables.measures import Measure, read_measure
from analysis.uncertainty.bootstrap import mean_interval
from analysis.uncertainty.significance import LEVEL, correct_holm, find_p_of_mean, format_p

if TYPE_CHECKING:
    import pandas as pd

    from scaling.specs.metrics import MetricFacts

OVER = ("step", "data_seen", "train_flops", "wall_seconds")
SECONDS = ("wall_seconds", "train_seconds")  # of a whole run in stores, in its last row alone
SETTING = ("num_params", "data_unique", "peak_lr", "batch_size")  # what tells runs of one seed apart, without cells
NEEDS = ["over", "label", "runs", "reached", "value", "low", "high"]
# What each seed needs, and whether it was there at its first evaluation: by column, series and seed.
Best = dict[tuple[str, str, Any], tuple[float, bool]]
RATIOS = ["pairs", "ratio", "ratio_low", "ratio_high", "p", "p_holm"]


@dataclass(frozen=True)
class Targets:
    """What series need to reach a level.

    Attributes:
      table: One row for each column of what is spent and each series: `over label`, `runs` (of its seeds, those with
        usable evaluations or diverged), `reached` (how many of them reach the level), `value low high` (the geometric
        mean over those that reach it, with a 95 % t interval in logarithms), and beside a baseline `pairs` (seeds of
        both that reach it), `ratio ratio_low ratio_high` (the baseline needs so many times what the series needs), `p`
        (of a ratio of 1) and `p_holm` (corrected for all ratios of the table; the intervals are not).
      runs: One row for each series, seed and column: `over label seed value`; NaN where the level is not reached.
      level: The level, in the target's own units.
      measure: The target and its direction.
      baseline: What ratios are to.
      unit: What data counts.
      has_settings: Whether seeds have several runs, of which the one that needs least counts.
      notices: What weakens the result, or is not there.
    """

    table: pd.DataFrame
    runs: pd.DataFrame
    level: float
    measure: Measure
    baseline: str | None
    unit: str | None
    has_settings: bool
    notices: tuple[Notice, ...]

    def describe(self) -> list[str]:
        """Returns a sentence for each series and column: of the ratio beside a baseline, else of what it needs."""
        return [self._say(row) for row in self.table.to_dict("records") if row["label"] != self.baseline]

    def _say(self, row: Any) -> str:
        axis, label, goal = read_axis(row["over"], self.unit), row["label"], f"{self.measure.target} {self.level:.4g}"
        what = "seeds have a run that reaches" if self.has_settings else "runs reach"
        some = "" if row["reached"] == row["runs"] else f"; {row['reached']} of {row['runs']} {what} it"
        if not row["reached"]:
            return f"{label}: none of {row['runs']} {'seeds' if self.has_settings else 'runs'} reaches {goal}"
        if np.isnan(row["value"]):
            return f"{label} is at {goal} before anything was spent{some}"
        if self.baseline is None or not np.isfinite(row["ratio"]):
            ends = "no interval" if np.isnan(row["low"]) else f"{row['low']:.4g} to {row['high']:.4g}"
            return f"{label} reaches {goal} at {axis.format(row['value'])} ({ends}){some}"
        ratio = Interval(row["ratio"], row["ratio_low"], row["ratio_high"])
        tests = int(self.table["p"].notna().sum())
        has_test = not np.isnan(row["p"])
        said = say_factor(
            label, self.baseline, ratio, axis, f"to reach {goal}",
            is_settled=bool(row["p_holm"] <= LEVEL) if has_test else None,
        )  # fmt: skip
        proof = f" ({format_p(row['p_holm'])}, Holm over {tests} {'ratio' if tests == 1 else 'ratios'})"
        return f"{said}{proof if has_test else ''}{some}"

    def __str__(self) -> str:
        return "\n".join(self.describe())


def reach_target(
    table: pd.DataFrame,
    target: str = "loss",
    level: float | None = None,
    *,
    by: str = "label",
    over: Sequence[str] = OVER,
    baseline: str | None = None,
    cluster: str = "seed",
    lower_is_better: bool = True,
    known: Iterable[MetricFacts] = (),
) -> Targets:
    """Returns what each series needs to reach a level of its target, and ratios to a baseline paired by seed.

    Where a seed has runs of several settings (sizes, say), the run that needs least counts. Runs that never reach the
    level are counted, and left out of means, which makes a series look better than it is. Seconds are of whole runs in
    stores: they are shared out over a run in proportion to its steps, compilation and evaluation included.

    Args:
      table: Rows in the contract's columns, one for each evaluation.
      target: What is to be reached.
      level: The value of the target; by default the worst that any seed of any series ends with, so that all reach it.
      by: Column that names the series.
      over: Columns of what is spent; those that the table lacks are named in a notice.
      baseline: A series that the others are compared with.
      cluster: Column of seeds.
      lower_is_better: True for loss and error, False for accuracy.
      known: Metrics beside those of the package.

    Raises:
      AnalysisError: on a missing column, an unknown baseline, or a table without usable rows.
    """
    import pandas as pd

    from analysis.tables.runs import fill_names
    from analysis.tables.table import select_rows

    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    measure = read_measure(target, known, lower_is_better=lower_is_better)
    table = fill_names(table, by)
    rows = select_rows(table, [target], only_final=False)[0]
    if rows.empty:
        raise AnalysisError(f"target={target!r} has no usable row; check --keep and the columns")
    rows = rows.assign(**{cluster: rows[cluster] if cluster in rows.columns else 0, by: rows[by].astype(str)})
    if baseline is not None and baseline not in set(rows[by]):
        raise suggest_name("baseline", baseline, rows[by].unique())
    runs = _split_runs(rows, by, cluster)
    if max(map(len, runs.values())) < 2:
        raise AnalysisError(
            f"table: no run has several evaluations of {target!r}, so it is not known when any reached a level; give a "
            "row for each evaluation"
        )
    if level is None:
        level = _find_level(rows, runs, target, by, cluster, lower_is_better)
    columns = [name for name in over if name in rows.columns and rows[name].notna().any()]
    best, has_settings = _follow(rows, runs, columns, measure, level)
    lost = _count_diverged(table, by, cluster, {(label, seed) for _, label, seed in best})
    needs = []
    for name, label in dict.fromkeys((name, label) for name, label, _ in best):
        own, other = _pick(best, name, label), _pick(best, name, baseline) if baseline not in (None, label) else {}
        needs.append((name, label, *_summarise(list(own.values()), lost.get(label, 0)), *_compare(other, own)))
    whole = pd.DataFrame(needs, columns=[*NEEDS, *RATIOS[:-1]])
    whole["p_holm"] = correct_holm(whole["p"].to_numpy(dtype=float))
    each = pd.DataFrame([(*key, value) for key, (value, _) in best.items()], columns=["over", "label", "seed", "value"])
    missing = [name for name in over if name not in columns]
    there = {(name, label) for name, label, _ in best}
    missing += [f"{name} of {one}" for one in dict.fromkeys(rows[by]) for name in columns if (name, one) not in there]
    notices = _check(missing, best, whole, f"{target} {level:.4g}")
    units = {str(unit) for unit in rows["data_unit"].dropna()} if "data_unit" in rows.columns else set()
    return Targets(
        table=whole,
        runs=each,
        level=float(level),
        measure=measure,
        baseline=baseline,
        unit=read_unit(units),
        has_settings=has_settings,
        notices=tuple(notices),
    )


def _split_runs(rows: pd.DataFrame, by: str, cluster: str) -> dict[tuple[Any, ...], Array]:
    """Returns the places of the rows of each run, by series, seed and what else tells runs apart.

    Without cells, rows are evaluations of one run where the table has steps, or says that some are not final.
    """
    places: dict[Any, Any]
    if "cell" in rows.columns and rows["cell"].notna().all():
        names = ["cell"]
    elif rows["is_final"].all() if "is_final" in rows.columns else "step" not in rows.columns:
        return {
            (label, seed, at): np.array([at])
            for at, (label, seed) in enumerate(zip(rows[by], rows[cluster], strict=True))
        }
    else:
        names = _find_settings(rows, by, cluster)
    places = dict(rows.groupby([by, cluster, *names], dropna=False).indices)
    return places


def _find_settings(rows: pd.DataFrame, by: str, cluster: str) -> list[str]:
    names = [name for name in rows.columns if name in SETTING or ("." in str(name) and "seed" not in str(name))]
    if "data_unique" in names and "data_seen" in rows.columns and rows["data_unique"].equals(rows["data_seen"]):
        names.remove("data_unique")  # it grows along a run that sees no datum twice
    return [name for name in names if name not in (by, cluster) and not rows[name].map(_is_nested).any()]


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict)


def _find_level(
    rows: pd.DataFrame, runs: dict[tuple[Any, ...], Array], target: str, by: str, cluster: str, lower: bool
) -> float:
    """Returns the worst, over series and seeds, of the best that a run of them ends with."""
    order = next((name for name in OVER if name in rows.columns and rows[name].notna().all()), None)
    ends: dict[tuple[Any, ...], list[float]] = {}
    for (label, seed, *_), places in runs.items():
        run = rows.iloc[places]
        last = run.sort_values(order, kind="stable").iloc[-1] if order else run.iloc[-1]
        ends.setdefault((label, seed), []).append(float(last[target]))
    best, worst = (min, max) if lower else (max, min)
    return worst(best(values) for values in ends.values())


def _reach(run: pd.DataFrame, name: str, measure: Measure, level: float) -> tuple[float, bool, bool]:
    """Returns what a run had spent when it reached the level, whether at its first evaluation, and if it is known."""
    x = run[name].to_numpy(dtype=float)
    if name in SECONDS and np.isfinite(x).sum() == 1 < len(x):
        steps = next((one for one in ("step", "data_seen") if one in run.columns and run[one].notna().all()), None)
        if steps is None:
            return np.nan, False, False
        progress = run[steps].to_numpy(dtype=float)
        x = np.nanmax(x) * progress / progress.max() if progress.max() > 0 else np.full(len(x), np.nan)
    usable = np.isfinite(x) & (x >= 0)
    if not usable.any():
        return np.nan, False, False
    x, y = x[usable], np.asarray(measure.convert(run[measure.target].to_numpy(dtype=float)))[usable]
    order, goal = np.argsort(x, kind="stable"), float(measure.convert(level))
    x, y = x[order], y[order]
    # the level itself counts, also after rounding 1 - y
    slack = 1e-12 * max(abs(goal), 1e-300)
    beyond = np.flatnonzero(y <= goal + slack if measure.falls else y >= goal - slack)
    if not len(beyond):
        return np.nan, False, True
    first = int(beyond[0])
    if first == 0:
        return float(x[0]), True, True
    return _interpolate(x[first - 1 : first + 1], y[first - 1 : first + 1], goal), False, True


def _interpolate(x: Array, y: Array, goal: float) -> float:
    """Returns x where a line through two points has y = goal, in logarithms where all are positive."""
    if min(*y, goal) > 0:
        y, goal = np.log(y), float(np.log(goal))
    share = float(np.clip((y[0] - goal) / (y[0] - y[1]), 0.0, 1.0))
    if x[0] <= 0:
        return float(x[0] + share * (x[1] - x[0]))
    return float(np.exp(np.log(x[0]) + share * (np.log(x[1]) - np.log(x[0]))))


def _follow(
    rows: pd.DataFrame, runs: dict[tuple[Any, ...], Array], columns: Sequence[str], measure: Measure, level: float
) -> tuple[Best, bool]:
    """Returns what each seed of each series needs, and whether some seed has several runs, of which the least counts.

    Values are NaN where the level is not reached; a column that is not known of a run has none.
    """
    best: Best = {}
    has_settings = False
    for (label, seed, *_), places in runs.items():
        run = rows.iloc[places]
        for name in columns:
            value, is_first, is_known = _reach(run, name, measure, level)
            if not is_known:
                continue
            before = best.get((name, label, seed))
            has_settings |= before is not None
            if before is None or np.isnan(before[0]) or value < before[0]:
                best[name, label, seed] = (value, is_first)
    return best, has_settings


def _pick(best: Best, over: str, label: str | None) -> dict[Any, float]:
    """Returns what each seed of a series needs of a column."""
    return {seed: value for (name, series, seed), (value, _) in best.items() if (name, series) == (over, label)}


def _count_diverged(table: pd.DataFrame, by: str, cluster: str, there: set[tuple[Any, Any]]) -> dict[str, int]:
    """Returns how many seeds of each series have only runs that diverged, which never reach anything."""
    if "status" not in table.columns or cluster not in table.columns:
        return {}
    gone = table[table["status"] == "diverged"]
    lost = {(str(label), seed) for label, seed in zip(gone[by], gone[cluster], strict=True)} - there
    return {label: sum(one == label for one, _ in lost) for label, _ in lost}


def _summarise(values: Sequence[float], lost: int) -> tuple[Any, ...]:
    """Returns `runs reached value low high` of the seeds of one series."""
    reached = [value for value in values if np.isfinite(value)]
    known = bool(reached) and min(reached) > 0  # at step 0 nothing was spent, which has no logarithm
    middle = np.exp(mean_interval(np.log(reached))).tolist() if known else [np.nan] * 3
    return len(values) + lost, len(reached), *middle


def _compare(base: dict[Any, float], own: dict[Any, float]) -> tuple[Any, ...]:
    """Returns `pairs ratio ratio_low ratio_high p` of a series beside the baseline, paired by seed."""
    pairs = [(base[seed], value) for seed, value in own.items() if base.get(seed, 0.0) > 0 and value > 0]
    if not pairs:
        return 0, *(np.nan,) * 4
    logs = np.log([before / after for before, after in pairs])
    return len(logs), *np.exp(mean_interval(logs)).tolist(), find_p_of_mean(logs)


def _check(missing: Sequence[str], best: Best, whole: pd.DataFrame, goal: str) -> list[Notice]:
    notices = []
    if missing:
        text = f"what is needed of {', '.join(missing)} to reach {goal} is not known: the table does not have it"
        notices.append(Notice(code="not_recorded", text=text))
    short = {row["label"]: row for row in whole.to_dict("records") if row["reached"] < row["runs"]}
    if short:
        listed = ", ".join(f"{label} {row['runs'] - row['reached']} of {row['runs']}" for label, row in short.items())
        text = (
            f"not every run reaches {goal} ({listed} do not), and means are of those that do, which flatters the "
            "series; choose an easier level, or train longer"
        )
        notices.append(Notice(code="not_reached", text=text, is_weak=True))
    first = {(label, seed) for (_, label, seed), (_, is_first) in best.items() if is_first}
    if first:
        text = (
            f"{len(first)} runs ({', '.join(sorted({label for label, _ in first}))}) are at {goal} at their first "
            "evaluation, so they need at most what stands there; choose a harder level, or evaluate earlier"
        )
        notices.append(Notice(code="at_first_evaluation", text=text, is_weak=True))
    if whole["over"].isin(SECONDS).any():
        text = (
            "seconds are shared out over a run in proportion to its steps where only the whole run's are known, and "
            "hold for the device that it ran on"
        )
        notices.append(Notice(code="seconds_shared_out", text=text))
    return notices
