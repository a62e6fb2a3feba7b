"""Which row of a run is its last: what tells the order of rows, and which of them a restart has superseded."""

from __future__ import annotations

import bisect
import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError, suggest_name

# Names of what counts a run's progress, likeliest first; letters small, all else `_`, units in brackets left out.
GLOBAL_STEPS = (
    r"(.*_)?global_(step|iter|iteration|update|batch)s?", r"(train(er|ing)?_)?steps?",
    r"(train(er|ing)?_)?(iter|iteration|update)s?(_num)?", r"num_(steps|updates|iters|iterations)",
)  # fmt: skip
LOGGED = "_step"  # W&B's own count of calls: goes on where a resumed run's own step goes back
BATCHES = (r"(mini_?)?batch(_(idx|index|num|id))?",)
EPOCHS = (r"(.*_)?epochs?(_num)?",)
UNITS = "(token|example|sample|sequence|image)s"
SEEN = (
    "data_seen", rf"(.*_)?{UNITS}_(seen|processed|consumed|so_far)", rf"consumed_{UNITS}",
    rf"(num|n|total|train)_{UNITS}", UNITS,
)  # fmt: skip
CLOCKS = (
    r"_?timestamp(_m?s)?", r"wall_?time(_seconds)?", r"(created|logged|updated|recorded)_(at|on|time)", r"date_?time",
    r"time", r"date",
)  # fmt: skip
# Numbers above are seconds (or parts of them) since 1970; smaller ones may be a step's duration, or begin anew.
LEAST_EPOCH_SECONDS = 1e8
# How many rows of a clock that is none may go back in steps.
MAX_BACK = 0.1
# So many rows walk over old ground before it is taken for a restart without a step that is logged again.
WALKED_AGAIN = 10
NOTHING_TELLS = "nothing tells the order of rows; the last row of each run is taken for its end"


class SortedRows(NamedTuple):
    """Rows of a run in their order: the `rows`, how many others were `superseded`, and what is doubtful of them."""

    rows: Any
    superseded: int
    doubts: tuple[str, ...]


def find_superseded(
    steps: NDArray[np.float64], kinds: NDArray[np.int64] | None = None, begins: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Returns which rows a restart superseded `[n]`: those at its step or later, logged before it.

    A step that drops is a restart where steps after it were there before, or where the run then ends below its former
    largest step; other small disorder is what asynchronous logging leaves, and supersedes nothing, as do several rows
    logged at one step, rows without a step (NaN), and steps without any order (checkpoints evaluated newest first).

    Args:
      steps: in the order of logging `[n]`.
      kinds: which rows are of one kind (training, evaluation) `[n]`; each kind drops for itself, since one may come
        late, and a restart of one is that of all. None where all are of one.
      begins: where another attempt is known to have begun to log a kind `[n]`: a step that was reached before is a
        restart there for certain. None where nothing is known.

    >>> find_superseded(np.array([0.0, 1, 2, 3, 1, 2])).tolist()
    [False, True, True, True, False, False]
    >>> find_superseded(np.array([0.0, 1, 3, 2, 4])).tolist()
    [False, False, False, False, False]
    """
    superseded = np.zeros(len(steps), dtype=bool)
    known = np.flatnonzero(~np.isnan(steps))
    of = np.zeros(len(steps), dtype=np.int64) if kinds is None else np.unique(kinds, return_inverse=True)[1]
    values = {kind: steps[known[of[known] == kind]] for kind in np.unique(of[known]).tolist()}
    ordered = {kind: is_walk(walk, or_again=True) for kind, walk in values.items()}
    sure = np.zeros(len(steps), dtype=bool) if begins is None else begins
    if not sure.any() and not any(ordered[kind] and (np.diff(walk) < 0).any() for kind, walk in values.items()):
        return superseded
    kept: dict[int, list[tuple[float, int]]] = {kind: [] for kind in values}
    passed = dict.fromkeys(values, 0)
    for row, kind, step in zip(known.tolist(), of[known].tolist(), steps[known].tolist(), strict=True):
        stack = kept[kind]
        if stack and (step < stack[-1][0] if not sure[row] else step <= stack[-1][0]):
            above = np.array([held for held, _ in stack[bisect.bisect_left(stack, (step, -1)) :]])
            if sure[row] or (ordered[kind] and _is_restart(above, values[kind][passed[kind] :])):
                for other in kept.values():
                    cut = bisect.bisect_left(other, (step, -1))
                    superseded[[old for _, old in other[cut:]]] = True
                    del other[cut:]
        bisect.insort(stack, (step, row))
        passed[kind] += 1
    return superseded


def is_walk(steps: NDArray[np.float64], *, or_again: bool = False) -> bool:
    """Returns whether steps go forward but for restarts: not so where many drop.

    Args:
      steps: in the order of logging `[n]`.
      or_again: whether a step that comes twice is enough, however many drop, as where a run fails again and again.
    """
    steps = steps[~np.isnan(steps)]
    drops = int((np.diff(steps) < 0).sum())
    return drops < 2 or 3 * drops <= len(steps) - 1 or (or_again and len(np.unique(steps)) < len(steps))


def _is_restart(above: NDArray[np.float64], ahead: NDArray[np.float64]) -> bool:
    """Returns whether a drop is a restart, by the old steps at or above it, and the steps from it on."""
    beyond = ahead > above[-1]
    ends_below = not beyond.any()
    walked = np.unique(ahead if ends_below else ahead[: beyond.argmax()])
    old = np.unique(above)
    again = int(np.isin(old, walked).sum())
    if ends_below:
        return again > 0 or len(old) > 1 or len(walked) > 1  # else one row that came late
    if again:  # one step alone may be a row that was sent twice
        return 2 * again >= len(old) or (again > 1 and 2 * again >= len(walked))
    between = int(((old > walked[0]) & (old < walked[-1])).sum())
    return min(len(walked), between) >= WALKED_AGAIN


def order_columns(table: pd.DataFrame) -> tuple[str | None, str | None]:
    """Returns the columns that tell the order within a run: what counts its progress, and a clock; None without one.

    Of several counts the one with most values is taken, steps before data seen. W&B's `_step` is the clock where the
    table has a step of the run itself, since it alone never goes back.

    >>> order_columns(pd.DataFrame({"loss": [2.0, 1.9], "Tokens (B)": [1, 2], "Step": [10, 20], "date": ["a", "b"]}))
    ('Step', 'date')
    """
    names = [name for name in map(str, table.columns) if isinstance(table.get(name), pd.Series)]
    groups = (GLOBAL_STEPS, (LOGGED,), BATCHES, EPOCHS, SEEN)
    found: list[tuple[int, int, str]] = []
    for name in names:
        rank = next((i for i, group in enumerate(groups) if _matches(name, group)), None)
        numbers = np.array([]) if rank is None else _numbers(table[name])
        numbers = numbers[~np.isnan(numbers)]
        if rank is not None and len(numbers):
            is_constant = len(table) > 1 and numbers.min() == numbers.max()
            found.append((-len(numbers), len(groups) if is_constant else rank, name))
    step = min(found, key=lambda one: (one[0], one[1], _place(one[2], (*GLOBAL_STEPS, *SEEN))))[2] if found else None
    if LOGGED in names and step is not None and step != LOGGED:
        return step, LOGGED
    clocks = [name for name in names if _matches(name, CLOCKS) and name != step]
    return step, min(clocks, key=lambda name: _place(name, CLOCKS)) if clocks else None


def _plain(name: str) -> str:
    if name.strip() == LOGGED:
        return LOGGED
    bare = re.sub(r"[(\[].*?[)\]]", "", name)
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare).lower()).strip("_")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return _place(name, patterns) < len(patterns)


def _place(name: str, patterns: tuple[str, ...]) -> int:
    return next((i for i, one in enumerate(patterns) if re.fullmatch(one, _plain(name))), len(patterns))


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype("string")  # also lists, which some name `tokens`
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isinf(numbers), np.nan, numbers)


def _times(column: pd.Series) -> NDArray[np.float64]:
    """Returns a clock's values as numbers `[n]`, dates in seconds since 1970; NaN for what is neither."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        numbers = _numbers(column)
        if not np.isnan(numbers).all():
            return numbers
        column = _dates(column.astype("string"))
    elif column.dt.tz is None:
        column = column.dt.tz_localize("UTC")
    since = column - pd.Timestamp(0, tz="UTC")
    return np.asarray(since / pd.Timedelta(seconds=1), dtype=np.float64)


def _dates(texts: pd.Series) -> pd.Series:
    """Returns texts as dates, all of one form where one fits all: day and month must not change places between rows."""
    ways: tuple[dict[str, Any], ...] = ({"format": "ISO8601"}, {}, {"dayfirst": True}, {"format": "mixed"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it had to guess
        tried = [pd.to_datetime(texts, errors="coerce", utc=True, **way) for way in ways]
    return max(tried, key=lambda dates: int(dates.notna().sum()))


class RowOrder:
    """What tells the order of a table's rows, read once for all its runs.

    Args:
      table: rows of one or many runs.
      fixed: columns that do not tell kinds of rows apart, such as the run's name.
    """

    def __init__(self, table: pd.DataFrame, fixed: tuple[str, ...] = ()) -> None:
        self.step, self.clock = order_columns(table)
        self._table = table
        self._steps = None if self.step is None else _numbers(table[self.step])
        self._clock = None if self.clock is None else _times(table[self.clock])
        epochs = [str(name) for name in table.columns if _matches(str(name), EPOCHS) and name != self.step]
        self._epochs = _numbers(table[epochs[0]]) if epochs else None
        told = {self.step, self.clock, *fixed}
        values = table[[name for name in table.columns if name not in told]].notna().to_numpy(dtype=bool)
        self._kinds = pd.factorize(pd.Series([row.tobytes() for row in np.packbits(values, axis=1)], dtype=object))[0]

    def describe(self) -> str:
        """Returns the columns that tell the order, in words; empty where none does."""
        names = [self.step] if self.step else []
        return " and ".join([*names, *([self.clock] if self.clock else [])])

    def sort(self, rows: NDArray[np.int64]) -> SortedRows:
        """Returns positions of a run's rows in their order, without those that a restart superseded."""
        keys = self._keys(rows)
        clock, doubts = self._usable_clock(rows, keys)
        if keys is None:
            if clock is None:
                return SortedRows(rows, 0, (NOTHING_TELLS,) if len(rows) > 1 else doubts)
            return SortedRows(rows[np.argsort(clock, kind="stable")], 0, doubts)
        superseded = np.zeros(len(rows), dtype=bool)
        if clock is not None:
            logged = np.lexsort((keys, clock))
            rows = rows[logged]
            # A row without a step was logged at that of the row before it.
            keys = np.asarray(pd.Series(keys[logged]).ffill(), dtype=np.float64)
            superseded = find_superseded(keys, self._kinds[rows])
        elif np.isnan(keys).any():
            doubts = (*doubts, f"rows without {self.step} are taken for the first of their run")
        rows, keys = rows[~superseded], keys[~superseded]
        order = np.argsort(np.where(np.isnan(keys), -np.inf, keys), kind="stable")
        rows, keys = rows[order], keys[order]
        if clock is None and self._is_tied(rows, keys):
            doubts = (*doubts, f"rows with the same {self.step} differ, and are in the order of the file")
        return SortedRows(rows, int(superseded.sum()), doubts)

    def _keys(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Returns what grows in a run `[n]`: its steps, with the epoch before them where they begin anew in each."""
        if self._steps is None:
            return None
        steps = self._steps[rows]
        if np.isnan(steps).all():
            return None
        if self._epochs is not None and not np.isnan(epochs := self._epochs[rows]).any() and not np.isnan(steps).any():
            pairs, places = np.unique(np.stack([epochs, steps], axis=1), axis=0, return_inverse=True)
            if len(np.unique(epochs)) > 1 and len(pairs) > 1.5 * len(np.unique(steps)):
                return np.asarray(places.reshape(-1), dtype=np.float64)
        return None if len(rows) > 1 and len(np.unique(steps)) < 2 and self._clock is None else steps

    def _usable_clock(
        self, rows: NDArray[np.int64], keys: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
        """Returns the times of a run's rows `[n]`, None where they do not tell in which order it logged them."""
        if self._clock is None:
            return None, ()
        times = self._clock[rows]
        if len(np.unique(times)) < 2:
            return None, ()
        if np.isnan(times).any():
            return None, (f"{self.clock} is missing in some rows and was not used",)
        if self.clock == LOGGED or times.min() > LEAST_EPOCH_SECONDS or keys is None:
            return times, ()
        in_time = keys[np.lexsort((keys, times))]
        if (np.diff(in_time[~np.isnan(in_time)]) < 0).sum() > MAX_BACK * len(rows):
            return None, (f"{self.clock} does not go with {self.step} and was not used",)
        return times, ()

    def _is_tied(self, rows: NDArray[np.int64], keys: NDArray[np.float64]) -> bool:
        """Returns whether rows of one kind and step differ."""
        if not (np.diff(keys) == 0).any():
            return False
        places = pd.DataFrame({"key": keys, "kind": self._kinds[rows]})
        tied = places.duplicated(keep=False).to_numpy()
        if not tied.any():
            return False
        texts = self._table.iloc[rows[tied]].astype(str)
        return int((~texts.duplicated()).sum()) > int((~places[tied].duplicated()).sum())


def sort_run(rows: pd.DataFrame) -> SortedRows:
    """Returns one run's rows in their order, without those that a restart superseded, and how many those were.

    A clock tells what a restart superseded (`find_superseded`); what remains is in the order of its steps, and of the
    clock alone where there are none. Without either the file's order stands, and `doubts` says so.

    >>> sort_run(pd.DataFrame({"step": [30, 10, 20], "loss": [1.0, 3.0, 2.0]})).rows["loss"].tolist()
    [3.0, 2.0, 1.0]
    """
    found = RowOrder(rows).sort(np.arange(len(rows)))
    return found._replace(rows=rows.iloc[found.rows])


def group_rows(table: pd.DataFrame, column: str) -> tuple[list[NDArray[np.int64]], int]:
    """Returns the positions of each run's rows, runs in the table's order, and how many rows name no run.

    A row whose name is empty is a run of its own.

    Raises:
      AnalysisError: there is no such column, or it is there twice.
    """
    if column not in table.columns:
        raise suggest_name("last", column, map(str, table.columns))
    if not isinstance(table[column], pd.Series):
        raise AnalysisError(f"last={column!r} names several columns of the table; give them names of their own")
    names = table[column].astype(object)
    nameless = names.isna().to_numpy() | (names.astype(str).str.strip() == "").to_numpy(dtype=bool)
    codes = np.array(pd.factorize(names.astype(str))[0], dtype=np.int64)
    codes[nameless] = -1 - np.arange(int(nameless.sum()))
    _, first, places = np.unique(codes, return_index=True, return_inverse=True)
    grouped = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1]) if len(table) else []
    return [grouped[i] for i in np.argsort(first)], int(nameless.sum())


def last_of(table: pd.DataFrame, column: str) -> tuple[pd.DataFrame, str]:
    """Returns the last row of each run that `column` names, in the table's order of runs, and a sentence on it.

    Raises:
      AnalysisError: there is no such column.

    >>> rows = pd.DataFrame({"run": ["a", "a", "b"], "step": [20, 10, 10], "loss": [2.0, 3.0, 3.1]})
    >>> last, sentence = last_of(rows, "run")
    >>> last["loss"].tolist(), sentence
    ([2.0, 3.1], 'the last of 1 to 2 rows a run by step: 2 of 3 rows (run)')
    """
    runs, nameless = group_rows(table, column)
    order = RowOrder(table, (column,))
    found = [order.sort(rows) for rows in runs]
    sizes = sorted({len(rows) for rows in runs}) or [0]
    many = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
    by = f" by {order.describe()}" if order.step or order.clock else ""
    parts = [f"the last of {many} rows a run{by}: {len(runs)} of {len(table)} rows ({column})"]
    parts += describe_doubts(found, nameless, column)
    return table.iloc[[rows.rows[-1] for rows in found]], "; ".join(parts)


def describe_doubts(found: list[SortedRows], nameless: int, column: str) -> list[str]:
    """Returns what a person should know of how the rows of runs were put into order."""
    parts = []
    if superseded := sum(one.superseded for one in found):
        parts.append(f"{superseded} rows of {sum(one.superseded > 0 for one in found)} runs superseded by a restart")
    if nameless:
        parts.append(f"{nameless} rows without {column} are runs of their own")
    for doubt in dict.fromkeys(doubt for one in found for doubt in one.doubts):
        count = sum(doubt in one.doubts for one in found)
        parts.append(doubt if doubt == NOTHING_TELLS else f"in {count} of {len(found)} runs {doubt}")
    return parts
