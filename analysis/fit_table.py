"""Fits of tables: one law to all rows or to every series, as a notebook or a study asks, and what a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.notices import UNITS_DISAGREE, Notice, is_weak
from analysis.fitting.objective import Objective, make_objective
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from analysis.tables.columns import keep_rows, read_numbers
from analysis.tables.provenance import describe, provenance_of
from analysis.tables.runs import fill_names, recognise_checkpoints
from analysis.tables.table import fingerprint_table, select_rows, sort_rows
from analysis.tables.units import check_compute, doubt_counts
from analysis.uncertainty.bootstrap import Bootstrap, bootstrap_fit, bootstrap_series
from analysis.uncertainty.refusals import find_refusal, withhold_intervals
from scaling.specs.fits import DELTA, LAW, AnyScheme, IntervalKind

if TYPE_CHECKING:
    import pandas as pd

SIZE = "data_unique"


def fit(
    table: pd.DataFrame,
    law: str | Law = LAW,
    target: str | None = None,
    *,
    variables: Sequence[str] | None = None,
    keep: Iterable[str] = (),
    objective: str | Objective | None = None,
    delta: float = DELTA,
    tilt: float = 0.5,
    hold: Mapping[str, float] | None = None,
    weights: str | None = None,
    evaluation_size: int | None = None,
    bootstrap: int = 0,
    scheme: AnyScheme = "auto",
    clusters: Sequence[str] | None = None,
    interval: IntervalKind = "percentile",
    seed: int = 0,
) -> Fit:
    """Returns the fit of a law to the usable rows of a table, with intervals; it lists the rows it left out.

    For several series with paired resamples, see `uncertainty.bootstrap_series`.

    Args:
      table: Rows in our column names (`read_table`).
      law: A registered law's name, or a `Law`.
      target: The column to fit; by default the law's own.
      variables: Columns that the law is of, instead of its own.
      keep: Rows to fit, as `loss<3.44`.
      objective: See `analysis.fitting.objective`; the law's own by default.
      delta: Where Huber's quadratic ends, in log y.
      tilt: Of the asymmetric objective.
      hold: Parameters to fix.
      weights: A column of weights, or `noise`: the inverse of the variance measured from repeated seeds.
      evaluation_size: Examples of the evaluation set, which the noise of `error` and `accuracy` follows from.
      bootstrap: Resamples; 0 gives Gauss-Newton intervals.
      scheme: What is drawn anew, see `uncertainty.bootstrap_fit`.
      clusters: Columns whose equal values make rows dependent; by default `cell` and `trunk`.
      interval: `percentile` or `bca`.
      seed: Of the resamples.

    Raises:
      AnalysisError: on an unknown name, a missing column, no usable rows, repeated cells or mixed units; for a law of
        best settings, like `step_law_lr`, on the runs of a sweep.

    >>> table = get_law("power_floor").sample(levels=8, noise=0.0)
    >>> round(fit(table).params["alpha"], 4)
    0.5
    """
    law = get_law(law)
    law = law.bind(variables) if variables else law
    goal, target = make_objective(objective or law.objective, delta, tilt), target or law.target
    distinct, twins = drop_twins(keep_rows(table, keep))
    positive = [*(() if law.may_be_zero else law.variables), *([target] if goal.is_log else [])]
    rows, left_out, rule = select_rows(distinct, [*law.variables, target], positive=positive)
    left_out = {**({"the same cell under another label": twins} if twins else {}), **left_out}
    rows = sort_rows(rows, [*law.variables, target])
    if rows.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the table has no rows"
        raise AnalysisError(f"no row can be fitted by law {law.name}: {reasons}; check --keep and the columns")
    if law.of_best:
        _refuse_sweep(rows, law, target)
    columns = {name: rows[name].to_numpy(dtype=float) for name in law.variables}
    weight, note = _weigh(rows, weights, target, evaluation_size)
    notes = {"rows": rule, **describe(table), **note}
    fitted = fit_law(
        law, columns, rows[target].to_numpy(dtype=float), weights=weight, objective=goal, hold=hold, target=target,
        left_out=left_out, conventions=notes, table_sha256=fingerprint_table(table),
    )  # fmt: skip
    fitted = _warn(fitted, _doubt(rows, law, clusters))
    if not bootstrap:
        return withhold_intervals(fitted, find_refusal(fitted, rows, clusters, weights=weight))
    return bootstrap_fit(
        fitted,
        rows,
        scheme=scheme,
        clusters=clusters,
        interval=interval,
        resamples=bootstrap,
        seed=seed,
        weights=weight,
    )


def _doubt(rows: pd.DataFrame, law: Law, clusters: Sequence[str] | None) -> list[Notice]:
    """Returns what is doubtful of the rows themselves: their units, and whether they are runs."""
    found = []
    if {"num_params", "data_seen"} <= set(law.variables):
        given = provenance_of(rows).columns
        if sentence := check_compute(rows, given):
            found.append(Notice(code=UNITS_DISAGREE, is_weak=True, text=sentence))
        elif sentence := doubt_counts(rows, given):
            found.append(Notice(code="doubtful_counts", text=sentence))
    if "is_final" not in rows.columns and clusters is None and (sentence := recognise_checkpoints(rows)):
        found.append(Notice(code="checkpoints", is_weak=True, text=sentence))
    return found


def _warn(fitted: Fit, notices: Sequence[Notice]) -> Fit:
    """Returns the fit with further warnings, and weak where one of them makes it so."""
    status = "weak" if fitted.status == "ok" and is_weak(notices) else fitted.status
    return fitted.model_copy(update={"warnings": (*fitted.warnings, *notices), "status": status})


def _refuse_sweep(rows: pd.DataFrame, law: Law, target: str) -> None:
    """Refuses runs of a sweep, whose settings were chosen by whoever ran it and say nothing of the best."""
    from analysis.tables.sweeps import find_sweep, name_points

    found = find_sweep(rows, target, law.variables)
    if found is None:
        return
    count, points, at = found
    where = ", ".join(f"{name}={value:.4g}" for name, value in at.items())
    more = f" ({points} points have several)" if points > 1 else ""
    raise AnalysisError(
        f"law {law.name} is of the best {target} at each size, and the table has a sweep: {count} values of it at "
        f"{where}{more}; fit the optima, with --optima loss, or in Python find_best_settings(table, {target!r}, "
        f"by={name_points(rows, law.variables)!r}).fit({law.name!r})"
    )


def drop_twins(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Returns the rows with each cell once, where a store lists it under several labels, and how many went."""
    if not {"cell", "label"} <= set(table.columns):
        return table, 0
    key = [name for name in ("study", "cell", "step", "seed") if name in table.columns]
    twin = table.duplicated(key) & ~table.duplicated([*key, "label"]) & table["cell"].notna()
    return table[~twin], int(twin.sum())


def _weigh(
    rows: pd.DataFrame, weights: str | None, target: str, evaluation_size: int | None
) -> tuple[Array | None, dict[str, str]]:
    """Returns the weights of rows and a note of where they come from."""
    if weights is None:
        return None, {}
    if weights in rows.columns:
        return read_numbers(rows, weights), {"weights": f"column {weights}"}
    if weights != "noise":
        raise suggest_name("weights", weights, [*rows.columns, "noise"])
    from analysis.uncertainty.noise import measure_noise, weigh_rows

    noise = measure_noise(rows, target, evaluation_size=evaluation_size)
    text = (
        f"1 / variance; run noise {noise.run_sd:.3g} of log {target} at {noise.size} = {noise.middle:.3g} "
        f"(exponent {noise.slope:.2g}, {noise.freedom} degrees of freedom), evaluation noise {noise.evaluation_sd:.3g}"
    )
    return weigh_rows(rows, target, noise, evaluation_size=evaluation_size), {"weights": text}


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
    goal = make_objective(declared["objective"], declared["delta"])
    fitted, notices = [], []
    rows, usable = fill_names(rows, "label"), fill_names(usable, "label")
    for label in dict.fromkeys(fill_names(table, "label")["label"]):
        points = usable[usable["label"] == label]
        distinct = len(points[list(law.variables)].drop_duplicates())
        if distinct < len(law.params):
            notices.append(
                f"{label} is not fitted: {distinct} different points for the {len(law.params)} parameters of {law.name}"
            )
        elif goal.is_log and (points[metric] <= 0).any():
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
            row[fit.objective.name] = fit.objective.value
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


def format_estimate(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """Returns a number and its 95 % interval for people, with no more digits than the interval deserves.

    They end at the second digit of half the interval's width; a number keeps one digit in any case, an end two.

    >>> format_estimate(3.401, -20.2, 27.1), format_estimate(0.50031, 0.4991, 0.5012)
    (('3', '-20 … 27'), ('0.5003', '0.4991 … 0.5012'))
    >>> format_estimate(477.8, 101.2, 98765.4), format_estimate(3.401, None, None)
    (('500', '100 … 99,000'), ('3.401', 'unknown'))
    """
    if low is None or high is None or not np.isfinite([value, low, high]).all():
        return f"{value:.4g}", format_interval(low, high)
    half, largest = (high - low) / 2, max(abs(low), abs(high))
    place = _find_digit(half) - 1 if half > 0 else _find_digit(value) - 3
    ends = [0.0 if abs(end) < 1e-5 * largest else end for end in (low, high)]
    return _format_to(value, place, 1), " … ".join(_format_to(end, place, 2) for end in ends)


def _find_digit(value: float) -> int:
    """Returns which power of 10 the first digit of a number stands for."""
    return int(np.floor(np.log10(abs(value)))) if value else 0


def _format_to(value: float, place: int, least: int) -> str:
    """Returns a number whose last digit stands for 10 to the power of `place`, with `least` to 6 digits in all."""
    if not value:
        return "0"
    first = _find_digit(value)
    place = min(max(place, first - 5), first + 1 - least)
    rounded = round(value, -place)
    if not 1e-4 <= abs(rounded) < 1e6:
        return f"{rounded:.{max(0, _find_digit(rounded) - place)}e}"
    return f"{rounded:,.{max(0, -place)}f}"


def _format_end(end: float, largest: float) -> str:
    if abs(end) < 1e-5 * largest:
        return "0"
    return f"{end:,.0f}" if 1000 <= end < 1e6 else f"{end:.3g}"
