"""The card of a report: what papers on scaling laws leave out, filled from the records, for programs to read.

The questions are those of (Mis)Fitting, Li et al. 2025, arXiv 2502.18969, and some that this project adds. What nothing
recorded is null; a reader fills it in, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.report.lines import find_swept
from analysis.report.subject import COMPUTE, DATA, SIZE, UNIQUE, Subject
from analysis.tables.provenance import provenance_of
from analysis.tables.table import fingerprint_table
from scaling.store.columns import CONVENTION, GROUP, TERM

if TYPE_CHECKING:
    from analysis.fitting.fit import Fit
    from scaling.specs.base import Json


def make_card(subject: Subject, fits: Sequence[Fit]) -> Json:
    """Returns the card of a report, with everything that JSON can hold and null for what is not known.

    Args:
      subject: what the report is about.
      fits: every fit that the report rests on.
    """
    return {
        "study": {"name": subject.name, "question": subject.question or None, "source": subject.source},
        "hypothesis": _describe_laws(subject, fits),
        "training": _describe_training(subject),
        "data_collection": _describe_data(subject),
        "fitting": [_describe_fit(fit) for fit in fits],
        "additions": _describe_additions(subject, fits),
    }


def _describe_laws(subject: Subject, fits: Sequence[Fit]) -> list[Json]:
    laws = {fit.law: fit for fit in fits}
    return [
        {
            "law": name,
            "form": fit.form.formula,
            "variables": list(fit.columns),
            "parameters": list(fit.params),
            "held": fit.held or None,
            "source": fit.form.source,
            "target": fit.target or fit.form.target,
        }
        for name, fit in laws.items()
    ] or [{"law": None, "target": subject.target}]


def _describe_training(subject: Subject) -> Json:
    runs, records = subject.runs, list(subject.records.values())
    groups = [name for name in runs.columns if str(name).startswith(GROUP)]
    terms = [name for name in runs.columns if str(name).startswith(TERM)]
    swept = find_swept(subject)
    recipes = [name for name in subject.settings if name not in swept]
    return {
        "num_runs": len(runs),
        "num_not_usable": subject.left_out or None,
        "sizes": _spread(subject, SIZE),
        "data": _spread(subject, DATA),
        "unique_data": _spread(subject, UNIQUE),
        "compute": _spread(subject, COMPUTE),
        "data_unit": subject.data_unit,
        "epochs": _range(runs["epochs"]) if "epochs" in runs.columns else None,
        "num_params_counted_as": _one(runs, CONVENTION) or ("total" if records else None),
        "parameter_groups": [str(name).removeprefix(GROUP) for name in groups] or None,
        "flops_terms": [str(name).removeprefix(TERM) for name in terms] or None,
        "flops_version": sorted({record.flops_version for record in records}) or None,
        "settings_tuned": {name: _spread(subject, name) for name in swept} or None,
        "settings_that_change": {name: _spread(subject, name) for name in recipes} or None,
        "families": sorted(map(str, runs["family"].dropna().unique())) if "family" in runs.columns else None,
        "training_code": sorted({", ".join(f"{k} {v}" for k, v in each.environment.items()) for each in records})
        or None,
        "own_code": {name: value for each in records for name, value in each.code.items()} or None,
        "precision": sorted({str((each.execution or {}).get("precision", "float32")) for each in records}) or None,
    }


def _describe_data(subject: Subject) -> Json:
    records = list(subject.records.values())
    manifests = [record.data for record in records]
    has_evaluations = "is_final" in subject.table.columns and not bool(subject.table["is_final"].eq(True).all())
    return {
        "metric": subject.target,
        "unit": subject.unit or None,
        "better": "lower" if subject.lower_is_better else "higher",
        "transformation": f"laws are fitted to {subject.fitted}" if subject.is_shortfall else None,
        "evaluations_used": "the last of each run",
        "evaluations_recorded": "several of each run" if has_evaluations else "one of each run",
        "smoothing": None,
        "evaluation_set": sorted({(one.evaluation_sha256, one.evaluation_size) for one in manifests}) or None,
        "training_data": sorted({(one.source, one.source_sha256) for one in manifests}) or None,
        "subsets": sorted({one.order for one in manifests}) or None,
        "overlap_with_evaluation": max((one.in_evaluation or 0 for one in manifests), default=None),
        "label_noise": sorted({one.label_noise for one in manifests}) or None,
        "duplication": sorted({one.duplication for one in manifests}) or None,
        "licence": None,
        "columns_derived": dict(provenance_of(subject.table).conventions) or None,
        "table_sha256": fingerprint_table(subject.table),
    }


def _describe_fit(fit: Fit) -> Json:
    return {
        "label": fit.label,
        "law": fit.law,
        "objective": {"name": fit.objective.name, "delta": fit.objective.delta, "value": fit.objective.value,
                      "on": "logarithms" if fit.objective.is_log else "values", "reduction": "sum"},
        "optimiser": "exact linear coefficients in a dense search over the others, then Newton steps from every basin",
        "starts": fit.starts,
        "gradient": fit.gradient,
        "points": fit.n,
        "left_out": fit.left_out or None,
        "estimates": fit.params,
        "ci95": {name: list(ends) for name, ends in fit.ci95.items()},
        "uncertainty": fit.conventions.get("uncertainty"),
        "resamples": len(fit.draws) or None,
        "bootstrap_seed": fit.seed,
        "residual_sd": fit.residual_sd,
        "condition": fit.condition,
        "status": fit.status,
        "warnings": [notice.code for notice in fit.warnings],
    }  # fmt: skip


def _describe_additions(subject: Subject, fits: Sequence[Fit]) -> Json:
    runs = subject.runs
    ratio = runs[DATA] / runs[SIZE] if {SIZE, DATA} <= set(runs.columns) else None
    seeds = runs["seed"].nunique() if "seed" in runs.columns else None
    return {
        "data_per_param": None if ratio is None or not ratio.notna().any() else _range(ratio),
        "seeds": seeds,
        "devices": sorted({f"{n} x {kind}" for kind, n in zip(runs["device_kind"], runs["num_devices"], strict=True)})
        if {"device_kind", "num_devices"} <= set(runs.columns)
        else None,
        "mfu": _range(runs["mfu"]) if "mfu" in runs.columns and runs["mfu"].notna().any() else None,
        "seconds": _total(runs, "wall_seconds"),
        "dollars_at_list_prices": _total(runs, "dollars"),
        "restarts": _total(runs, "num_resumes"),
        "worst_condition": max((fit.condition for fit in fits if fit.condition is not None), default=None),
    }  # fmt: skip


def _spread(subject: Subject, name: str) -> Json | None:
    runs = subject.runs
    if name not in runs.columns or not runs[name].notna().any():
        return None
    low, high = _range(runs[name])
    return {"from": low, "to": high, "values": int(runs[name].nunique())}


def _range(values: Any) -> list[float]:
    data = np.asarray(values.dropna(), dtype=float)
    return [float(data.min()), float(data.max())]


def _total(runs: Any, name: str) -> float | None:
    return float(runs[name].sum()) if name in runs.columns and runs[name].notna().any() else None


def _one(runs: Any, name: str) -> str | None:
    values = runs[name].dropna().unique() if name in runs.columns else []
    return ", ".join(map(str, values)) or None


def find_empty(card: Mapping[str, Any], path: str = "") -> list[str]:
    """Returns the paths of what a card does not know.

    >>> find_empty({"a": None, "b": {"c": 1, "d": None}})
    ['a', 'b.d']
    """
    found = []
    for name, value in card.items():
        here = f"{path}.{name}" if path else name
        if value is None:
            found.append(here)
        elif isinstance(value, Mapping):
            found += find_empty(value, here)
    return found
