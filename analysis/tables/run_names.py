"""How columns that name runs, steps and settings are called, and which rows name one run."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.sweeps import is_numeric, number_values

# Names of a run, from the surest one on; with what stands before a dot or slash, as in config.run_name, left out.
RUN_NAMES = (
    "cell", "run", "run name", "run id", "runs", "runname", "runid", "trial", "trial name", "trial id", "job",
    "job name", "job id", "display name", "name", "id", "uid", "uuid", "key",
)  # fmt: skip
# Names of a run or of many: only what stands in the rows can tell.
LOOSE_NAMES = ("experiment", "experiment name", "experiment id", "exp", "model", "model name", "model id", "file",
               "file name", "filename", "path", "source")  # fmt: skip
STEPS = ("step", "steps", "global step", "iteration", "iter", "iterations", "iters", "update", "updates", "train step")
# What grows along a run beside its steps.
SEEN = (
    "data seen", "tokens", "tokens seen", "num tokens", "total tokens", "train tokens", "training tokens", "examples",
    "examples seen", "samples", "samples seen", "num input tokens seen", "consumed tokens", "consumed samples", "epoch",
    "train flops", "flops", "d",
)  # fmt: skip
# Settings of training by their usual names: rows that differ in one are at different points.
SETTINGS = re.compile(
    r"^(.* )?(batch size|bs|batch|lr|learning rate|peak lr|max lr|min lr|weight decay|wd|warm ?up( \w+)?|width|depth|"
    r"(num |n )?(layers|heads|experts)|d model|d ff|hidden( size| dim)?|dropout|beta ?[12]|momentum|epochs|"
    r"sequence length|seq len|context( length| size)?|block size|vocab( size)?|optimi[sz]er|schedule|scheduler|"
    r"precision|decay|top k|rank|temperature|label smoothing|grad clip|clip|ratio|mixture \w+)$"
)
HELD = ("config", "hparams", "hyperparameters", "params", "param", "args")  # sections that hold settings


def find_text(name: str) -> str:
    """Returns a column's name as plain words in lower case.

    >>> find_text("runName"), find_text("_run-id"), find_text("Unnamed: 0")
    ('run name', 'run id', 'unnamed: 0')
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(name))
    return " ".join(re.sub(r"[_\-.\s/]+", " ", words).lower().split())


def is_empty(column: pd.Series) -> NDArray[np.bool_]:
    """Returns whether each value is missing, or text of nothing but blanks, `[n]`."""
    empty = column.isna().to_numpy(dtype=bool)
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column)):
        codes, distinct = pd.factorize(column.map(lambda value: value if isinstance(value, str) else None))
        blank = np.array([not value.strip() for value in distinct] + [False], dtype=bool)
        empty = empty | blank[codes]
    return empty


def find_rank(name: str, ranks: Mapping[str, int]) -> str | None:
    """Returns under which of some names a column goes, with or without its section; None where under none."""
    last = re.split(r"[./:|]", name.strip())[-1]
    return next((key for key in (find_text(name), find_text(last)) if key in ranks), None)


def find_progress(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Returns the columns of steps, and those of what a run has seen."""
    numbers = [name for name in map(str, table.columns) if name in table.columns and _is_single_number(table, name)]
    words = {name: (find_text(name), find_text(re.split(r"[./:|]", name)[-1])) for name in numbers}
    return (
        [name for name in numbers if any(word in STEPS for word in words[name])],
        [name for name in numbers if any(word in SEEN for word in words[name])],
    )


def _is_single_number(table: pd.DataFrame, name: str) -> bool:
    column = table[name]
    return isinstance(column, pd.Series) and is_numeric(column)


def may_name(column: pd.Series) -> bool:
    """Returns whether a column holds text or whole numbers."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return False
    if is_numeric(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        values = values[np.isfinite(values)]
        return bool((values == np.floor(values)).all())
    return not any(isinstance(value, list | dict | set) for value in column.iloc[:100])


def number_runs(column: pd.Series) -> NDArray[np.int64]:
    """Returns the number of each row's run, -1 where it names none."""
    try:
        codes = pd.factorize(column)[0].astype(np.int64)
    except (TypeError, ValueError, NotImplementedError):
        codes = pd.factorize(column.map(str))[0].astype(np.int64)
    codes[is_empty(column)] = -1
    return codes


def count_values(column: pd.Series, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns how many different values each run has, by its number."""
    values = number_values(column) if is_numeric(column) and column.name != "seed" else number_runs(column)
    known = (codes >= 0) & (values >= 0)
    pairs = np.unique(np.stack([codes[known], values[known]], axis=1), axis=0)
    return np.bincount(pairs[:, 0].astype(np.int64), minlength=int(codes.max(initial=-1)) + 1)


def is_setting(name: str) -> bool:
    """Returns whether a column is a setting of training by its name, or stands in a section of settings.

    >>> [is_setting(name) for name in ("batch_size", "config/foo", "train.loss", "optimizer.weight_decay")]
    [True, True, False, True]
    """
    parts = re.split(r"[./]", name)
    return (
        bool(SETTINGS.match(find_text(name)))
        or bool(SETTINGS.match(find_text(parts[-1])))
        or (len(parts) > 1 and find_text(parts[0]) in HELD)
    )
