"""Predictions frozen before the runs that judge them: a file with its own hash, a date and the table's hash."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit, known
from analysis.uncertainty.predictions import predict_interval

if TYPE_CHECKING:
    import pandas as pd

MATCH = 1e-9  # distance in log size at which a new run is of a size that was predicted


@dataclass(frozen=True)
class Verdict:
    """How frozen predictions did.

    Attributes:
      table: A row for each new run of a predicted size: the sizes, `predicted low high observed log_error inside`.
      rmse: Root mean square of log(predicted / observed).
      bias: Mean of it; positive where the law was pessimistic.
      coverage: Share of new runs inside their 95 % intervals (of new runs); NaN of a prediction without any.
      unmatched: Predicted sizes without a run yet.
      known: Rows left out because the prediction was fitted to them; 0 where `freeze` was given no table.
      frozen: When the prediction was made.
    """

    table: pd.DataFrame
    rmse: float
    bias: float
    coverage: float
    unmatched: int
    known: int
    frozen: str

    def __str__(self) -> str:
        has_any = np.isfinite(self.coverage)
        inside = f"{self.coverage:.0%} inside their 95 % intervals" if has_any else "predicted without an interval"
        return (
            f"{len(self.table)} runs against predictions of {self.frozen}: log error {self.rmse:.4f} (bias "
            f"{self.bias:+.4f}), {inside}; {self.unmatched} sizes not run yet"
        )


def freeze(
    fit: Fit, columns: Mapping[str, Any], path: str, *, note: str = "", table: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Returns, and writes, the predictions of a fit with 95 % intervals for new runs; the file names its own sha256.

    Args:
      fit: With resamples, or their intervals come from its covariance.
      columns: The law's variables at the sizes that will be run.
      path: Of the file; it must be new, for a frozen prediction is never replaced.
      note: What is being predicted, for people.
      table: What was fitted. Its rows are then known one by one, and left out when the grown table is scored.

    Raises:
      AnalysisError: if the file exists, or a column is missing.
    """
    file = Path(path)
    if file.exists():
        raise AnalysisError(f"path={path!r} exists and a frozen prediction is never replaced; choose another name")
    at = {name: np.atleast_1d(np.asarray(columns[name], dtype=float)).tolist() for name in fit.columns}
    found = predict_interval(fit, {name: np.array(values) for name, values in at.items()}, new_run=True)
    document: dict[str, Any] = {
        "frozen": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "note": note,
        "target": fit.target,
        "sizes": at,
        **{name: [known(value) for value in found[name]] for name in ("estimate", "low", "high")},
        "table_sha256": fit.table_sha256,
        "rows": [] if table is None else sorted(_hash_rows(table, fit.columns, fit.target or "loss")),
        "fit": json.loads(fit.model_dump_json(exclude={"draws"})),
    }
    document["sha256"] = _hash(document)
    with file.open("x", encoding="utf-8") as handle:
        handle.write(json.dumps(document, indent=1) + "\n")
    return document


def score(path: str, table: pd.DataFrame, *, tolerance: float = MATCH) -> Verdict:
    """Returns how a file's predictions did on the runs of a new table.

    Args:
      path: What `freeze` wrote.
      table: New rows with the law's columns and the target; usable rows count (`table.select_rows`).
      tolerance: Relative distance at which a run counts as of a predicted size: a model planned at 1e9 parameters has
        some thousands more or less, so 0.01 is of use where sizes were planned and not counted.

    Raises:
      AnalysisError: if the file was edited, the table is the one that was fitted, or no run has a predicted size.
    """
    import pandas as pd

    from analysis.tables.table import fingerprint_table, select_rows

    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        expected, names = document["sha256"], list(document["sizes"])
    except (OSError, ValueError, KeyError, TypeError):
        raise AnalysisError(f"path={path!r} holds no frozen prediction; write one with freeze()") from None
    if _hash(document) != expected:
        raise AnalysisError(f"path={path!r} was changed after it was frozen (its sha256 differs); restore the original")
    if fingerprint_table(table) == document["table_sha256"]:
        raise AnalysisError("table is the one that the prediction was fitted to; score it on runs made since")
    target = document["target"] or "loss"
    rows, _, _ = select_rows(table, [*names, target], positive=[*names, target])
    seen = set(document.get("rows", ()))
    old = np.array([one in seen for one in _hash_rows(rows, names, target)], dtype=bool)
    rows = rows[~old]
    sizes = np.log(np.array([document["sizes"][name] for name in names]).T)  # [s, v]
    runs = np.log(rows[names].to_numpy(dtype=float))  # [n, v]
    near = (np.abs(runs[:, None, :] - sizes[None, :, :]) <= max(tolerance, MATCH)).all(-1)  # [n, s]
    matched = near.any(axis=1)
    if not matched.any():
        raise AnalysisError(f"no run of the table has a size that {path!r} predicts; predicted: {document['sizes']}")
    which = near[matched].argmax(axis=1)
    low, high, predicted = (np.array(document[name], dtype=float)[which] for name in ("low", "high", "estimate"))
    observed = rows[target].to_numpy(dtype=float)[matched]
    error, is_known = np.log(predicted) - np.log(observed), np.isfinite(low) & np.isfinite(high)
    found = pd.DataFrame(
        {
            **{name: rows[name].to_numpy()[matched] for name in names},
            "predicted": predicted,
            "low": low,
            "high": high,
            "observed": observed,
            "log_error": error,
            "inside": (low <= observed) & (observed <= high),
        }
    )
    return Verdict(
        table=found,
        rmse=float(np.sqrt((error**2).mean())),
        bias=float(error.mean()),
        coverage=float(found.loc[is_known, "inside"].mean()) if is_known.any() else float("nan"),
        unmatched=int((~near.any(axis=0)).sum()),
        known=int(old.sum()),
        frozen=document["frozen"],
    )


def _hash_rows(table: pd.DataFrame, columns: Sequence[str], target: str) -> list[str]:
    """Returns 16 digits for each row, from its sizes and what was measured."""
    values = table[[*columns, target]].to_numpy(dtype=float)
    return [hashlib.sha256(row.astype("<f8").tobytes()).hexdigest()[:16] for row in values]


def _hash(document: Mapping[str, Any]) -> str:
    """Returns the sha256 of a document's canonical JSON without its own hash."""
    bare = {name: value for name, value in document.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
