"""Size and data: the surface L(N, D) with its efficient path, isoFLOP valleys, envelope, approaches and conventions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from analysis.decisions.approaches import Approach, Approaches, compare_approaches
from analysis.decisions.conventions import compare_conventions
from analysis.decisions.optimum import find_optimum
from analysis.errors import AnalysisError
from analysis.figures.decisions import plot_contours, plot_isoflops
from analysis.figures.frontier import plot_approaches, plot_envelope
from analysis.fit_table import drop_twins, fit_rows, format_interval
from analysis.report.section import OPTIMUM, Block, Claim, Picture, Rows, Section, tell
from analysis.report.subject import COMPUTE, DATA, SIZE, UNIQUE, Subject
from analysis.report.surfaces import RESAMPLES, Surfaces
from analysis.uncertainty.bootstrap import Bootstrap
from scaling.store.columns import TRAINING_FLOPS, is_part

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit

MOST_GROUPS = 4  # ideas with figures of their own
LATER = (1.0, 10.0, 100.0)  # times the largest budget, at which an optimum is told
TITLE = "Size and data"


@dataclasses.dataclass
class _Parts:
    """What a section is put together from."""

    blocks: list[Block]
    claims: list[Claim]
    notices: list[str]
    missing: list[str]


def make_size_and_data(subject: Subject, surfaces: Surfaces) -> Section:
    """Returns the section."""
    parts = _Parts([], [], [*surfaces.notices], [*surfaces.missing])
    if SIZE not in subject.varying or surfaces.data not in subject.varying:
        return Section("size_and_data", TITLE, missing=tuple(parts.missing))
    if surfaces.fits:
        rows = fit_rows(
            Bootstrap(next(iter(surfaces.fits.values())).form, dict(surfaces.fits), {}, {}, 0), list(surfaces.fits)
        )
        law = next(iter(surfaces.fits.values())).form
        note = f"{law.formula}, where y is {subject.fitted}. {law.source}."
        parts.blocks.append(Rows("surfaces", "Fitted surfaces", rows, note))
    groups = list(dict.fromkeys(surfaces.rows[surfaces.column]))
    if surfaces.data == UNIQUE:
        parts.missing.append(
            "the best size for a budget: what varies is unique data m, which runs repeat, and compute does not follow "
            "from N and m"
        )
        groups = []
    for group in groups[:MOST_GROUPS]:
        prefix = f"{group}: " if len(groups) > 1 else ""
        _add_group(subject, surfaces, group, prefix, parts)
    if len(groups) > MOST_GROUPS:
        parts.missing.append(f"{len(groups) - MOST_GROUPS} more of {len(groups)} ideas; keep fewer with --keep")
    return Section(
        "size_and_data", TITLE, tuple(parts.blocks), tuple(parts.claims), tuple(dict.fromkeys(parts.notices)),
        tuple(parts.missing),
    )  # fmt: skip


def _add_group(subject: Subject, surfaces: Surfaces, group: str, prefix: str, parts: _Parts) -> None:
    name = f"{len(parts.blocks)}"
    fit = surfaces.fits.get(group)
    if fit is not None:
        caption = (
            f"{prefix}lines of equal {subject.fitted} over compute C = 6 N D and size N, the runs, and the "
            "compute-optimal size."
        )
        parts.blocks.append(Picture(f"contours{name}", plot_contours(fit, surfaces.of(group)), _title("", caption)))
        _add_optima(subject, fit, prefix, parts)
    if COMPUTE not in subject.runs.columns or not subject.runs[COMPUTE].notna().any():
        parts.missing.append(
            f"{prefix}the three approaches: the table has no train_flops; add --derive train_flops, which is 6 N D"
        )
        return
    table = _evaluations(subject, surfaces, group)
    try:
        found = compare_approaches(
            table, target=subject.fitted, law=subject.surface, fit=fit, tolerance="auto",
            resamples=min(RESAMPLES, subject.options.resamples),
        )  # fmt: skip
    except AnalysisError as error:
        parts.missing.append(f"{prefix}the three approaches: {error}")
        return
    _add_approaches(subject, found, table, name, prefix, parts)
    if any(map(is_part, table.columns)):
        try:
            spread = compare_conventions(table, target=subject.fitted, law=subject.surface)
        except AnalysisError as error:
            parts.missing.append(f"{prefix}conventions: {error}")
        else:
            rows: Any = spread.rows.to_dict("records")
            note = f"Spread of the exponent: {spread.spread:.3g}. " + " ".join(
                f"{a} counts like {b} here." for a, b in spread.same.items()
            )
            title = _title(prefix, "the exponent of N* under every way of counting N and C")
            parts.blocks.append(Rows(f"conventions{name}", title, rows, note))
            parts.notices += tell(spread.warnings, f"{prefix}conventions")


def _title(prefix: str, text: str) -> str:
    return prefix + text if prefix else text[0].upper() + text[1:]


def _evaluations(subject: Subject, surfaces: Surfaces, group: str) -> pd.DataFrame:
    """Returns all rows of the runs of a group, those before the last one too, with what is fitted."""
    rows = surfaces.of(group)
    table = drop_twins(subject.table)[0]
    table = table.drop(columns=[name for name in ("label", "family") if name in table.columns])
    if "cell" in table.columns and "is_final" in table.columns:
        table = table[table["cell"].isin(set(rows["cell"]))]
    else:
        table = table.loc[table.index.intersection(rows.index)]
    return subject.measure.add_to(table)


def _add_optima(subject: Subject, fit: Fit, prefix: str, parts: _Parts) -> None:
    """Adds what to train at the largest budget and beyond it."""
    runs = subject.runs
    spent = runs[COMPUTE] if COMPUTE in runs.columns else TRAINING_FLOPS * runs[SIZE] * runs[DATA]
    seconds, dollars = _rate(subject, "wall_seconds"), _rate(subject, "dollars")
    rows: list[dict[str, Any]] = []
    for factor in LATER:
        budget = float(spent.max()) * factor
        try:
            best = find_optimum(fit, flops=budget)
        except AnalysisError as error:
            parts.missing.append(f"{prefix}the optimum at {budget:.3g} FLOPs: {error}")
            continue
        row: dict[str, Any] = {"C": f"{budget:.3g}"}
        for short, column in (
            ("N*", "num_params"),
            ("D*", "data_seen"),
            ("D*/N*", "data_per_param"),
            (subject.fitted, "loss"),
        ):
            item = best[column]
            row[short], row[f"{short} 95 %"] = f"{item.value:.3g}", format_interval(item.low, item.high)
        row["hours, as here"] = None if seconds is None else budget * seconds / 3600
        row["dollars, as here"] = None if dollars is None else budget * dollars
        rows.append({name: value for name, value in row.items() if value is not None})
        if factor == 1.0 and COMPUTE not in runs.columns:  # else the approaches say it
            weak = ", a weak fit" if fit.status != "ok" else ""
            size, data = (f"{best[name].value:.3g} ({format_interval(*best[name].ends)})" for name in (SIZE, DATA))
            text = (
                f"{prefix}At {budget:.3g} FLOPs (6 N D) the best size is N* = {size} on D* = {data} (parametric{weak})."
            )
            parts.claims.append(Claim(OPTIMUM, text))
        told = [notice for notice in best.warnings if notice.code != "weak_fit"]  # the fit's own are told with it
        parts.notices += tell(told, f"{prefix}optimum at {budget:.3g}")
    note = "By the fitted surface."
    if seconds is not None:
        note += " Hours and dollars are at the rate per FLOP that these runs had on their devices."
    parts.blocks.append(Rows(f"optima{len(parts.blocks)}", _title(prefix, "what to train with a budget"), rows, note))


def _rate(subject: Subject, column: str) -> float | None:
    """Returns what a training FLOP took of a column; None where it is not known."""
    runs, spent = subject.runs, "train_flops_spent"
    if column not in runs.columns or spent not in runs.columns:
        return None
    known = runs[runs[column].notna() & (runs[spent] > 0)]
    return float(known[column].sum() / known[spent].sum()) if len(known) else None


def _add_approaches(
    subject: Subject, found: Approaches, table: pd.DataFrame, name: str, prefix: str, parts: _Parts
) -> None:
    rows = []
    for item in found.found:
        a, b, size, data = item.show()
        rows.append(
            {"approach": item.name, "a: N* ~ C^a": a, "b: D* ~ C^b": b, "N*": size, "D*": data, "status": item.status}
        )
    note = f"At {found.flops:.4g} FLOPs, the largest budget, from {found.n} runs."
    parts.blocks.append(Rows(f"approaches{name}", _title(prefix, "the approaches beside each other"), rows, note))
    parts.missing += [f"{prefix}{which}: {reason}" for which, reason in found.missing.items()]
    known = set() if found.fit is None else {notice.text for notice in found.fit.warnings}
    for names, notice in found.told:
        if notice.text not in known:  # those of the surface are told with it
            parts.notices += tell([notice], f"{prefix}{', '.join(names)}".rstrip(": "))
    profiles = found.isoflops.get("isoflop_cubic") or found.isoflops.get("isoflop_parabola")
    valleys = max(found.valleys.values(), key=lambda budgets: sum(len(item.grid) > 0 for item in budgets), default=())
    if profiles is not None or valleys:
        shape = profiles.curve if profiles is not None else valleys[0].shape
        caption = (
            f"{prefix}isoFLOP valleys: the runs of each budget, the fitted {shape}, its lowest place with the two "
            "sizes around it, and these sizes against compute. Budgets whose minimum is not inside are grey."
        )
        figure = plot_isoflops(profiles or valleys, table, target=subject.fitted)
        parts.blocks.append(Picture(f"valleys{name}", figure, _title("", caption)))
    if found.envelope is not None:
        caption = f"{prefix}the envelope: training curves of every size, and the hull that is lowest at each budget."
        parts.blocks.append(Picture(f"envelope{name}", plot_envelope(found.envelope, table), _title("", caption)))
    if len(found.found) > 1:
        caption = f"{prefix}N* and D* against compute, by every approach."
        parts.blocks.append(Picture(f"frontiers{name}", plot_approaches(found), caption))
    parts.claims.append(Claim(OPTIMUM, _say_optimum(found, prefix)))


def _say_optimum(found: Approaches, prefix: str) -> str:
    """Returns the optimum by the approach that knows most, and how far others agree."""
    order = ("parametric", "isoflop_cubic", "envelope", "isoflop_parabola")
    known = sorted(
        (item for item in found.found if item.knows_size),
        key=lambda item: (item.status != "ok", order.index(item.name)),
    )
    at = f"At {found.flops:.3g} FLOPs"
    if not known:
        return f"{prefix}{at} these runs do not tell the best size: no approach identifies it."
    best: Approach = known[0]
    a, _, size, data = best.show()
    others = f"; {len(known)} approaches differ by {found.size_ratio:.3g} times in N*" if found.size_ratio else ""
    weak = ", a weak fit" if best.status != "ok" else ""
    return (
        f"{prefix}{at} the best size is N* = {size} on D* = {data} ({best.name}{weak}), and N* grows as C^{a}{others}."
    )
