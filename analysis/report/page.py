"""The report as one HTML file without any reference to the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from etils import epath

from analysis.errors import AnalysisError
from analysis.figures.style import render_svg
from analysis.fit_table import fit_rows
from analysis.laws.registry import get_law
from analysis.report.figure import plot_performance
from analysis.report.findings import Findings, crossing_rows, lead_rows, order_rows
from scaling.store.columns import CONVENTION, TOTAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_COLUMNS = ("cell", "label", "data_unique", "seed", "num_params", "epochs", "train_flops", "status", "loss")


def render_page(findings: Findings, store: str) -> str:
    """Returns the report's HTML."""
    labels = list(dict.fromkeys(findings.points["label"]))
    law = get_law(findings.bootstrap.law)
    fits = list(findings.bootstrap.fits.values())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        findings=findings,
        store=store,
        figure=render_svg(draw_figure(findings)),
        law=law,
        objective=fits[0].objective if fits else None,
        uncertainty=fits[0].conventions.get("uncertainty", "") if fits else "",
        fits=format_rows(fit_rows(findings.bootstrap, labels)),
        left_out=[(fit.label, f"{count} rows: {why}") for fit in fits for why, count in fit.left_out.items()],
        warnings=[(fit.label, notice.text) for fit in fits for notice in fit.warnings],
        crossings=format_rows(crossing_rows(findings.crossings)),
        order=format_rows(order_rows(findings.order)),
        leads=format_rows(lead_rows(findings.order, labels)),
        cells=format_rows(_cell_rows(findings)),
    )


def draw_figure(findings: Findings) -> Figure:
    """Returns the report's figure."""
    return plot_performance(
        findings.points,
        findings.bootstrap,
        findings.unsettled,
        findings.metric,
        findings.question,
        findings.data_unit,
    )


def write_page(findings: Findings, store: str, path: str) -> None:
    """Writes the report.

    Raises:
      AnalysisError: the file cannot be written.
    """
    try:
        epath.Path(path).write_text(render_page(findings, store), encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"--out {path!r} cannot be written ({error.strerror}); choose another file") from None


def format_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns rows as text: four significant digits, thousands apart, nothing for what is not counted."""
    return [{name: _format(value) for name, value in row.items()} for row in rows]


def _format(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cell_rows(findings: Findings) -> list[dict[str, Any]]:
    metrics = [name for name in ("error", "accuracy") if name in findings.cells.columns]
    columns = [*CELL_COLUMNS, *metrics, "wall_seconds"]
    if CONVENTION in findings.cells.columns:
        place = columns.index("num_params") + 1
        columns[place:place] = [CONVENTION, TOTAL]
    return findings.cells[columns].astype(object).to_dict("records")  # type: ignore[return-value]
