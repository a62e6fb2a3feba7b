"""Whether the runs of a table belong to one series, as laws and lines of N and D take for granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.fitting.notices import Notice

if TYPE_CHECKING:
    import pandas as pd

DESIGNED = ("num_params", "data_seen", "train_flops")  # a label that fixes one of them names a size or a budget
ALIKE = 1.1  # as a factor: budgets that are one differ by rounding and by whole steps
SHOWN = 4  # names that a notice lists


def check_pooling(rows: pd.DataFrame) -> list[Notice]:
    """Returns a notice where runs of several families, or of several series of the same sizes, stand in one table.

    Labels that fix N, D or C are names of sizes or budgets, and belong together.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"family": ["mlp", "cnn"], "num_params": [1e3, 2e3]})
    >>> check_pooling(rows)[0].code
    'pooled_series'
    """
    from analysis.tables.runs import fill_names

    for name in ("family", "label"):  # runs without a name are a series beside those with one
        rows = fill_names(rows, name) if name in rows.columns else rows
    if "family" in rows.columns and rows["family"].nunique() > 1:
        return [_tell(rows, "family", "families")]
    if "label" not in rows.columns or rows["label"].nunique() < 2:
        return []
    designed = [name for name in DESIGNED if name in rows.columns]
    groups = rows.groupby("label")[designed]
    if (groups.max() <= ALIKE * groups.min()).all().any():
        return []
    return [_tell(rows, "label", "labels")]


def _tell(rows: pd.DataFrame, name: str, plural: str) -> Notice:
    counts = rows[name].value_counts()
    named = ", ".join(f"{value}: {count}" for value, count in counts.iloc[:SHOWN].items())
    rest = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    first = next(value for value in counts.index if value != f"(no {name})")
    choose = f"--label {first!r}" if name == "label" else f"--keep {name}=={first}, or a series with --label"
    text = (
        f"runs of {len(counts)} {plural} were pooled ({named}{rest}), as if they differed in N and D alone; choose one "
        f"with {choose}"
    )
    return Notice(code="pooled_series", text=text, is_weak=True)
