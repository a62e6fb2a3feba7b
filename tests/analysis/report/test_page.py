"""The report: one file that opens offline and says what the records say."""

import html.parser
import re

import pytest

from analysis.errors import AnalysisError
from analysis.figures.style import save_figure
from analysis.fit_table import fit_rows, fit_study, format_interval
from analysis.report.findings import find_all
from analysis.report.page import draw_figure, format_rows, render_page, write_page


class Outside(html.parser.HTMLParser):
    """Collects what a page would load from elsewhere, and checks that tags close."""

    def __init__(self):
        super().__init__()
        self.loads, self.open = [], []

    def handle_starttag(self, tag, attributes):
        """Notes what a tag loads."""
        loading = {"src", "srcset", "data", "action", "poster"}
        self.loads += [value for name, value in attributes if name in loading]
        self.loads += [v for name, v in attributes if name.endswith("href") and not (v or "").startswith("#")]
        if tag not in {"meta", "br", "hr", "img", "link", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """Has nothing to close."""

    def handle_endtag(self, tag):
        """Checks that tags nest."""
        assert self.open.pop() == tag


def test_the_page_is_one_whole_file_that_loads_nothing(findings):
    page = render_page(findings, "runs/toy")
    parser = Outside()
    parser.feed(page)
    assert (parser.loads, parser.open) == ([], [])
    assert not re.search(r"url\((?!#)|@import|<script", page)


def test_the_page_shows_figure_fits_crossings_cells_and_commands(findings):
    page = render_page(findings, "runs/toy")
    assert page.count("<svg") == 1
    for heading in ("Fitted laws", "Crossing points", "Who is ahead", "How to reproduce"):
        assert heading in page
    assert "scaling run runs/toy/study.json --store runs/toy-again" in page
    assert findings.table_sha256 in page
    for cell in findings.cells["cell"]:
        assert cell in page


def test_names_from_records_are_text_and_not_markup(findings):
    page = render_page(findings, "runs/<i>toy</i>")
    assert "<b>third</b>" not in page
    assert "&lt;b&gt;third&lt;/b&gt;" in page
    assert "<i>toy</i>" not in page


def test_equal_records_give_the_same_page_byte_for_byte(store):
    one, two = (render_page(find_all(store, resamples=50), "store") for _ in range(2))
    assert one == two


def test_a_report_that_cannot_be_written_is_one_line(findings, tmp_path):
    with pytest.raises(AnalysisError, match=r"--out '/proc/report\.html' cannot be written"):
        write_page(findings, "store", "/proc/report.html")


def test_the_figure_is_written_in_the_format_of_its_suffix(findings, tmp_path):
    for suffix, head in {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}.items():
        path = tmp_path / f"figure.{suffix}"
        save_figure(draw_figure(findings), str(path))
        assert path.read_bytes().startswith(head)
    for path, message in (("figure.doc", "end it in"), ("/proc/figure.svg", "cannot be written")):
        with pytest.raises(AnalysisError, match=message):
            save_figure(draw_figure(findings), path)


def test_a_declared_law_may_be_changed_in_the_call(store, findings):
    changed, _ = fit_study(findings.table, store.study, 20, law="power")
    assert set(changed.fits["flat"].params) == {"A", "alpha"}
    assert [row["label"] for row in fit_rows(changed, ["steep", "flat", "absent"])] == ["steep", "flat"]


def test_numbers_are_written_for_people():
    assert format_interval(0.0, 7e-11) == "0 … 0"
    assert format_interval(8.1e-7, 0.162) == "0 … 0.162"
    assert format_interval(None, 1.0) == "unknown"
    assert format_rows([{"a": 1234, "b": 0.123456, "c": None, "d": float("nan"), "e": True, "f": 51200.0}]) == [
        {"a": "1,234", "b": "0.1235", "c": "", "d": "", "e": "True", "f": "51,200"}
    ]
