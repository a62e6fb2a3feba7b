"""Where no interval can be built: which points are independent, why they are too few, and a fit without intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.fitting.fit import Fit
from analysis.fitting.notices import Notice, refuse_intervals
from analysis.laws.law import Array
from analysis.uncertainty.resampling import Draws, number_clusters, settle_seeds
from scaling.specs.fits import AnyScheme

if TYPE_CHECKING:
    import pandas as pd


def name_clusters(rows: pd.DataFrame, names: Sequence[str] | None = None) -> list[str]:
    """Returns the columns that make clusters; by default rows of one cell, and of one trunk, belong together."""
    if names is None:
        return [name for name in ("cell", "trunk") if name in rows.columns and rows[name].notna().any()]
    return list(names)


def find_refusal(
    fit: Fit,
    rows: pd.DataFrame,
    clusters: Sequence[str] | None = None,
    *,
    weights: Array | None = None,
    scheme: AnyScheme = "auto",
) -> list[Notice]:
    """Returns why a fit of these rows can have no interval, or nothing.

    Args:
      fit: Of these rows, by any method.
      rows: The rows that were fitted.
      clusters: As in `bootstrap_fit`.
      weights: Of the points; those of weight 0 do not count.
      scheme: As in `bootstrap_fit`. Where seeds are crossed with sizes, a few of them are no few clusters.

    Raises:
      AnalysisError: if a column of clusters is missing.
    """
    kept = np.ones(len(rows), dtype=bool) if weights is None else np.asarray(weights) > 0
    names = name_clusters(rows, clusters)
    if "seed" in names and (scheme == "seed" or (scheme == "auto" and names == ["seed"])) and "seed" in rows.columns:
        settled = rows.assign(seed=settle_seeds(rows["seed"]))
        if Draws(settled, fit.columns, "seed", 2, 0).can_cross(settled):
            names = [name for name in names if name != "seed"]
    count = len(np.unique(number_clusters(rows, names)[kept]))
    return refuse_intervals(int(kept.sum()), count, len(fit.params), names)


def withhold_intervals(fit: Fit, refused: Sequence[Notice]) -> Fit:
    """Returns the fit with its estimates alone, weak and with the reasons; as it is where there are none.

    A fit without a bootstrap has such reasons too: `withhold_intervals(fit, find_refusal(fit, rows, clusters))`.
    """
    if not refused:
        return fit
    names, size = [*fit.params, *fit.derived], len(fit.params)
    codes = {notice.code for notice in refused} | {"interval_reaches_0"}
    return fit.model_copy(
        update={
            "stderr": dict.fromkeys(names),
            "ci95": dict.fromkeys(names, (None, None)),
            "covariance": [[None] * size for _ in range(size)],
            "conventions": {**fit.conventions, "uncertainty": "none: see the warnings"},
            "warnings": (*(notice for notice in fit.warnings if notice.code not in codes), *refused),
            "status": fit.status if fit.status == "failed" else "weak",
            "draws": (),
        }
    )
