"""Which rows of a table make one line of a figure: those of one series with one setting at each place along an axis."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.axes import AXES
from analysis.decisions.isoflop import group_budgets
from analysis.report.subject import AMOUNTS, COMPUTE, COUNTED, SEED, SIZE, Subject
from analysis.uncertainty.bootstrap import mean_interval
from scaling.specs.fields import shorten

if TYPE_CHECKING:
    import pandas as pd

SAME = 0.1  # budgets this near are one, as in isoFLOP profiles
MOST_KEYS = 3  # columns that tell the lines of a series apart
SEVERAL = 3  # values of a setting that make it an axis before the amounts
FEW = 1.8  # places on a line, on average, below which they are points and not lines
BACK = 0.3  # of its logarithm, by which another amount may go back along a line: budgets are met about so well


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines along an axis.

    Attributes:
      axis: the column across.
      keys: the columns, beside the series, that tell lines apart; amounts of compute are put together by budget.
      rows: the runs, with the name of their `line`.
      points: a row for each line and place, or each run where there are no lines: `line label family size place mean
        low high seeds`; `size` orders lines of one series.
      is_scatter: whether there are no lines, since no few columns tell settings apart.
    """

    axis: str
    keys: tuple[str, ...]
    rows: pd.DataFrame
    points: pd.DataFrame
    is_scatter: bool

    @property
    def names(self) -> list[str]:
        """The lines, in order."""
        return list(dict.fromkeys(self.points["line"]))

    @property
    def is_one_a_series(self) -> bool:
        """Whether each series is one line."""
        return not self.keys and not self.is_scatter


def find_axes(subject: Subject) -> list[str]:
    """Returns the columns that performance may be drawn against, the one that was varied first.

    A setting counts where runs that are alike in series and amounts differ in it, or where it is a shape that N follows
    from. An amount that follows from an axis before it, within each series, comes last.
    """
    free = [name for name in subject.varying if subject.varies_within(name)]
    swept, shapes = find_swept(subject), find_shapes(subject)
    first: list[str] = []
    several = [name for name in (*shapes, *swept) if subject.runs[name].nunique() >= SEVERAL]
    few = [name for name in (*shapes, *swept) if name not in several]
    for name in dict.fromkeys((*several, *(name for name in AMOUNTS if name in free), *few)):
        if not any(_follows(subject, name, other) for other in first):
            first.append(name)
    rest = [name for name in AMOUNTS if name in subject.varying and name not in first]
    return [*first, *rest]


def find_swept(subject: Subject) -> tuple[str, ...]:
    """Returns the settings that runs differ in which are alike in series and in all amounts: what was tuned."""
    asked = set(subject.options.settings)
    there = [name for name in AMOUNTS if name in subject.runs.columns]
    alike = subject.runs.groupby([subject.by, *there], dropna=False)
    return tuple(name for name in subject.settings if name in asked or bool((alike[name].nunique() > 1).any()))


def find_shapes(subject: Subject) -> tuple[str, ...]:
    """Returns the numeric fields of models that vary within a series while neither N nor the width was chosen."""
    chosen = [name for name, column in COUNTED.items() if column == SIZE and name in subject.runs.columns]
    if any(subject.varies_within(name) for name in chosen):
        return ()
    return tuple(name for name in subject.settings if name.startswith("model.") and subject.varies_within(name))


def find_lines(subject: Subject, axis: str) -> Lines:
    """Returns the fewest lines along an axis that hold one setting at each place, with means and t intervals."""
    rows = subject.runs.dropna(subset=[axis])
    rows = rows[rows[axis] > 0] if axis in AMOUNTS else rows
    keys = _choose_keys(subject, rows, axis)
    if keys is None:
        return Lines(axis, (), rows.assign(line=rows[subject.by]), _list_runs(subject, rows, axis), is_scatter=True)
    values = [_bin(rows, key) for key in keys]
    names = [
        label if not name else name if len(subject.labels) == 1 else f"{label}, {name}"
        for label, name in zip(rows[subject.by], name_keys(rows, keys, values), strict=True)
    ]
    rows = rows.assign(line=names)
    return Lines(axis, keys, rows, _average(subject, rows, axis), is_scatter=False)


def _choose_keys(subject: Subject, rows: pd.DataFrame, axis: str) -> tuple[str, ...] | None:
    """Returns the columns that tell lines apart, the fewest and then those of the fewest lines; None where none do."""
    several = [name for name in _candidates(subject, rows) if name != axis]
    others = [name for name in (*AMOUNTS, *find_swept(subject)) if name in subject.varying and name != axis]
    if _is_line(rows, [subject.by], axis, others):
        return ()
    for count in range(1, MOST_KEYS + 1):
        found = []
        for keys in itertools.combinations(several, count):
            table = rows.assign(**{key: _bin(rows, key) for key in keys})
            if _is_line(table, [subject.by, *keys], axis, others):
                lines = table.groupby([subject.by, *keys], dropna=False)[axis].nunique()
                found.append((len(lines), float(lines.mean()), keys))
        if found and (best := min(found, key=lambda item: item[0]))[1] >= FEW:
            return best[2]
    return None


def _candidates(subject: Subject, rows: pd.DataFrame) -> list[str]:
    words = [
        name
        for name in ("family", *rows.columns)
        if name in rows.columns
        and (name == "family" or ("." in str(name) and name not in COUNTED))
        and rows[name].nunique() > 1
        and name != subject.by
    ]
    names = dict.fromkeys((*find_swept(subject), *(name for name in subject.varying if name in AMOUNTS), *words))
    return [name for name in names if bool((rows.groupby(subject.by)[name].nunique() > 1).any())]


def _is_line(rows: pd.DataFrame, keys: Sequence[str], axis: str, others: Sequence[str]) -> bool:
    """Returns whether every place of every line has one setting, once a seed, and other amounts go one way along it."""
    seeds = [SEED] if SEED in rows.columns and rows[SEED].notna().all() else []
    if seeds and rows.duplicated([*keys, axis, *seeds]).any():
        return False
    left = [name for name in others if name not in keys or name == COMPUTE]
    if not seeds and any(bool((rows.groupby([*keys, axis], dropna=False)[name].nunique() > 1).any()) for name in left):
        return False
    means = rows.groupby([*keys, axis], sort=True, dropna=False)[left].mean() if left else None
    if means is None:
        return True
    logs = means.where(means > 0).map(np.log)
    steps = logs.groupby(level=list(range(len(keys))), dropna=False).diff()
    lines = steps.groupby(level=list(range(len(keys))), dropna=False)
    return not bool(((lines.max() > BACK) & (lines.min() < -BACK)).to_numpy().any())


def _bin(rows: pd.DataFrame, key: str) -> Any:
    """Returns a column by which rows are told apart; budgets of compute that are about equal are one."""
    if key != COMPUTE:
        return rows[key]
    spent = rows[key].to_numpy(dtype=float)
    middles = np.full(len(spent), np.nan)
    known = np.flatnonzero(np.isfinite(spent) & (spent > 0))
    for places in group_budgets(spent[known], SAME):
        middles[known[places]] = float(f"{np.exp(np.log(spent[known[places]]).mean()):.3g}")
    return middles


def name_keys(rows: pd.DataFrame, keys: Sequence[str], values: Sequence[Any]) -> list[str]:
    """Returns what is added to the name of each row's series: `num_params = 2,035`; empty without keys."""
    short = {**shorten([key for key in keys if "." in key]), **SYMBOLS}
    parts = [
        [f"{short.get(key, key)} = {show(value)}" for value in column] for key, column in zip(keys, values, strict=True)
    ]
    return [", ".join(each) for each in zip(*parts, strict=True)] if parts else [""] * len(rows)


# Short names of amounts, for names of lines.
SYMBOLS = {name: AXES[name].symbol for name in AMOUNTS}


def show(value: Any) -> str:
    """Returns a value as part of a line's name.

    >>> show(20000.0), show(0.003), show(2.5e18), show("relu"), show(True)
    ('20,000', '0.003', '2.5e+18', 'relu', 'True')
    """
    if isinstance(value, bool | np.bool_ | str) or value is None:
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e7 else f"{value:.3g}"


def _average(subject: Subject, rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    import pandas as pd

    place: dict[Any, int] = {label: number for number, label in enumerate(subject.labels)}
    found = []
    for (label, line, at), group in rows.groupby([subject.by, "line", axis], sort=True):
        mean, low, high = mean_interval(group[subject.target].to_numpy(dtype=float))
        found.append((place[label], _order(group), line, label, _family(group), at, mean, low, high, len(group)))
    names = ["rank", "size", "line", "label", "family", "place", "mean", "low", "high", "seeds"]
    points = pd.DataFrame(found, columns=names)
    points["size"] = points.groupby("line")["size"].transform("median")
    return points.sort_values(["rank", "size", "line", "place"], kind="stable").reset_index(drop=True)


def _list_runs(subject: Subject, rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    import pandas as pd

    place = {label: number for number, label in enumerate(subject.labels)}
    points = pd.DataFrame(
        {
            "rank": rows[subject.by].map(place), "line": rows[subject.by], "label": rows[subject.by],
            "size": rows[SIZE] if SIZE in rows.columns else np.nan,
            "family": rows["family"] if "family" in rows.columns else "", "place": rows[axis],
            "mean": rows[subject.target], "low": np.nan, "high": np.nan, "seeds": 1,
        }
    )  # fmt: skip
    return points.sort_values(["rank", "place"], kind="stable").reset_index(drop=True)


def _order(group: pd.DataFrame) -> float:
    for name in (SIZE, COMPUTE):
        if name in group.columns and group[name].notna().any():
            return float(group[name].median())
    return 0.0


def _family(group: pd.DataFrame) -> str:
    return str(group["family"].iloc[0]) if "family" in group.columns else ""


def _follows(subject: Subject, name: str, other: str) -> bool:
    """Returns whether within each series a column has one value for each value of another."""
    return bool((subject.runs.groupby([subject.by, other])[name].nunique() <= 1).all())
