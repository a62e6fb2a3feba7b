"""How well laws extrapolate: fits up to a cut scored beyond it, expanding windows, and a tournament of laws.

The score is the root mean square of log(y_hat / y) over runs beyond the cut, which no law was fitted to: a law
with more parameters always describes the points better, and not always what lies beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.fit_law import Fit, fit_law
from analysis.fitting.objective import Objective
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from analysis.validation.scores import Score, log_errors, summarise_errors
from scaling.specs.fits import DELTA

if TYPE_CHECKING:
    import pandas as pd

WINDOWS = 4  # cuts of a rollout, unless the user names them
FIRST_SHARE = 0.4  # of the levels of an axis, the least that a rollout's first window sees


@dataclass(frozen=True)
class HoldOut:
    """One law, fitted up to a cut and scored beyond it.

    Attributes:
      law: The law.
      fit: Its fit to the rows with `by` up to `cut`.
      by: The column that is cut.
      cut: Where.
      beyond: How many times farther than the largest fitted value of `by` the farthest scored one lies.
      score: Of the rows beyond.
      rows: The rows beyond: the law's columns, `by`, the target, `predicted` and `log_error`.
    """

    law: Law
    fit: Fit
    by: str
    cut: float
    beyond: float
    score: Score
    rows: pd.DataFrame


@dataclass(frozen=True)
class Rollout:
    """One law over several windows, each fitted up to its cut and scored beyond it.

    Attributes:
      law: The law.
      windows: One row for each window: `by cut n_fit n_test beyond rmse max bias status reason`; a window that could
        not be fitted has NaN scores and says why.
      pooled: Score over the observations of all windows together; None unless every window was fitted.
      holdouts: The windows that could be fitted.
    """

    law: Law
    windows: pd.DataFrame
    pooled: Score | None
    holdouts: list[HoldOut] = field(repr=False)

    @property
    def reason(self) -> str:
        """Returns why windows are missing; empty when none is."""
        missing = self.windows[self.windows["reason"] != ""]
        return "; ".join(f"{row.by} <= {row.cut:.4g}: {row.reason}" for row in missing.itertuples())


def hold_out(
    table: pd.DataFrame,
    law: str | Law,
    target: str | None = None,
    *,
    by: str = "train_flops",
    cut: float,
    horizon: float | None = None,
    objective: str | Objective | None = None,
    delta: float = DELTA,
    hold: Mapping[str, float] | None = None,
) -> HoldOut:
    """Returns the law fitted to rows with `by` up to `cut`, and its score on the rows beyond.

    Args:
      table: Rows in the contract's columns; only usable rows count (`table.select_rows`).
      law: A registered law's name, or a `Law`.
      target: Column to fit; the law's own by default. Positive.
      by: Column to extrapolate in: `train_flops`, `num_params`, `data_seen`, `data_unique`, or another.
      cut: Largest value of `by` that is fitted.
      horizon: Score only up to `cut * horizon`; everything beyond by default.
      objective: As in `fitting.fit_law`.
      delta: As in `fitting.fit_law`.
      hold: Parameters to fix, by name.

    Raises:
      AnalysisError: on a missing column, when either side of the cut is empty, or when the fit refuses.
    """
    law = get_law(law)
    target = target or law.target
    rows, by_values = _choose_rows(table, [law], target, [by])
    return _hold_out(rows, law, target, by, by_values[by], cut, horizon, objective, delta, hold)


def roll(
    table: pd.DataFrame,
    law: str | Law,
    target: str | None = None,
    *,
    by: str | Sequence[str] = "train_flops",
    cuts: Sequence[float] | None = None,
    windows: int = WINDOWS,
    horizon: float | None = None,
    objective: str | Objective | None = None,
    delta: float = DELTA,
    hold: Mapping[str, float] | None = None,
) -> Rollout:
    """Returns the law's scores over expanding windows: fitted up to each cut, scored on all beyond.

    Args:
      table: As in `hold_out`.
      law: As in `hold_out`.
      target: As in `hold_out`.
      by: One column, or several whose windows are pooled.
      cuts: Cuts of the one column `by`; by default `windows` levels of each column, evenly spread over the upper part.
      windows: How many cuts of each column.
      horizon: As in `hold_out`.
      objective: As in `hold_out`.
      delta: As in `hold_out`.
      hold: As in `hold_out`.

    Raises:
      AnalysisError: on a missing column, or cuts that leave a side empty.
    """
    law = get_law(law)
    target, axes = target or law.target, [by] if isinstance(by, str) else list(by)
    rows, by_values = _choose_rows(table, [law], target, axes)
    plan = _plan_cuts(by_values, axes, cuts, windows, len(law.params))
    return _roll(rows, law, target, by_values, plan, horizon, objective, delta, hold)


def run_tournament(
    table: pd.DataFrame,
    laws: Sequence[str | Law],
    target: str | None = None,
    *,
    by: str | Sequence[str] = "train_flops",
    cuts: Sequence[float] | None = None,
    windows: int = WINDOWS,
    horizon: float | None = None,
    objective: str | Objective | None = None,
    delta: float = DELTA,
) -> pd.DataFrame:
    """Returns laws ranked by their error beyond the cuts, pooled over windows; the best first.

    Every law sees the same rows, those that have all laws' columns, and the same windows. A law that cannot be fitted
    in some window is listed last, without a rank and with the reason: its pooled error would be over other rows.

    Args:
      table: As in `hold_out`.
      laws: Names of laws, or laws (bound to other columns, for example).
      target: Column to fit; by default that of the first law.
      by: As in `roll`.
      cuts: As in `roll`.
      windows: As in `roll`.
      horizon: As in `hold_out`.
      objective: The same for all laws; by default each law's own.
      delta: As in `hold_out`.

    Returns:
      Columns `rank law formula num_fitted rmse max bias n_test`, then `rmse BY<=CUT` for each window, and `reason`;
      `num_fitted` is the number of parameters. `attrs["rows"]` is the number of rows that all laws saw.

    Raises:
      AnalysisError: if no law is given, two have the same name and columns, or no law's columns are in the table.
    """
    import pandas as pd

    contestants = [get_law(law) for law in laws]
    keys = [(law.name, law.variables, tuple(law.held.items())) for law in contestants]
    if not contestants or len(set(keys)) < len(keys):
        raise AnalysisError(f"laws={[law.name for law in contestants]!r} must be at least one law, each once")
    target, axes = target or contestants[0].target, [by] if isinstance(by, str) else list(by)
    reasons = {key: _name_missing(table, law) for key, law in zip(keys, contestants, strict=True)}
    able = [law for key, law in zip(keys, contestants, strict=True) if not reasons[key]]
    if not able:
        raise AnalysisError(f"laws: none can be fitted to this table: {'; '.join(reasons.values())}")
    rows, by_values = _choose_rows(table, able, target, axes)
    plan = _plan_cuts(by_values, axes, cuts, windows, min(len(law.params) for law in able))
    lines = []
    for key, law in zip(keys, contestants, strict=True):
        line: dict[str, Any] = {"law": law.name, "formula": law.formula, "num_fitted": len(law.params)}
        if reasons[key]:
            lines.append({**line, "reason": reasons[key]})
            continue
        found = _roll(rows, law, target, by_values, plan, horizon, objective, delta, None)
        if found.pooled is not None:
            pooled = found.pooled
            line |= {"rmse": pooled.rmse, "max": pooled.max, "bias": pooled.bias, "n_test": pooled.n}
        line |= {f"rmse {row.by}<={row.cut:.4g}": row.rmse for row in found.windows.itertuples()}
        lines.append({**line, "reason": found.reason})
    frame = pd.DataFrame(lines)
    for name in ("rmse", "max", "bias", "n_test"):
        if name not in frame:
            frame[name] = np.nan
    frame = frame.sort_values("rmse", kind="stable", na_position="last").reset_index(drop=True)
    frame.insert(0, "rank", np.where(frame["rmse"].notna(), np.arange(1, len(frame) + 1), np.nan))
    shown = ["rank", "law", "formula", "num_fitted", "rmse", "max", "bias", "n_test"]
    result = frame[[*shown, *(name for name in map(str, frame) if name.startswith("rmse ")), "reason"]]
    result.attrs["rows"] = len(rows)
    return result


def _name_missing(table: pd.DataFrame, law: Law) -> str:
    missing = [name for name in law.variables if name not in table.columns]
    return f"the table has no column {', '.join(missing)}" if missing else ""


def _choose_rows(
    table: pd.DataFrame, laws: Sequence[Law], target: str, axes: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Array]]:
    """Returns the rows that have every law's columns, and the values of each axis in them."""
    from analysis.tables.table import select_rows

    variables = list(dict.fromkeys(name for law in laws for name in law.variables))
    for name in (*variables, target, *axes):
        if name not in table.columns:
            raise suggest_name("the table lacks a column: column", name, table.columns)
    rows = select_rows(table, [*variables, target], positive=[*variables, target, *axes])[0]
    if rows.empty:
        raise AnalysisError(f"the table has no usable row of {', '.join([*variables, target, *axes])}; see its status")
    return rows, {name: rows[name].to_numpy(dtype=np.float64) for name in axes}


def _plan_cuts(
    by_values: Mapping[str, Array], axes: Sequence[str], cuts: Sequence[float] | None, windows: int, parameters: int
) -> list[tuple[str, float]]:
    """Returns the windows as pairs (column, cut), the same for every law."""
    if cuts is not None:
        if len(axes) != 1:
            raise AnalysisError(f"cuts={list(cuts)!r} belong to one column but by={list(axes)!r} names {len(axes)}")
        if not len(cuts):
            raise AnalysisError("cuts=[] must be at least one value; leave it out for a default")
        return [(axes[0], float(cut)) for cut in sorted(cuts)]
    if windows < 1:
        raise AnalysisError(f"windows={windows} must be at least 1")
    plan: list[tuple[str, float]] = []
    for name in axes:
        levels, counts = np.unique(by_values[name], return_counts=True)
        enough = int(np.searchsorted(np.cumsum(counts), parameters + 1))  # the first cut leaves a point to spare
        first = max(enough, int(np.ceil(FIRST_SHARE * len(levels))) - 1)
        if first > len(levels) - 2:
            raise AnalysisError(
                f"{name} has {len(levels)} levels in {counts.sum()} rows: too few to fit {parameters} parameters and "
                "still score beyond; add sizes, or name the cuts"
            )
        places = np.unique(np.round(np.linspace(first, len(levels) - 2, windows)).astype(int))
        plan += [(name, float(levels[place])) for place in places]
    return plan


def _hold_out(
    rows: pd.DataFrame,
    law: Law,
    target: str,
    by: str,
    values: Array,
    cut: float,
    horizon: float | None,
    objective: str | Objective | None,
    delta: float,
    hold: Mapping[str, float] | None,
) -> HoldOut:
    if horizon is not None and not horizon > 1:
        raise AnalysisError(f"horizon={horizon} must be above 1: scored are rows up to cut * horizon")
    inside = values <= cut
    beyond = ~inside if horizon is None else ~inside & (values <= cut * horizon)
    for name, side in (("up to", inside), ("beyond", beyond)):
        if not side.any():
            limit = f" and up to {cut * horizon:.4g}" if horizon is not None and name == "beyond" else ""
            raise AnalysisError(
                f"cut={cut:.4g} leaves no row {name} it{limit} ({by} runs from {values.min():.4g} to "
                f"{values.max():.4g}); choose a cut between"
            )
    y = rows[target].to_numpy(dtype=np.float64)
    columns = {name: rows[name].to_numpy(dtype=np.float64) for name in law.variables}
    # held-out rows are not merely given weight 0: bounds that scale with the data must not see them either
    fit = fit_law(
        law,
        {name: column[inside] for name, column in columns.items()},
        y[inside],
        objective=objective,
        delta=delta,
        hold=hold,
        target=target,
        conventions={"held out": f"rows with {by} > {cut:.6g}"},
    )
    with np.errstate(all="ignore"):
        predicted = fit.predict({name: column[beyond] for name, column in columns.items()})
    error = log_errors(predicted, y[beyond])
    shown = list(dict.fromkeys([*law.variables, by, target]))
    return HoldOut(
        law=law,
        fit=fit,
        by=by,
        cut=float(cut),
        beyond=float(values[beyond].max() / values[inside].max()),
        score=summarise_errors(error),
        rows=rows.loc[beyond, shown].assign(predicted=predicted, log_error=error),
    )


def _roll(
    rows: pd.DataFrame,
    law: Law,
    target: str,
    by_values: Mapping[str, Array],
    plan: Sequence[tuple[str, float]],
    horizon: float | None,
    objective: str | Objective | None,
    delta: float,
    hold: Mapping[str, float] | None,
) -> Rollout:
    import pandas as pd

    lines, holdouts = [], []
    for by, cut in plan:
        line: dict[str, Any] = {"by": by, "cut": cut, "n_fit": int((by_values[by] <= cut).sum())}
        try:
            if line["n_fit"] < len(law.params) - len(hold or {}):
                raise AnalysisError(f"{line['n_fit']} points for {len(law.params)} parameters")
            one = _hold_out(rows, law, target, by, by_values[by], cut, horizon, objective, delta, hold)
        except AnalysisError as error:
            lines.append({**line, "n_test": 0, "status": "failed", "reason": str(error)})
            continue
        holdouts.append(one)
        score, wrong = one.score, int(np.isinf(one.rows["log_error"]).sum())
        lines.append(
            {
                **line,
                "n_test": score.n,
                "beyond": one.beyond,
                "rmse": score.rmse,
                "max": score.max,
                "bias": score.bias,
                "status": one.fit.status,
                "reason": f"{wrong} of {score.n} predictions are not positive" if wrong else "",
            }
        )
    names = ["by", "cut", "n_fit", "n_test", "beyond", "rmse", "max", "bias", "status", "reason"]
    frame = pd.DataFrame(lines, columns=names)
    whole = len(holdouts) == len(plan)
    errors = np.concatenate([one.rows["log_error"].to_numpy() for one in holdouts]) if whole else np.zeros(0)
    return Rollout(law=law, windows=frame, pooled=summarise_errors(errors) if whole else None, holdouts=holdouts)
