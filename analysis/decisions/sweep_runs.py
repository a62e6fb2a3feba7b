"""The runs that a search for the best setting sees, those that diverged beside them, and what it must say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.parabolas import Sweep
from analysis.errors import AnalysisError
from analysis.fit_table import drop_twins
from analysis.fitting.notices import Notice
from analysis.laws.law import Array
from analysis.tables.sweeps import is_numeric, number_points, number_values
from scaling.store.columns import CONVENTION

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3  # groups that a notice names before it counts the rest
# Columns that say what was trained, beside the paths of a cell's fields: runs that differ in them are no repeats.
MATTER = ("label", "num_params", "data_seen", "data_unique", "peak_lr", "batch_size", "batch_tokens", "weight_decay")


@dataclass(frozen=True)
class Runs:
    """Runs that count, and those that diverged, with the numbers of their groups and settings.

    Attributes:
      rows: Usable final rows, n of them.
      group: Number of each one's group `[n]`.
      code: Number of its setting, in ascending order of all settings `[n]`.
      log_setting: Its logarithm `[n]`.
      seeds: Number of its seed `[n]`; a number of its own where it has none, one for all without such a column.
      carried: Columns beside `by` that optima keep.
      lost: Settings of runs that diverged.
      lost_group: Their groups.
      lost_code: Their numbers.
      left_out: Why runs do not count.
    """

    rows: pd.DataFrame
    group: Array
    code: Array
    log_setting: Array
    seeds: Array
    carried: tuple[str, ...]
    lost: Array
    lost_group: Array
    lost_code: Array
    left_out: dict[str, int]


def select_runs(table: pd.DataFrame, setting: str, by: Sequence[str], target: str, profile: Sequence[str]) -> Runs:
    """Returns the runs of a table that a search for the best setting sees.

    Raises:
      AnalysisError: if there are none, or runs that would count as repeats differ in what was trained.
    """
    import pandas as pd

    from analysis.tables.table import select_rows

    distinct, twins = (table, 0) if "label" in by else drop_twins(table)
    numbers = [name for name in (*by, *profile) if is_numeric(distinct[name])]
    texts = [name for name in (*by, *profile) if name not in numbers]
    rows, left_out, _ = select_rows(distinct, [setting, *numbers, target], positive=[setting])
    left_out = {**({"the same cell under another label": twins} if twins else {}), **left_out}
    for name in texts:
        if missing := int(rows[name].isna().sum()):
            left_out[f"{name} is missing"] = missing
            rows = rows[rows[name].notna()]
    if rows.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the table has no rows"
        raise AnalysisError(f"no run of {setting} counts: {reasons}; check the columns and --keep")
    lost = _find_diverged(distinct, [setting, *numbers], texts, target)
    both, n = pd.concat([rows, lost]), len(rows)
    group, code = number_points(both, by), number_values(both[setting])
    seeds = np.zeros(n, dtype=np.int64)
    if "seed" in rows.columns:
        seeds = pd.factorize(rows["seed"])[0].astype(np.int64)
        seeds = np.where(seeds < 0, seeds.max() + 1 + np.arange(n), seeds)
    _check_repeats(rows, group[:n], code[:n], setting, by, target, profile)
    return Runs(
        rows, group[:n], code[:n], np.log(rows[setting].to_numpy(dtype=float)), seeds,
        tuple(name for name in (CONVENTION, "data_unit") if name in rows.columns and name not in by),
        lost[setting].to_numpy(dtype=float), group[n:], code[n:], left_out,
    )  # fmt: skip


def choose_profile(rows: pd.DataFrame, code: Array, height: Array, profile: Sequence[str]) -> Array:
    """Returns the places of the runs that count at each setting: those at the values of `profile` of lowest mean."""
    if not profile:
        return np.arange(len(rows))
    other, kept = number_points(rows, profile), []
    for setting in np.unique(code):
        here = np.flatnonzero(code == setting)
        means = [(height[here[other[here] == value]].mean(), value) for value in np.unique(other[here])]
        kept.append(here[other[here] == min(means)[1]])
    return np.concatenate(kept)


def pick(column: pd.Series) -> Any:
    """Returns the value of a column in one group: what all rows have, or the geometric mean of what nearly agrees."""
    if column.nunique() <= 1 or not is_numeric(column):
        return column.iloc[0]
    return float(np.exp(np.log(column.to_numpy(dtype=float)).mean()))


def describe_points(
    points: pd.DataFrame,
    runs: Runs,
    curves: Sequence[Sweep],
    setting: str,
    by: Sequence[str],
    profile: Sequence[str],
    resamples: int,
) -> list[Notice]:
    """Returns what must be said of the best settings of groups, each with a remedy."""
    said: dict[str, list[str]] = {}
    groups = np.unique(runs.group)
    for (_, row), sweep, group in zip(points.iterrows(), curves, groups, strict=True):
        here = runs.group == group
        name, best = ", ".join(f"{key}={show(row[key])}" for key in by) or "all runs", f"{setting}={row['best']:.4g}"
        codes, lost = np.unique(runs.code[here]), runs.lost_group == group
        own = int(codes[sweep.lowest])
        cliff = []  # what diverged between the best of those tried and the next one that did not, on either side
        for direction, side in ((1, "above"), (-1, "below")):
            beyond = (runs.lost_code[lost] - own) * direction
            ends = (codes[codes != own] - own) * direction
            near = beyond[(beyond > 0) & (beyond <= min(ends[ends > 0], default=np.inf))]
            if len(near):
                place = runs.lost_code[lost] == own + direction * near.min()
                cliff.append((side, float(runs.lost[lost][place][0]), int(place.sum())))
        edge = "largest" if sweep.lowest else "smallest"
        match row["note"]:
            case "edge":
                there = [item for item in cliff if item[0] == ("above" if sweep.lowest else "below")]
                if there:
                    text = (
                        f"{name}: the best of the grid, {best}, is its {edge} that did not diverge ({there[0][2]} runs "
                        f"at {there[0][1]:.4g} did): add settings between them"
                    )
                    cliff.remove(there[0])
                else:
                    wanted = "larger" if sweep.lowest else "smaller"
                    text = f"{name}: the best of the grid, {best}, is its {edge}: add {wanted} ones"
                said.setdefault("edge", []).append(text)
            case "no_minimum":
                text = f"{name}: the runs near the best of the grid, {best}, have no minimum among them: add seeds"
                said.setdefault("no_minimum", []).append(text)
            case "few_settings":
                text = f"{name}: a minimum needs 3 values of {setting}, of which it has {row['settings']}: add some"
                said.setdefault("few_settings", []).append(text)
            case _ if resamples and np.isnan(row["low"]):
                text = f"{name}: three settings near the best and no repeated seeds give no interval: add either"
                said.setdefault("no_interval", []).append(text)
            case _ if row["low"] == 0 or np.isinf(row["high"]):
                ends_open = " and ".join(
                    word for word, is_open in (("below", row["low"] == 0), ("above", np.isinf(row["high"]))) if is_open
                )
                text = f"{name}: the 95 % interval of {best} is open {ends_open}: add settings there, or seeds"
                said.setdefault("open_interval", []).append(text)
        for side, value, count in cliff:
            text = f"{name}: {count} runs at {value:.4g}, the next setting {side} {best}, diverged: stay on this side"
            said.setdefault("divergence", []).append(text)
        if alive := int((runs.lost_code[lost] == own).sum()):
            text = f"{name}: {alive} runs at the best setting tried diverged, and its mean is of the others: add seeds"
            said.setdefault("divergence", []).append(text)
        for other in profile if not row["note"] else ():
            values = runs.rows[other][here]
            if is_numeric(values) and values.nunique() > 1 and row[other] in (values.min(), values.max()):
                text = f"{name}: {other}={show(row[other])} beside the best {setting} is at the end of those tried"
                said.setdefault("profile_edge", []).append(text + ": add others beyond")
    return [notice for code, texts in said.items() for notice in _gather(code, texts)]


def show(value: Any) -> str:
    """Returns a value of a column for people."""
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _gather(code: str, texts: list[str]) -> list[Notice]:
    """Returns a notice for each text, or where they are many one that names a few."""
    if len(texts) > SHOWN:
        texts = ["; ".join(texts[:SHOWN]) + f"; and {len(texts) - SHOWN} more like these"]
    return [Notice(code=code, text=text) for text in texts]


def _find_diverged(table: pd.DataFrame, numbers: Sequence[str], texts: Sequence[str], target: str) -> pd.DataFrame:
    """Returns final rows of runs that diverged, by their status or by a target that is no finite number."""
    from analysis.tables.columns import read_numbers

    lost = ~np.isfinite(read_numbers(table, target))
    if "status" in table.columns:
        lost = table["status"].eq("diverged").to_numpy(dtype=bool, na_value=False) | (
            lost & table["status"].eq("ok").to_numpy(dtype=bool, na_value=False)
        )
    if "is_final" in table.columns:
        lost &= table["is_final"].eq(True).fillna(False).to_numpy(dtype=bool)
    for name in numbers:
        lost &= np.isfinite(read_numbers(table, name))
    lost &= read_numbers(table, numbers[0]) > 0
    return table[lost & table[list(texts)].notna().all(axis=1).to_numpy(dtype=bool)]


def _check_repeats(
    rows: pd.DataFrame, group: Array, code: Array, setting: str, by: Sequence[str], target: str, profile: Sequence[str]
) -> None:
    """Refuses runs that would count as repeats and differ in what was trained."""
    named, other = {setting, *by, target, *profile}, number_points(rows, profile)
    same = np.unique(np.stack([group, code, other], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    fields = [name for name in rows.columns if "." in name and not name.endswith("seed")]
    for name in dict.fromkeys([*MATTER, *fields]):
        if (
            name in named
            or name not in rows.columns
            or rows[name].map(lambda item: isinstance(item, list | dict)).any()
        ):
            continue
        values = number_values(rows[name])
        pairs = np.unique(np.stack([same, values], axis=1)[values >= 0], axis=0)[:, 0]
        if len(pairs) and (count := np.bincount(pairs)).max() > 1:
            first = rows.iloc[int(np.argmax(same == count.argmax()))]
            at = ", ".join(f"{key}={show(first[key])}" for key in (*by, setting))
            raise AnalysisError(
                f"runs at {at} differ in {name} ({count.max()} values) and are no repeats: take the best of it at each "
                f"{setting} (--profile {name}), group by it too, or keep one value"
            )
