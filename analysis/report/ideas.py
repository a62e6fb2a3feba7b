"""Ideas against a baseline: what each saves in compute, data, steps and seconds, on curves and on surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.gain import Gain, compare_series, measure_gain
from analysis.decisions.targets import reach_target
from analysis.errors import AnalysisError
from analysis.figures.gain import plot_gain
from analysis.fit_table import format_interval
from analysis.laws.registry import get_law
from analysis.report.section import SAVING, Block, Claim, Picture, Rows, Section, tell
from analysis.report.subject import AMOUNTS, COMPUTE, UNIQUE, Subject
from analysis.report.surfaces import RESAMPLES, Surfaces
from analysis.uncertainty.bootstrap import bootstrap_series

if TYPE_CHECKING:
    from analysis.report.performance import Performance

TITLE = "Ideas against a baseline"
MOST_CANDIDATES = 8
MOST_DRAWN = 1  # candidates with a figure, of each amount that is saved


def make_ideas(subject: Subject, performance: Performance, surfaces: Surfaces) -> Section:
    """Returns the section."""
    groups = list(dict.fromkeys(surfaces.rows[surfaces.column]))
    if len(groups) < 2 and subject.options.baseline is None:
        why = (
            "runs differ in sizes, data and settings alone, and stand for one idea (--baseline LABEL compares "
            "series all the same)"
        )
        return Section("ideas", TITLE, missing=(why,))
    blocks: list[Block] = []
    claims: list[Claim] = []
    notices: list[str] = []
    missing: list[str] = []
    gains = [*_on_surfaces(subject, surfaces, missing), *_on_curves(subject, performance, notices, missing)]
    rows = []
    for gain in gains:
        rows.append(_gain_row(gain))
        notices += tell(gain.notices, f"{gain.candidate}, {gain.axis.noun}")
    gains = sorted(gains, key=_importance, reverse=True)
    claims += [Claim(SAVING, f"{gain}.") for gain in gains if gain.verdict != "unknown"]
    if rows:
        note = "How many times as much the baseline needs for the same performance; above 1, the candidate saves."
        blocks.append(Rows("gains", f"What each saves beside {subject.baseline}", rows, note, ("in words",)))
    drawn: dict[str, int] = {}
    for gain in gains:
        column = str(gain.table.columns[0])
        if drawn.get(column, 0) < MOST_DRAWN:
            drawn[column] = drawn.get(column, 0) + 1
            caption = f"{gain.candidate} beside {gain.base}: {gain}."
            blocks.append(Picture(f"gain{len(blocks)}", plot_gain(gain), caption))
    _add_targets(subject, blocks, notices, missing)
    return Section("ideas", TITLE, tuple(blocks), tuple(claims), tuple(dict.fromkeys(notices)), tuple(missing))


def _importance(gain: Gain) -> tuple[bool, float]:
    """Returns what a reader wants to know first: what is settled, and then what saves most."""
    factor = gain.offset.estimate
    return gain.offset.excludes(1.0), abs(float(np.log(factor))) if 0 < factor < np.inf else 0.0


def _on_surfaces(subject: Subject, surfaces: Surfaces, missing: list[str]) -> list[Gain]:
    """Returns the gain of each idea along the frontiers of its surface and of the baseline's."""
    if len(surfaces.fits) < 2 or surfaces.data != "data_seen":
        return []
    base = _base_group(subject, surfaces)
    if base not in surfaces.fits:
        missing.append(f"gains on surfaces: the baseline {base} has no fitted surface")
        return []
    gains: list[Gain] = []
    for name, fit in list(surfaces.fits.items()):
        if name != base and len(gains) < MOST_CANDIDATES:
            try:
                gains.append(measure_gain(surfaces.fits[base], fit))
            except AnalysisError as error:
                missing.append(f"the gain of {name} on surfaces: {error}")
    return gains


def _base_group(subject: Subject, surfaces: Surfaces) -> str:
    rows = surfaces.rows
    own = rows.loc[rows[subject.by] == subject.baseline, surfaces.column]
    return str(own.iloc[0]) if len(own) else str(rows[surfaces.column].iloc[0])


def _on_curves(subject: Subject, performance: Performance, notices: list[str], missing: list[str]) -> list[Gain]:
    """Returns the gain of each series along the axis that was varied, and along compute where that varies too."""
    lines = performance.lines
    if lines is None or not lines.is_one_a_series or lines.axis not in AMOUNTS:
        return []
    gains = _compare_all(subject, performance.bootstrap, lines.names, missing)
    law = get_law(performance.bootstrap.law.name)
    rows = lines.rows
    # Where m is varied, compute grows with it for no reason of its own, and performance is not a function of it.
    if COMPUTE in rows.columns and lines.axis not in (COMPUTE, UNIQUE) and len(law.variables) == 1:
        levels = rows.groupby(subject.by)[COMPUTE].nunique()
        enough = [label for label in subject.labels if levels[label] > len(law.params)]
        is_positive = bool((rows[subject.fitted] > 0).all()) or subject.declared["objective"] == "mse"
        if subject.baseline in enough and len(enough) > 1 and is_positive:
            goal = {"objective": subject.declared["objective"], "delta": subject.declared["delta"]}
            own = rows[rows[subject.by].isin(enough)].assign(line=lambda each: each[subject.by])
            try:
                bootstrap = bootstrap_series(own, law.bind((COMPUTE,)), subject.fitted, by="line",
                                             resamples=min(RESAMPLES, subject.options.resamples), **goal)  # fmt: skip
            except AnalysisError as error:
                missing.append(f"gains in compute: {error}")
            else:
                notices += [
                    text for label, fit in bootstrap.fits.items() for text in tell(fit.warnings, f"{label}, compute")
                ]
                gains += _compare_all(subject, bootstrap, enough, missing)
    return gains


def _compare_all(subject: Subject, bootstrap: Any, labels: Sequence[str], missing: list[str]) -> list[Gain]:
    gains: list[Gain] = []
    for label in labels:
        if label == subject.baseline or len(gains) >= MOST_CANDIDATES:
            continue
        try:
            gains.append(compare_series(bootstrap, subject.baseline, label, unit=_unit(subject)))
        except AnalysisError as error:
            missing.append(f"the gain of {label}: {error}")
    return gains


def _unit(subject: Subject) -> str | None:
    return subject.data_unit if subject.data_unit in ("examples", "tokens") else None


def _gain_row(gain: Gain) -> dict[str, Any]:
    return {
        "candidate": gain.candidate,
        "of": gain.axis.noun,
        "at": gain.axis.format_amount(gain.reference),
        "factor": gain.offset.estimate,
        "95 %": format_interval(gain.offset.low, gain.offset.high),
        "changed": gain.verdict,
        "in words": str(gain),
    }


def _add_targets(subject: Subject, blocks: list[Block], notices: list[str], missing: list[str]) -> None:
    """Adds what each series needs to reach the worst of their final values."""
    table = subject.table
    if "cell" not in table.columns or "is_final" not in table.columns or len(subject.labels) < 2:
        missing.append(
            "steps, compute and seconds to a target: the table has no row for each evaluation of a run (cell, is_final)"
        )
        return
    over = [name for name in ("step", "data_seen", "train_flops", "wall_seconds") if name in table.columns]
    try:
        found = reach_target(
            table, subject.target, by=subject.by, over=over, baseline=subject.baseline,
            lower_is_better=subject.lower_is_better,
        )  # fmt: skip
    except AnalysisError as error:
        missing.append(f"what a target needs: {error}")
        return
    rows = [
        {
            "of": row["over"], "series": row["label"], "runs": row["runs"], "reached": row["reached"],
            "needs": row["value"],
            "95 %": format_interval(row["low"], row["high"]), "baseline / series": row.get("ratio"),
            "ratio 95 %": format_interval(row.get("ratio_low"), row.get("ratio_high")), "p (Holm)": row.get("p_holm"),
        }
        for row in found.table.to_dict("records")
    ]  # fmt: skip
    title = f"What it takes to reach {subject.target} = {found.level:.4g}, the worst final value of any run"
    blocks.append(Rows("targets", title, rows, "Geometric means over runs that reach it; ratios are paired by seed."))
    notices += tell(found.notices, "target")
