"""Records → laws → decisions; imports no Flax, no TFDS, no W&B; a name of `FACE` loads its module when first used."""

from __future__ import annotations

from typing import Any

# What a notebook needs, by the module that has it. A page for each is in docs/.
FACE = {
    "fit_curves": "fitting.fit_curves",
    "predict_curve": "fitting.fit_curves",
    "score_curve": "fitting.fit_curves",
    "Curve": "laws.schedules",
    "read_curves": "fitting.stored_curves",
    "make_rates": "laws.schedules",
    "compare_parameters": "uncertainty.likelihood",
    "compare_conventions": "decisions.conventions",
    "bootstrap_series": "uncertainty.bootstrap",
    "measure_noise": "uncertainty.noise",
    "find_crossings": "decisions.compare",
    "order_by_size": "decisions.compare",
    "freeze": "validation.frozen",
    "score": "validation.frozen",
    "read_table": "tables.table",
    "write_table": "tables.table",
    "fit": "fit_table",
    "Fit": "fitting.fit",
    "load_fits": "fitting.fit",
    "fit_law": "fitting.fit_law",
    "LAWS": "laws.registry",
    "Law": "laws.law",
    "Range": "laws.law",
    "get_law": "laws.registry",
    "register": "laws.law",
    "predict_interval": "uncertainty.predictions",
    "profile": "uncertainty.profiles",
    "find_optimum": "decisions.optimum",
    "trace_frontier": "decisions.optimum",
    "iso_loss": "decisions.optimum",
    "fit_isoflops": "decisions.isoflop",
    "find_valleys": "decisions.isoflop",
    "fit_envelope": "decisions.envelope",
    "find_best_settings": "decisions.settings",
    "compare_approaches": "decisions.approaches",
    "hold_out": "validation.validate",
    "roll": "validation.validate",
    "run_tournament": "validation.validate",
    "measure_gain": "decisions.gain",
    "compare_ideas": "decisions.ideas",
    "judge_slopes": "decisions.slopes",
    "reach_target": "decisions.targets",
    "assess": "decisions.design",
    "suggest_cells": "decisions.design",
    "make_report": "report.make",
    "Report": "report.make",
    "ReportOptions": "report.subject",
    "write_page": "report.page",
    "plot_fit": "figures.fits",
    "save_figure": "figures.style",
    "plot_contours": "figures.decisions",
    "plot_gain": "figures.gain",
    "plot_isoflops": "figures.decisions",
    "plot_envelope": "figures.frontier",
    "plot_approaches": "figures.frontier",
    "plot_tournament": "figures.decisions",
    "plot_best_settings": "figures.settings",
    "AnalysisError": "errors",
    "Notice": "fitting.notices",
}

__all__ = list(FACE)


def __getattr__(name: str) -> Any:
    from scaling.specs.lazy import load_name  # here, since importing this package loads nothing

    return load_name(__name__, FACE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FACE})
