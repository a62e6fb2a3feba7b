"""What names a run in a table: its column, whether rows are checkpoints of runs, the best of a sweep, empty names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError, suggest_name
from analysis.tables.columns import read_numbers
from analysis.tables.provenance import note
from analysis.tables.run_names import (
    LOOSE_NAMES,
    RUN_NAMES,
    count_values,
    find_progress,
    find_rank,
    is_empty,
    is_setting,
    may_name,
    number_runs,
)
from analysis.tables.sweeps import POINT, SAME, is_numeric, number_points, number_values
from analysis.tables.words import count_things

SETTLED = ("num_params", "seed", "peak_lr", "family")  # columns that have one value in a run
CURVE = 8  # rows a file or model from which data that grow are those of one run, and not a design of several budgets
MOST = 0.9  # share of the runs with several rows that must look like runs
FEW_LEVELS = 20  # of a column that may be a setting by its values
NUMBER = re.compile(r"\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?", re.IGNORECASE)


def fill_names(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Returns the table with rows that lack a name in the column `by` called "(no label)", so that they are a series.

    The table itself where no name is empty.

    >>> fill_names(pd.DataFrame({"label": ["a", None, " "]}), "label")["label"].tolist()
    ['a', '(no label)', '(no label)']
    """
    empty = is_empty(table[by])
    if not empty.any():
        return table
    names = [f"(no {by})" if gone else spell_name(value) for gone, value in zip(empty, table[by], strict=True)]
    table = table.copy(deep=False)
    table[by] = pd.Series(names, index=table.index, dtype=object).to_numpy()
    return table


def spell_name(value: Any) -> str:
    """Returns a name as text: a whole number keeps its digits, 1 and not 1.0, where a column has made it a float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def find_unfinished(table: pd.DataFrame, *, only_final: bool = True) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yields why rows do not count, as far as the table says it, and which these are `[n]`.

    Args:
      table: Any table; what it does not say is no reason.
      only_final: Whether evaluations before a run's last one do not count.
    """
    if only_final and "is_final" in table.columns:
        yield "not the final row", ~table["is_final"].eq(True).fillna(False).to_numpy(dtype=bool)
    if "status" in table.columns:
        column = table["status"].astype(object)
        status = column.where(~is_empty(column), "missing").astype(str).to_numpy()
        yield from ((f"status is {name}", status == name) for name in dict.fromkeys(status) if name != "ok")


def find_run_column(table: pd.DataFrame) -> str | None:
    """Returns the column that names runs of several rows: by its name, and by what its rows share and differ in.

    Rows of one run have one size and seed, and differ in their step or in what they have seen. A `model`, `experiment`
    or `file` may hold many runs of one size, so steps or whole curves must tell.

    >>> rows = pd.DataFrame({"run": ["a", "a", "b", "b"], "step": [1, 2, 1, 2], "num_params": [5, 5, 7, 7]})
    >>> find_run_column(rows), find_run_column(rows[rows["step"] == 2])
    ('run', None)
    """
    ranks = {name: place for place, name in enumerate((*RUN_NAMES, *LOOSE_NAMES))}
    named = [(ranks[key], name) for name in table.columns if (key := find_rank(str(name), ranks)) is not None]
    fitting = [name for _, name in sorted(named, key=lambda item: item[0]) if _names_runs(table, name)]
    # names of runs may be given twice, their numbers are not
    return next((name for name in fitting if _tells_steps_apart(table, name)), fitting[0] if fitting else None)


def _names_runs(table: pd.DataFrame, name: str) -> bool:
    column = table[name]
    if not isinstance(column, pd.Series) or not len(table) or not may_name(column):
        return False
    codes = number_runs(column)
    count = np.bincount(codes[codes >= 0])
    several = np.flatnonzero(count > 1)
    if not len(several):
        return False
    for settled in SETTLED:
        if settled != name and _varies(table, settled, codes, several):
            return False
    steps, seen = find_progress(table)
    # a run has one set of data, except where no datum is seen twice
    is_one_pass = {"data_seen", "data_unique"} <= set(table.columns) and table["data_unique"].equals(table["data_seen"])
    if not is_one_pass and _varies(table, "data_unique", codes, several):
        return False
    is_loose = find_rank(str(name), dict.fromkeys(LOOSE_NAMES, 0)) is not None
    if is_loose and np.median(count[several]) < CURVE:
        seen = []
    return any(
        _mean_share(count_values(table[one], codes)[several] > 1) >= MOST for one in (*steps, *seen) if one != name
    )


def _varies(table: pd.DataFrame, name: str, codes: NDArray[np.int64], runs: NDArray[np.int64]) -> bool:
    """Returns whether a column, where the table has it, has several values in too many runs to be one of theirs."""
    if name not in table.columns or not isinstance(table[name], pd.Series):
        return False
    return _mean_share(count_values(table[name], codes)[runs] <= 1) < MOST


def _mean_share(holds: NDArray[np.bool_]) -> float:
    return float(holds.mean()) if len(holds) else 0.0


def _tells_steps_apart(table: pd.DataFrame, name: str) -> bool:
    """Returns whether no run has two rows at one step."""
    steps, seen = find_progress(table)
    names = [one for one in (*steps, *seen) if one != name][:1]
    rows = table[[name, *names]].dropna()
    return not bool(rows.duplicated().any())


def recognise_checkpoints(table: pd.DataFrame) -> str | None:
    """Returns a sentence where rows are checkpoints of runs and nothing says which are final; None elsewhere.

    >>> rows = pd.DataFrame({"run": ["a", "a", "b", "b"], "step": [1, 2, 1, 2], "num_params": [5, 5, 7, 7]})
    >>> recognise_checkpoints(rows)[:57]
    '4 rows are checkpoints of 2 runs (column run, by step): -'
    """
    if "is_final" in table.columns:
        return None
    name = find_run_column(table)
    if name is None:
        return None
    codes = number_runs(table[name])
    steps, seen = find_progress(table)
    runs = np.flatnonzero(np.bincount(codes[codes >= 0]) > 1)
    by = next(
        one for one in (*steps, *seen) if one != name and _mean_share(count_values(table[one], codes)[runs] > 1) >= MOST
    )
    rows, word = int((codes >= 0).sum()), shlex.quote(str(name))
    rest = f"; {len(table) - rows} rows name no run" if rows < len(table) else ""
    return (
        f"{rows} rows are checkpoints of {len(np.unique(codes[codes >= 0]))} runs (column {name}, by {by}): --last-of "
        f"{word} takes the last of each, --cluster {word} keeps all and says that they are not independent{rest}"
    )


def best_over(
    table: pd.DataFrame, names: Sequence[str], target: str, *, lower_is_better: bool
) -> tuple[pd.DataFrame, str]:
    """Returns the row of the best target at each point, over some settings, and a sentence that says what was chosen.

    A point is what else tells rows apart: N, D, m and C, series, seeds that repeat, other settings of training, and
    text that names no run. Rows without the target, of a status other than ok, or that are not final never win. The
    table's conventions keep the sentence.

    Args:
      table: Rows in our column names.
      names: Settings that were tried, such as the learning rate.
      target: What is to be best.
      lower_is_better: True for loss and error, False for accuracy.

    Raises:
      AnalysisError: if a column is missing, or nothing can be chosen.

    >>> rows = pd.DataFrame({"num_params": [1e6, 1e6, 1e6], "lr": [0.1, 0.2, 0.4], "loss": [3.2, 3.0, 3.1]})
    >>> best_over(rows, ["lr"], "loss", lower_is_better=True)[1]
    'best loss over lr: 1 of 3 rows, at 1 point'
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise AnalysisError("best over no setting: name at least one that was tried, such as peak_lr")
    for name in (*names, target):
        if name not in table.columns:
            raise suggest_name("best over: column", name, table.columns)
    if target in names:
        raise AnalysisError(f"best {target} over {target}: the target is no setting; name one that was tried")
    values = read_numbers(table, target)
    usable, lost = _find_usable(table, target, values)
    if not usable.any():
        why = ", ".join(f"{count} {reason}" for reason, count in lost.items()) or "the table has no rows"
        raise AnalysisError(f"best {target} over {', '.join(names)}: no row can win ({why}); check the columns")
    columns = {name: _make_plain(table[name]) for name in _find_point(table, names, target)}
    point = number_points(pd.DataFrame(columns, index=table.index), list(columns), SAME)
    order = np.lexsort(
        (np.arange(len(values)), np.where(usable, values if lower_is_better else -values, np.inf), point)
    )
    first = order[np.unique(point[order], return_index=True)[1]]
    winners = first[usable[first]]
    edges, single = _find_edges(table, names, point, winners)
    varied = [name for name, column in columns.items() if len(np.unique(number_points(column.to_frame(), [name]))) > 1]
    over = f"best {target} over {', '.join(names)}"
    said = f"{over}: {len(winners)} of {len(table)} rows, at {count_things(len(winners), 'point')}"
    said += f" of {', '.join(varied)}" if varied else ""
    said += f"; at {edges} the best is at the end of the values tried" if edges else ""
    said += f"; at {single} one value alone was tried" if single else ""
    if lost:
        why = ", ".join(f"{number} {reason}" for reason, number in lost.items())
        said += f"; {count_things(sum(lost.values()), 'row')} can never win ({why})"
    if gone := len(np.unique(point)) - len(winners):
        said += f", and {count_things(gone, 'point')} have no other" if gone > 1 else ", and 1 point has no other"
    if others := _find_others(table, [*names, target, *columns], point[usable], usable):
        said += f"; {', '.join(others)} also differ{'s' if len(others) == 1 else ''} at a point"
    kept = table.iloc[np.sort(winners)]
    return note(kept, f"best over {', '.join(names)}", said), said


def _find_usable(
    table: pd.DataFrame, target: str, values: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Returns which rows may win, and how many may not by reason."""
    usable, lost = np.ones(len(table), dtype=bool), {}
    for reason, bad in (*find_unfinished(table), (f"{target} is no finite number", ~np.isfinite(values))):
        if count := int((usable & bad).sum()):
            lost[reason] = count
        usable = usable & ~bad
    return usable, lost


def _find_point(table: pd.DataFrame, names: Sequence[str], target: str) -> list[str]:
    """Returns the columns that tell points apart."""
    found = []
    taken = {*names, target, "status", "is_final", "cell", "study", "data_unit"}
    for name in table.columns:
        column = table[name]
        if name in taken or not isinstance(column, pd.Series):
            continue
        if name in POINT or name in ("label", "family"):
            keep = not _spells(table, name, names)
        elif name == "seed":
            keep = bool(column.dropna().duplicated().any())
        elif name in ("step", "steps"):
            keep = not any(one in table.columns for one in POINT[1:])
        elif is_numeric(column):
            keep = is_setting(str(name)) and not _is_named_run(name, table, names)
        else:
            keep = may_name(column) and not _is_named_run(name, table, names) and not _spells(table, name, names)
        if keep:
            found.append(name)
    return found


def _is_named_run(name: str, table: pd.DataFrame, names: Sequence[str]) -> bool:
    """Returns whether a column names runs: by its name, or nearly every row has its own, and each was tried once."""
    column = table[name]
    known = column.dropna()
    ranks = dict.fromkeys((*RUN_NAMES, *LOOSE_NAMES), 0)
    is_own = not is_numeric(column) and len(known) > 1 and known.map(str).nunique() > MOST * len(known)
    return (find_rank(str(name), ranks) is not None or is_own) and _fixes(column, table, names)


def _fixes(column: pd.Series, table: pd.DataFrame, names: Sequence[str]) -> bool:
    """Returns whether each value of a column goes with one value of the settings."""
    codes = number_runs(column)
    settings = number_points(pd.DataFrame({one: _make_plain(table[one]) for one in names}), list(names))
    return bool((count_values(pd.Series(settings), codes) <= 1).all())


def _spells(table: pd.DataFrame, name: str, names: Sequence[str]) -> bool:
    """Returns whether a text column spells out the settings, as a label lr=0.001 does."""
    column = table[name]
    if is_numeric(column) or not _fixes(column, table, names):
        return False
    tried = [one for one in names if is_numeric(table[one]) and number_values(table[one]).max(initial=-1) > 0]
    texts = column.map(str)
    return bool(tried) and any(
        all(
            any(np.isclose(float(part), value, rtol=1e-3) for part in NUMBER.findall(text)) or value != value
            for text, value in dict(
                zip(texts, table[one].to_numpy(dtype=np.float64, na_value=np.nan), strict=True)
            ).items()
        )
        for one in tried
    )


def _make_plain(column: pd.Series) -> pd.Series:
    """Returns numbers as they are, and all else, seeds too, as text that is equal or not."""
    if is_numeric(column) and column.name != "seed":
        return column
    return column.map(str).where(~is_empty(column), None)


def _find_edges(
    table: pd.DataFrame, names: Sequence[str], point: NDArray[np.int64], winners: NDArray[np.int64]
) -> tuple[int, int]:
    """Returns at how many points the best is at an end of the values tried, and at how many one alone was tried."""
    at_edge, alone = np.zeros(len(winners), dtype=bool), np.ones(len(winners), dtype=bool)
    for name in names:
        column = table[name]
        number = number_values(_make_plain(column))
        groups = pd.Series(np.where(number >= 0, number, np.nan)).groupby(point)
        low, high = (groups.agg(how).reindex(point[winners]).to_numpy(dtype=np.float64) for how in ("min", "max"))
        several = low < high
        alone &= ~several
        if is_numeric(column):
            at_edge |= several & ((number[winners] == low) | (number[winners] == high))
    return int(at_edge.sum()), int(alone.sum())


def _find_others(
    table: pd.DataFrame, known: Sequence[str], point: NDArray[np.int64], usable: NDArray[np.bool_]
) -> list[str]:
    """Returns numeric columns of a few values that differ at a point: perhaps settings that nobody named."""
    found = []
    rows = table[usable]
    for name in table.columns:
        column = rows[name]
        if name in known or not isinstance(column, pd.Series) or not is_numeric(column) or name in POINT:
            continue
        levels = column.nunique()
        if 1 < levels <= min(FEW_LEVELS, len(rows) // 4) and (column.groupby(point).nunique() > 1).any():
            found.append(str(name))
    return found
