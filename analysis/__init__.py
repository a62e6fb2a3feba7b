"""Records → laws → decisions; imports no Flax, no TFDS and no W&B. These names load their module when first used."""

from __future__ import annotations

import importlib
from typing import Any

# What a notebook needs, by the module that has it. A page for each is in docs/.
FACE = {
    "fit_curves": "curves",
    "Curve": "schedules",
    "make_rates": "schedules",
    "compare_parameters": "likelihood",
    "compare_conventions": "conventions",
    "bootstrap_series": "uncertainty",
    "measure_noise": "noise",
    "find_crossings": "compare",
    "order_by_size": "compare",
    "freeze": "frozen",
    "score": "frozen",
    "read_table": "table",
    "write_table": "table",
    "fit": "series",
    "Fit": "fits",
    "load_fits": "fits",
    "fit_law": "fitting",
    "LAWS": "laws",
    "Law": "laws",
    "Range": "laws",
    "get_law": "laws",
    "register": "laws",
    "predict_interval": "predictions",
    "profile": "profiles",
    "find_optimum": "optimum",
    "trace_frontier": "optimum",
    "fit_isoflops": "isoflop",
    "fit_envelope": "envelope",
    "compare_approaches": "approaches",
    "hold_out": "validate",
    "roll": "validate",
    "run_tournament": "validate",
    "measure_gain": "gain",
    "assess": "design",
    "suggest_cells": "design",
    "plot_fit": "plots",
    "save_figure": "plots",
    "plot_contours": "decision_plots",
    "plot_gain": "decision_plots",
    "plot_isoflops": "decision_plots",
    "plot_tournament": "decision_plots",
    "AnalysisError": "errors",
    "Notice": "notices",
}


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{FACE[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *FACE})
