"""The report as one HTML file without any reference to the outside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from etils import epath

from analysis.errors import AnalysisError
from analysis.figures.style import render_svg
from analysis.report.card import find_empty
from analysis.report.make import Report
from analysis.report.section import Picture, Rows, Text

# Names of parts of an SVG and references to them: `id="name"`, `href="#name"`, `url(#name)`.
NAMED = re.compile(r'(\bid="|"#|url\(#)([^")]+)(?=[")])')


def render_page(report: Report) -> str:
    """Returns the report's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests |= {
        "rows": lambda block: isinstance(block, Rows),
        "picture": lambda block: isinstance(block, Picture),
        "text": lambda block: isinstance(block, Text),
    }
    environment.filters |= {"cells": format_rows, "svg": _render_figure}
    empty = find_empty(report.card)
    return environment.get_template("page.html").render(
        report=report, subject=report.subject, card=_embed(report.card), num_empty=len(empty), empty=", ".join(empty)
    )


def write_page(report: Report, path: str) -> None:
    """Writes the report.

    Raises:
      AnalysisError: the file cannot be written.
    """
    try:
        epath.Path(path).write_text(render_page(report), encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"--out {path!r} cannot be written ({error.strerror}); choose another file") from None


def format_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns rows as text: four significant digits, thousands apart, nothing for what is not counted."""
    return [{name: _format(value) for name, value in row.items()} for row in rows]


def _format(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _render_figure(picture: Picture) -> str:
    """Returns a figure as SVG whose names of parts are its own, so that several stand in one page."""
    text = render_svg(picture.figure)
    names = set(re.findall(r'\bid="([^"]+)"', text))
    # All in one pass: a figure has hundreds of names in hundreds of kilobytes.
    return NAMED.sub(lambda at: f"{at[1]}{picture.name}-{at[2]}" if at[2] in names else at[0], text)


def _embed(card: Mapping[str, Any]) -> str:
    """Returns a document as JSON that may stand between script tags: nothing in it can end them."""
    return json.dumps(card, indent=1, allow_nan=False).replace("<", "\\u003c")
