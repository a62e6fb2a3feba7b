"""Sweeps in tables: which rows were run at one point, and at which points one setting was tried at several values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.store.columns import Derived

# Values this close, as a share, are one: a rate of 0.000345 or 0.0003453, data of whole steps of several batches.
SAME = 0.01
# What else says where a run stands; a best setting is one for each of them.
POINT: tuple[str | Derived, ...] = ("num_params", "data_seen", "data_unique", "train_flops")


def number_values(column: pd.Series, tolerance: float = SAME) -> NDArray[np.int64]:
    """Returns the number of each row's value, in ascending order of the values; -1 where it is missing.

    Positive numbers that are within a share of the smallest of them are one value; others must be equal.

    >>> number_values(pd.Series([3e-4, 1e-4, 1.001e-4])).tolist(), number_values(pd.Series(["b", "a", None])).tolist()
    ([1, 0, 0], [1, 0, -1])
    """
    if not is_numeric(column):
        return pd.factorize(column, sort=True)[0].astype(np.int64)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    number, levels, first = np.full(len(values), -1, dtype=np.int64), -1, np.nan
    for place in np.argsort(values, kind="stable"):
        value = values[place]
        if np.isnan(value):
            break  # they are sorted to the end
        if levels < 0 or not (value == first or first < value <= first * (1 + tolerance)):
            levels, first = levels + 1, value
        number[place] = levels
    return number


def is_numeric(column: pd.Series) -> bool:
    """Returns whether a column holds numbers, truth values aside."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def number_points(rows: pd.DataFrame, names: Sequence[str], tolerance: float = SAME) -> NDArray[np.int64]:
    """Returns the number of each row's point: rows whose named columns have the same values are one."""
    if not names:
        return np.zeros(len(rows), dtype=np.int64)
    codes = np.stack([number_values(rows[name], tolerance) for name in names], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def name_points(rows: pd.DataFrame, variables: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns whose values make a point for a law: its variables, and what else of N, D and m varies.

    >>> name_points(pd.DataFrame({"num_params": [1e6, 2e6], "data_seen": [1e7, 2e7], "epochs": [1, 2]}), ["data_seen"])
    ('data_seen', 'num_params')
    """
    others = [name for name in POINT[:-1] if name in rows.columns and name not in variables and is_numeric(rows[name])]
    return (*variables, *(name for name in others if number_values(rows[name]).max() > 0))


def find_sweep(rows: pd.DataFrame, setting: str, variables: Sequence[str]) -> tuple[int, int, dict[str, float]] | None:
    """Returns the most values of a setting at one point, at how many points there are several, and the point of most.

    None where every point has one value, as in a table of optima. One value for each seed is no sweep, since best
    settings may be found seed by seed.

    Args:
      rows: Usable rows.
      setting: The column that may be swept.
      variables: Columns of a law of its best value; N, D, m and C tell points apart too, where the table has them.

    >>> table = pd.DataFrame({"num_params": [1e6, 1e6, 2e6], "peak_lr": [0.1, 0.2, 0.1]})
    >>> find_sweep(table, "peak_lr", ["num_params"])
    (2, 1, {'num_params': 1000000.0})
    """
    names = [*variables, *(name for name in POINT if name in rows.columns and name not in (setting, *variables))]
    if "seed" in rows.columns and rows["seed"].duplicated().any():  # one of its own for every run tells nothing apart
        names.append("seed")
    point, value = number_points(rows, names), number_values(rows[setting])
    count = pd.Series(value).groupby(point).nunique()
    if count.empty or int(count.max()) < 2:
        return None
    first = rows.iloc[int(np.argmax(point == count.idxmax()))]
    return int(count.max()), int((count > 1).sum()), {name: float(first[name]) for name in variables}
