"""Charts as W&B exports them, a column a run and metric, made a table with a row for each run and step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

SIGN = " - "
LEAST, MOST = "__MIN", "__MAX"
# What W&B puts on a chart's first axis unless told otherwise; another one needs columns of __MIN and __MAX.
AXES = ("step", "_step", "relative time (process)", "relative time (wall)", "wall time", "_runtime", "_timestamp")
RUN = "run"


def read_chart(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns a chart's table, a row for each run and step, and the sentence that says so; other tables as they are.

    A chart's first column is its axis; the others are `RUN - METRIC`, most with `RUN - METRIC__MIN` and `__MAX` beside
    them. These are left out where they equal the value everywhere. Where a run has no value at a step, there is no row.

    >>> frame, _ = read_chart(pd.DataFrame({"Step": [1, 2], "a - loss": [3.0, None], "b - loss": [4.0, 5.0]}))
    >>> frame.to_numpy().tolist()
    [['a', 1, 3.0], ['b', 1, 4.0], ['b', 2, 5.0]]
    """
    names = [str(name) for name in frame.columns]
    bases = list(dict.fromkeys(map(_find_base, names[1:])))
    pairs = [base for base in bases if base + LEAST in names and base + MOST in names]
    if not bases or not all(SIGN in base[1:-1] and base in names for base in bases):
        return frame, ()
    if not all(pd.api.types.is_numeric_dtype(frame[name]) or frame[name].isna().all() for name in names[1:]):
        return frame, ()
    if not pairs and (len(bases) < 2 or (names[0].lower() not in AXES and not names[0].lower().endswith("step"))):
        return frame, ()
    split = _split_names(bases)
    metrics = list(dict.fromkeys(metric for _, metric in split.values()))
    kept = {metric: _find_kept(frame, [base for base in bases if split[base][1] == metric]) for metric in metrics}
    axis = names[0]
    parts = []
    for run in dict.fromkeys(run for run, _ in split.values()):
        part: dict[str, Any] = {RUN if axis != RUN else f"{RUN} (name)": run, axis: frame[axis]}
        for metric in metrics:
            base = f"{run}{SIGN}{metric}"
            for end in ("", *kept[metric]):
                part[metric + end] = frame[base + end] if base + end in names else float("nan")
        table = pd.DataFrame(part)
        parts.append(table[table.iloc[:, 2:].notna().any(axis=1)])
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table, (
        f"read as a chart exported from W&B: {len(names) - 1} columns of {len(parts)} runs are {len(table)} rows of "
        f"{', '.join(map(str, table.columns))}",
    )


def join_charts(frames: Sequence[pd.DataFrame], axes: Sequence[str | None]) -> pd.DataFrame | None:
    """Returns charts of different metrics of the same runs as one table; None where they are nothing of the kind.

    Args:
      frames: as `read_chart` returns them.
      axes: the first axis of each; None for what is no chart.

    >>> loss, data = (read_chart(pd.DataFrame({"Step": [1, 2], f"a - {of}": [3, 4], f"b - {of}": [5, 6]}))[0]
    ...               for of in ("loss", "tokens"))
    >>> join_charts([loss, data], ["Step", "Step"]).to_numpy().tolist()
    [['a', 1, 3, 3], ['a', 2, 4, 4], ['b', 1, 5, 5], ['b', 2, 6, 6]]
    """
    if None in axes or len(set(axes)) > 1 or any(frame.columns[0] != RUN for frame in frames):
        return None
    metrics = [name for frame in frames for name in frame.columns[2:]]
    runs = set.intersection(*(set(frame[RUN]) for frame in frames))
    if len(set(metrics)) < len(metrics) or not runs:
        return None
    if any(frame.duplicated([RUN, axes[0]]).any() for frame in frames):
        return None
    joined = frames[0]
    for frame in frames[1:]:
        joined = joined.merge(frame, on=[RUN, str(axes[0])], how="outer")
    return joined


def _find_base(name: str) -> str:
    return name.removesuffix(LEAST if name.endswith(LEAST) else MOST)


def _split_names(bases: list[str]) -> dict[str, tuple[str, str]]:
    """Returns the run and the metric of each column: the metric is what ends the most names, and of these the longest.

    >>> _split_names(["7B - a - loss", "7B - b - loss"])
    {'7B - a - loss': ('7B - a', 'loss'), '7B - b - loss': ('7B - b', 'loss')}
    """
    counts = Counter(metric for base in bases for metric in _find_ends(base))
    found = {}
    for base in bases:
        ends = _find_ends(base)  # the longest first
        most = max(counts[end] for end in ends)
        likely = [end for end in ends if counts[end] == most]
        metric = likely[0] if most > 1 else likely[-1]
        found[base] = (base[: -len(SIGN + metric)], metric)
    return found


def _find_ends(base: str) -> list[str]:
    """Returns what may be the metric in `RUN - METRIC`, the longest first."""
    parts = base.split(SIGN)
    return [SIGN.join(parts[first:]) for first in range(1, len(parts)) if SIGN.join(parts[:first])]


def _find_kept(frame: pd.DataFrame, bases: list[str]) -> list[str]:
    """Returns which of __MIN and __MAX say more than the value does."""
    return [
        end
        for end in (LEAST, MOST)
        if any(base + end in frame.columns and not _is_same(frame[base], frame[base + end]) for base in bases)
    ]


def _is_same(values: pd.Series, others: pd.Series) -> bool:
    return bool(((values == others) | (values.isna() & others.isna())).all())
