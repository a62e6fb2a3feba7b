"""The surfaces behind a report: which rows may be fitted together by a law of N and D, and their fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import AnalysisError
from analysis.fit_table import fit
from analysis.fitting.notices import COLLINEAR
from analysis.laws.registry import get_law
from analysis.report.lines import find_swept
from analysis.report.section import tell
from analysis.report.subject import COMPUTE, COUNTED, DATA, SIZE, UNIQUE, Subject, options_of

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit
    from analysis.report.lines import Lines

LEVELS = 3  # of N and of D that a surface needs
ONE_BUDGET = 1.5  # as a factor: a series whose compute spreads less is one budget
RESAMPLES = 400  # of a surface, and of what is read from it


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Laws of N and D, one for all rows that differ in nothing else.

    Attributes:
      column: the column of the groups in `rows`.
      data: the column that D is in.
      rows: the runs, each with its group.
      fits: of each group that has enough sizes and amounts of data.
      missing: why another group, or every one, has none.
      notices: what is to be known of all.
    """

    column: str
    data: str
    rows: pd.DataFrame
    fits: Mapping[str, Fit]
    missing: tuple[str, ...]
    notices: tuple[str, ...]

    def of(self, group: str) -> pd.DataFrame:
        """Returns the runs of a group."""
        return self.rows[self.rows[self.column] == group]


def no_surfaces(subject: Subject, why: str) -> Surfaces:
    """Returns no surfaces, for a reason."""
    return Surfaces("(idea)", DATA, subject.runs.assign(**{"(idea)": subject.runs[subject.by]}), {}, (why,), ())


def name_groups(subject: Subject) -> pd.Series:
    """Returns for each run the name of the idea that it stands for: what differs besides sizes, data and seeds.

    That is the caller's column where one was named, and else the family with all fields that are words or truth values;
    under the label where the two are the same.
    """
    import pandas as pd

    runs = subject.runs
    if subject.options.by is not None:
        return runs[subject.by].astype(str)
    words = [name for name in find_words(runs) if runs[name].nunique(dropna=False) > 1]
    if not words:
        has_ideas = subject.store is None and not _is_sliced(subject)
        return runs[subject.by].astype(str) if has_ideas else pd.Series(subject.name, index=runs.index)
    names = runs[words].astype(str).agg(", ".join, axis=1)
    labels = runs[subject.by].astype(str)
    is_same = names.groupby(labels).nunique().max() == 1 and labels.groupby(names).nunique().max() == 1
    return labels if is_same else names


def find_words(runs: pd.DataFrame) -> list[str]:
    """Returns the columns of families and of fields that are words or truth values."""
    import pandas as pd

    def is_word(name: str) -> bool:
        return not pd.api.types.is_numeric_dtype(runs[name]) or pd.api.types.is_bool_dtype(runs[name])

    fields = [str(name) for name in runs.columns if "." in str(name) and name not in COUNTED]
    return [name for name in ("family", *fields) if name in runs.columns and is_word(name)]


def _is_sliced(subject: Subject) -> bool:
    """Returns whether the series of a table are slices of one surface: each of one budget, or of few N or D."""
    names = [name for name in (SIZE, DATA, UNIQUE) if name in subject.runs.columns]
    series = subject.runs.groupby(subject.by)
    if bool((series[names].nunique() < LEVELS).any(axis=None)):
        return True
    if COMPUTE not in subject.varying:
        return False
    return bool((series[COMPUTE].max() / series[COMPUTE].min() < ONE_BUDGET).all())


def study_surfaces(subject: Subject, lines: Lines | None) -> Surfaces:
    """Returns the law of N and D of each group of rows.

    Args:
      subject: what the report is about.
      lines: along the first axis; where that is unique data m, the law is of m in place of D.

    Raises:
      AnalysisError: an unknown law.
    """
    runs = subject.runs.assign(**{"(idea)": name_groups(subject)})
    data = UNIQUE if lines is not None and lines.axis == UNIQUE else DATA
    notices: list[str] = []
    if SIZE not in subject.varying or data not in subject.varying:
        absent = [name for name in (SIZE, data) if name not in subject.varying]
        why = f"L(N, D): {' and '.join(absent)} {'has' if len(absent) == 1 else 'have'} one value, or none, in all rows"
        return Surfaces("(idea)", data, runs, {}, (why,), ())
    swept = find_swept(subject)
    if swept:
        runs, notices = _keep_best(subject, runs, swept, data)
    law = get_law(subject.surface).bind((SIZE, data)) if data == UNIQUE else get_law(subject.surface)
    fits, missing = {}, []
    for group, rows in runs.groupby("(idea)", sort=False):
        levels = {name: rows[name].nunique() for name in (SIZE, data)}
        if min(levels.values()) < LEVELS:
            few = " and ".join(f"{count} value{'s' * (count != 1)} of {name}" for name, count in levels.items())
            missing.append(f"L(N, D) of {group}: it has {few}, and a surface needs {LEVELS} of each")
            continue
        if (likeness := _correlate(rows, data)) > COLLINEAR:
            missing.append(
                f"L(N, D) of {group}: {SIZE} and {data} move together (correlation of logarithms {likeness:.3f}), so "
                "that their exponents cannot be told apart; vary their ratio"
            )
            continue
        try:
            made = fit(
                rows, law, subject.fitted, objective=subject.declared["objective"], delta=subject.declared["delta"],
                bootstrap=min(RESAMPLES, subject.options.resamples), **options_of(subject, law),
            )  # fmt: skip
        except AnalysisError as error:
            missing.append(f"L(N, D) of {group}: {error}")
        else:
            fits[str(group)] = made.model_copy(update={"label": str(group)})
    notices += [text for group, each in fits.items() for text in tell(each.warnings, group)]
    return Surfaces("(idea)", data, runs, fits, tuple(missing), tuple(notices))


def _correlate(rows: pd.DataFrame, data: str) -> float:
    """Returns how much N and D move together: the size of the correlation of their logarithms."""
    both = rows[[SIZE, data]].dropna()
    logs = np.log(both[(both > 0).all(axis=1)].to_numpy(dtype=float))
    return abs(float(np.corrcoef(logs.T)[0, 1])) if len(logs) > 1 and (logs.std(axis=0) > 0).all() else 1.0


def _keep_best(
    subject: Subject, runs: pd.DataFrame, swept: tuple[str, ...], data: str
) -> tuple[pd.DataFrame, list[str]]:
    """Returns the runs of the setting with the best mean at each N and D of each idea."""
    place = ["(idea)", SIZE, data]
    means = runs.groupby([*place, *swept], dropna=False)[subject.target].mean().reset_index()
    ordered = means.sort_values(subject.target, ascending=subject.lower_is_better).drop_duplicates(place)
    best, own = (rows[[*place, *swept]].astype(str).agg("\x1f".join, axis=1) for rows in (ordered, runs))
    kept = runs[own.isin(set(best))]  # as text, in which what is missing is equal to itself
    text = (
        f"of each sweep of {', '.join(swept)}, the best setting at each N and D stands for it: {len(kept)} of "
        f"{len(runs)} "
        "runs; the best of several is a little better than what it would reach again"
    )
    return kept, [text]
