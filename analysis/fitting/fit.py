"""What a fit holds, how it prints, and its JSON file: read back, it predicts bit for bit alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice
from analysis.fitting.objective import Objective
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law

if TYPE_CHECKING:
    import pandas as pd


class Fit(BaseModel):
    """A law with its estimates, their uncertainty and the objective that was reached; saved as one JSON file.

    Attributes:
      law: Name of the law.
      label: The series, where a table has several.
      target: The column that was fitted.
      columns: Columns of the law's variables.
      params: Estimates by name.
      held: Parameters that were fixed beforehand.
      derived: Quantities that follow from the parameters, such as the exponent of the optimal size.
      stderr: Standard errors by name; None where a parameter has none.
      ci95: 95 % intervals of parameters and derived quantities.
      covariance: Of `params`, in their order.
      objective: What was minimised and the value reached.
      gradient: Largest slope of the objective at the optimum in scaled parameters.
      starts: `count` of starts that were refined, and the share that `arrived` at the best objective.
      n: Points fitted.
      dropped: Points left out.
      left_out: Why, with counts.
      ranges: Smallest and largest value of each variable.
      residual_sd: Standard deviation of the residuals in the objective's units, corrected for the parameters.
      noise: Of a run at sizes x: log sd = `log_sd` + the sum of slope times log x, with each column's slope; in the
        objective's units, and empty without a bootstrap or with weights.
      conventions: What else a reader must know.
      condition: Condition number of JᵀJ in (log coefficients, non-linear parameters); None where singular.
      status: `ok`, `weak` (read `warnings`) or `failed`.
      warnings: Coded warnings with remedies.
      seed: Of the resamples.
      draws: Parameters of the resamples, `[R][p]`; empty without a bootstrap.
      code_version: Of this package.
      table_sha256: Fingerprint of the table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    law: str
    label: str | None = None
    target: str | None = None
    columns: tuple[str, ...]
    params: dict[str, float]
    held: dict[str, float] = Field(default_factory=dict)
    derived: dict[str, float] = Field(default_factory=dict)
    stderr: dict[str, float | None]
    ci95: dict[str, tuple[float | None, float | None]]
    covariance: list[list[float | None]]
    objective: Objective
    gradient: float | None
    starts: dict[str, float]
    n: int
    dropped: int
    left_out: dict[str, int] = Field(default_factory=dict)
    ranges: dict[str, tuple[float, float]]
    residual_sd: float | None
    noise: dict[str, float] = Field(default_factory=dict)
    conventions: dict[str, str]
    condition: float | None
    status: str
    warnings: tuple[Notice, ...]
    seed: int | None
    draws: tuple[tuple[float, ...], ...] = Field(default=(), repr=False)
    code_version: str
    table_sha256: str | None

    @property
    def form(self) -> Law:
        """Returns the law itself, on the fit's columns and with what was held."""
        return get_law(self.law).bind(self.columns).hold(self.held)

    @property
    def vector(self) -> Array:
        """Returns the estimates `[p]` in the order of the law's parameters."""
        return np.array(list(self.params.values()))

    @property
    def replicates(self) -> Array:
        """Returns the resamples' parameters `[R, p]`; R is 0 without a bootstrap."""
        return np.array(self.draws, dtype=np.float64).reshape(-1, len(self.params))

    def predict(self, columns: Mapping[str, Any]) -> Array:
        """Returns the fitted law `[n]` at every row of `columns` (a mapping or a table with the fit's columns)."""
        return self.form.predict(self.params, columns)

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each parameter and derived quantity: `estimate stderr low high`."""
        import pandas as pd

        rows = {**self.params, **self.derived}
        ends = {name: self.ci95.get(name, (None, None)) for name in rows}
        return pd.DataFrame(
            {
                "estimate": list(rows.values()),
                "stderr": [self.stderr.get(name) for name in rows],
                "low": [ends[name][0] for name in rows],
                "high": [ends[name][1] for name in rows],
            },
            index=pd.Index(list(rows), name="parameter"),
        ).astype(float)

    def __str__(self) -> str:
        head = f"{self.form.formula}   ({self.objective.name}, n = {self.n}, {self.status})"
        tail = [str(notice) for notice in self.warnings]
        return "\n".join([head, self.to_frame().to_string(float_format=lambda value: f"{value:.6g}"), *tail])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{notice}</li>" for notice in self.warnings)
        head = f"<p><b>{self.form.formula}</b> n = {self.n}, {self.status}</p>"
        return f"{head}{self.to_frame().to_html()}<ul>{notes}</ul>"


def document_fits(fits: Sequence[Fit], *, with_draws: bool = True) -> dict[str, Any]:
    """Returns fits as a JSON document with a list of `fits`; without draws it is short enough to read."""
    leave = set() if with_draws else {"draws"}
    return {"fits": [json.loads(fit.model_dump_json(exclude=leave)) for fit in fits]}


def is_saved_fit(path: str) -> bool:
    """Returns whether a name is that of a saved fit: a JSON file, unless it holds rows of a table."""
    if not path.lower().endswith(".json"):
        return False
    try:
        document = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return True  # and reading it says what is wrong
    return isinstance(document, dict) and ("fits" in document or {"law", "params"} <= set(document))


def load_fits(path: str) -> list[Fit]:
    """Returns the fits of a file that `scaling fit --to` has written.

    Raises:
      AnalysisError: if there is no such file, or it holds no fit.
    """
    file = Path(path)
    if not file.is_file():
        raise AnalysisError(f"fit={path!r} does not exist; write one with scaling fit TABLE --to {path}")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return [Fit.model_validate_json(json.dumps(one)) for one in document.get("fits", [document])]
    except (ValueError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise AnalysisError(f"fit={path!r} holds no saved fit ({reason}); write one with scaling fit --to") from None


def choose_fit(fits: Sequence[Fit], label: str | None) -> Fit:
    """Returns the fit of that label; it may be left out where there is one fit only.

    Raises:
      AnalysisError: if the label is unknown, or needed and not given.
    """
    by_label = {fit.label or "all": fit for fit in fits}
    if label is None:
        if len(fits) > 1:
            raise AnalysisError(f"the file holds {len(fits)} fits; choose one with --label: {', '.join(by_label)}")
        return fits[0]
    if label not in by_label:
        raise suggest_name("--label", label, by_label)
    return by_label[label]


def known(value: float) -> float | None:
    """Returns the number, or None where it is not finite (JSON has no word for that)."""
    return float(value) if np.isfinite(value) else None
