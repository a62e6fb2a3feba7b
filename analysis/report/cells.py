"""The runs behind a report: their state and cost, their learning curves, and how to do it all again."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.figures.style import STYLE, tidy_log_axis
from analysis.report.figure import LEGEND, assign_looks, name_amount, name_target
from analysis.report.section import Picture, Rows, Section, Text
from analysis.report.subject import ALL, AMOUNTS, COUNTED, SEED, Subject
from analysis.tables.table import fingerprint_table
from scaling.specs.fields import shorten
from scaling.store.outline import cell_labels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from scaling.store.record import Record

MOST_LISTED = 2000
MOST_DRAWN = 240  # learning curves
# What a run cost and how it went, under short names.
COURSE = {
    "wall_seconds": "seconds", "dollars": "dollars", "data_per_second": "data a second", "mfu": "MFU",
    "steps_to_target": "steps to target", "loss_spikes": "spikes", "num_resumes": "restarts",
}  # fmt: skip


def make_cells(subject: Subject) -> Section:
    """Returns the section."""
    blocks: list[Text | Rows | Picture] = []
    states = _count_states(subject)
    if states:
        blocks.append(Rows("states", "State and cost by series", states))
    curves, missing = _pick_curves(subject)
    if curves is not None:
        caption = (
            f"Learning curves: {subject.target} at each evaluation against what had been seen. "
            f"{curves['(run)'].nunique()} of {_count_curves(subject)} runs are drawn."
        )
        blocks.append(Picture("curves", _draw_curves(subject, curves), caption))
    if commands := _commands(subject):
        blocks.append(Text("\n".join(commands), is_code=True))
    facts = provenance(subject)
    told = [{"": name, "value": value} for name, value in facts.items()]
    blocks.append(Rows("provenance", "What was trained on, and with what", told, wrap=("value",)))
    rows = _list_cells(subject)
    shown = rows[:MOST_LISTED]
    note = f"The first {MOST_LISTED:,} of {len(rows):,}; scaling table has all." if len(rows) > len(shown) else ""
    title = f"All {len(rows):,} {'cells' if subject.store else 'rows'}"
    blocks.append(Rows("cells", title, shown, note, is_folded=True))
    return Section("cells", "Cells, and how to do it again", tuple(blocks), missing=tuple(missing))


def final_rows(subject: Subject) -> pd.DataFrame:
    """Returns the last row of each run, usable or not, with its series under the subject's column."""
    table = subject.table
    if "is_final" in table.columns:
        table = table[table["is_final"].eq(True).fillna(False)]
    return table.assign(**{ALL: ALL}) if subject.by == ALL else table


def _count_states(subject: Subject) -> list[dict[str, Any]]:
    """Returns a row for each series: how many of its cells are in which state, and what they cost."""
    finals = final_rows(subject)
    if "status" not in finals.columns or subject.store is None:
        return []
    wanted = collections.Counter(label for labels in cell_labels(subject.store.study).values() for label in labels)
    rows = []
    for label in wanted:
        own = finals[finals["label"] == label]
        count = own["status"].value_counts()
        row: dict[str, Any] = {
            "series": label, "cells": wanted[label], "complete": int(count.get("ok", 0)),
            "diverged": int(count.get("diverged", 0)), "failed": int(count.get("failed", 0)),
            "interrupted": int(count.get("interrupted", 0)), "not begun": wanted[label] - len(own),
        }  # fmt: skip
        for name in ("wall_seconds", "dollars", "loss_spikes", "num_resumes"):
            if name in own.columns and own[name].notna().any():
                row[COURSE[name]] = float(own[name].sum())
            else:
                row[COURSE[name]] = None
        rows.append(row)
    return [{name: row[name] for name in row if any(each[name] is not None for each in rows)} for row in rows]


def _list_cells(subject: Subject) -> list[dict[str, Any]]:
    """Returns a row for each run: what it was, what it measured, and how it went."""
    finals = final_rows(subject)
    fields = [
        name
        for name in finals.columns
        if "." in str(name) and COUNTED.get(str(name)) not in finals.columns and finals[name].nunique() > 1
    ]
    measured = [name for name in (subject.target, "loss", "error", "accuracy", "rmse", "r2") if name in finals.columns]
    head = ["cell", *([] if subject.by == ALL else [subject.by]), SEED, *AMOUNTS, "epochs", "peak_lr", "batch_size"]
    names = [*head, *fields, "status", *measured, *COURSE]
    short = {
        **shorten(fields),
        **COURSE,
        subject.by: "series",
        **{name: name_amount(name, subject, short=True) for name in AMOUNTS},
    }
    known = [name for name in dict.fromkeys(names) if name in finals.columns and finals[name].notna().any()]
    kept = [name for name in known if name != "num_resumes" or finals[name].any()]
    rows = finals[kept].astype(object).where(finals[kept].notna(), None)
    return [{short.get(str(name), str(name)): value for name, value in row.items()} for row in rows.to_dict("records")]


def _commands(subject: Subject) -> list[str]:
    """Returns the commands that do it again."""
    source = subject.source
    if subject.store is None:
        return [subject.options.command] if subject.options.command else []
    return [
        f"scaling run {source}/study.json --store {source}-again",
        f"scaling report {source}-again",
        f"scaling table {source} --to records.csv",
    ]


def provenance(subject: Subject) -> dict[str, str]:
    """Returns what the data was, what the manifests prove, checked here and now, and the table's fingerprint."""
    table = {"table": f"{len(subject.table):,} rows, sha256 {fingerprint_table(subject.table)}"}
    return {**(check_records(subject.records) if subject.records else {}), **table}


def check_records(records: Mapping[str, Record]) -> dict[str, str]:
    """Returns the data's hashes and what the manifests prove."""
    manifests = [record.data for record in records.values()]
    by_draw: dict[tuple[Any, ...], list[Any]] = {}
    for one in manifests:
        by_draw.setdefault((one.source_sha256, one.order, one.seed, one.duplication), []).append(one)
    found = {name: [0, 0] for name in ("pairs", "proven")}
    for draw in by_draw.values():
        distinct = {(one.size, tuple(sorted(one.digests.items()))): one for one in draw}
        count = collections.Counter((one.size, tuple(sorted(one.digests.items()))) for one in draw)
        for key, small in distinct.items():
            for other, large in distinct.items():
                if small.size < large.size:
                    pairs = count[key] * count[other]
                    found["pairs"][0] += pairs
                    found["proven"][0] += pairs * small.is_prefix_of(large)
    pairs, proven = found["pairs"][0], found["proven"][0]
    evaluation_sets = {manifest.evaluation_sha256 for manifest in manifests}
    same = "the same for every cell" if len(evaluation_sets) == 1 else f"{len(evaluation_sets)} DIFFERENT ones"
    size = manifests[0].evaluation_size
    environments = sorted({", ".join(f"{n} {v}" for n, v in record.environment.items()) for record in records.values()})
    shared = [one.in_evaluation for one in manifests if one.in_evaluation is not None]
    most = max(shared, default=0)
    overlap = f"{f'at most {most:,}' if most else 'no'} examples of a subset have the inputs of an evaluation example"
    changed = sorted({f"label noise {m.label_noise:g}, duplicates {m.duplication:g}" for m in manifests})
    return {
        "data": ", ".join(sorted({f"{m.source} (sha256 {m.source_sha256[:16]}…)" for m in manifests})),
        "evaluation set": f"{same} ({size:,} examples, sha256 {min(evaluation_sets)[:16]}…)",
        **({"nested subsets": f"{proven:,} of {pairs:,} pairs of records of one seed prove it"} if pairs else {}),
        **({"overlap": overlap} if shared else {}),
        **(
            {"changed on purpose": "; ".join(changed)} if any(m.label_noise or m.duplication for m in manifests) else {}
        ),
        "software": "; ".join(environments),
    }


# --- learning curves ------------------------------------------------------------------------------------------------


def _count_curves(subject: Subject) -> int:
    return int(subject.table["cell"].nunique()) if "cell" in subject.table.columns else 0


def _pick_curves(subject: Subject) -> tuple[pd.DataFrame | None, list[str]]:
    """Returns the evaluations of runs that have several, of as many runs as can be told apart, or why not."""
    table = subject.table
    needed = ("cell", "step", subject.target)
    if any(name not in table.columns for name in needed) or "is_final" not in table.columns:
        return None, ["learning curves: the table has no row for each evaluation of a run (cell, step, is_final)"]
    rows = table.dropna(subset=list(needed)).assign(**({ALL: ALL} if subject.by == ALL else {}))
    rows = rows[rows["step"] > 0].assign(**{"(run)": lambda each: each["cell"].astype(str)})
    rows = rows.drop_duplicates(["(run)", "step"])
    several = rows.groupby("(run)")["step"].transform("size") > 1
    rows = rows[several]
    if rows.empty:
        return None, ["learning curves: no run has several evaluations"]
    runs = list(dict.fromkeys(rows["(run)"]))
    if len(runs) > MOST_DRAWN:
        kept = {runs[int(place)] for place in np.linspace(0, len(runs) - 1, MOST_DRAWN)}
        rows = rows[rows["(run)"].isin(kept)]
    return rows, []


def _draw_curves(subject: Subject, rows: pd.DataFrame) -> Figure:
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    from analysis.figures.shown import ShownFigure

    across = "data_seen" if "data_seen" in rows.columns and rows["data_seen"].notna().all() else "step"
    labels = rows[subject.by].astype(str)
    first = rows.assign(label=labels, line=labels, family=labels, size=0.0).drop_duplicates("label")
    looks = assign_looks(first)
    with mpl.rc_context(STYLE):
        figure = ShownFigure(figsize=(9.6, 4.6), layout="constrained")
        axes = figure.subplots()
        for label, own in rows.assign(label=labels).groupby("label", sort=False):
            paths = [run[[across, subject.target]].to_numpy(dtype=float) for _, run in own.groupby("(run)", sort=False)]
            axes.add_collection(LineCollection(paths, colors=looks[str(label)][0], linewidths=0.7, alpha=0.6))
        axes.autoscale_view()
        axes.set_xscale("log")
        values = rows[subject.target].to_numpy(dtype=float)
        low, high = float(rows[across].min()), float(rows[across].max())
        axes.set_xlim(low / 1.1, high * 1.1)
        tidy_log_axis(axes.xaxis, low, high)
        finite = values[np.isfinite(values)]
        if subject.lower_is_better and (finite > 0).all():
            axes.set_yscale("log")
            axes.set_ylim(finite.min() / 1.05, np.quantile(finite, 0.995) * 1.1)
            tidy_log_axis(axes.yaxis, *axes.get_ylim())
        axes.set(xlabel=name_amount(across, subject), ylabel=name_target(subject))
        handles = [Line2D([], [], color=colour, label=label) for label, (colour, _) in list(looks.items())[:LEGEND]]
        axes.legend(handles=handles, frameon=False, fontsize=9, loc="best")
    return figure
