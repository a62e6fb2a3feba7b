"""Every series of a table, fitted as its study declares, and what a person reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.laws import get_law
from analysis.table import select_rows
from analysis.uncertainty import Bootstrap, bootstrap_series

if TYPE_CHECKING:
    import pandas as pd

SIZE = "data_unique"


def fit_study(
    table: pd.DataFrame, study: Mapping[str, Any], resamples: int, **changes: Any
) -> tuple[Bootstrap, list[str]]:
    """Returns the fits that a study declares, with intervals, and a sentence for each series that cannot be fitted.

    Args:
      table: the study's rows.
      study: as JSON.
      resamples: replicates of the bootstrap.
      **changes: `law`, `objective` or `delta` instead of the declared ones.

    Raises:
      AnalysisError: an unknown law or column, or a value that the law cannot take.
    """
    declared = {**study["fit"], **changes}
    smallest, law, metric = declared.pop("smallest_size"), get_law(declared.pop("law")), study["metric"]
    rows = table[table[SIZE] >= smallest] if SIZE in table.columns else table
    usable, _, _ = select_rows(rows, [*law.variables, metric])
    fitted, notices = [], []
    for label in dict.fromkeys(table["label"]):
        points = usable[usable["label"] == label]
        distinct = len(points[list(law.variables)].drop_duplicates())
        if distinct < len(law.params):
            notices.append(
                f"{label} is not fitted: {distinct} different points for the {len(law.params)} parameters of {law.name}"
            )
        elif declared["objective"] != "mse" and (points[metric] <= 0).any():
            notices.append(f"{label} is not fitted: {metric} reaches 0, which has no logarithm; objective mse takes it")
        else:
            fitted.append(label)
    if not fitted:
        return Bootstrap(law, {}, {}, {}, seed=0), notices
    return bootstrap_series(rows[rows["label"].isin(fitted)], law, metric, resamples=resamples, **declared), notices


def fit_rows(bootstrap: Bootstrap, labels: list[str]) -> list[dict[str, Any]]:
    """Returns a row for each fitted series in the order of `labels`: estimates, 95 % intervals, objective, status."""
    rows = []
    for label in labels:
        if label in bootstrap.fits:
            fit = bootstrap.fits[label]
            row: dict[str, Any] = {"label": label}
            for name, value in fit.params.items():
                row[name], row[f"{name} 95 %"] = value, format_interval(*fit.ci95[name])
            row[str(fit.objective["name"])] = fit.objective["value"]
            rows.append({**row, "n": fit.n, "status": fit.status})
    return rows


def format_interval(low: float | None, high: float | None) -> str:
    """Returns an interval for people.

    >>> format_interval(0.12345, 2100.0)
    '0.123 … 2,100'
    """
    if low is None or high is None or not np.isfinite([low, high]).all():
        return "unknown"
    # An end that is nothing beside the other is a floor at 0 that rounding missed.
    largest = max(abs(low), abs(high), 1e-4)
    return f"{_format_end(low, largest)} … {_format_end(high, largest)}"


def _format_end(end: float, largest: float) -> str:
    if abs(end) < 1e-5 * largest:
        return "0"
    return f"{end:,.0f}" if end >= 1000 else f"{end:.3g}"
