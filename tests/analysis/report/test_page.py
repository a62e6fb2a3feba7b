"""The page: one file that opens offline and says what the records say."""

import html.parser
import json
import re

import pytest

from analysis.errors import AnalysisError
from analysis.figures.style import save_figure
from analysis.fit_table import fit_rows, fit_study, format_interval
from analysis.report.make import make_report
from analysis.report.page import format_rows, render_page, write_page
from analysis.report.subject import ReportOptions
from analysis.tables.table import fingerprint_table
from tests.analysis.report.stores import make_store


class Outside(html.parser.HTMLParser):
    """Collects what a page would load from elsewhere, and checks that tags close."""

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        """Notes what a tag loads."""
        loading = {"src", "srcset", "data", "action", "poster"}
        self.loads += [value for name, value in attributes if name in loading]
        self.loads += [v for name, v in attributes if name.endswith("href") and not (v or "").startswith("#")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in {"meta", "br", "hr", "img", "link", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """Has nothing to close."""
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        """Checks that tags nest."""
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(report):
    return render_page(report)


def test_the_page_is_one_whole_file_that_loads_and_runs_nothing(page):
    parser = Outside()
    parser.feed(page)
    assert ([load for load in parser.loads if not load.startswith("data:")], parser.open) == ([], [])
    assert not re.search(r"url\((?!#)|@import", page)
    assert re.findall(r"<script[^>]*>", page) == ['<script type="application/json" id="card">']


def test_no_two_parts_of_a_page_have_one_name(page):
    parser = Outside()
    parser.feed(page)
    assert len(parser.ids) == len(set(parser.ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(parser.ids)


def test_the_page_shows_every_section_and_every_cell(report, page):
    for heading in (
        "Performance",
        "Size and data",
        "Settings",
        "Ideas against a baseline",
        "How far to trust it",
        "Cells",
    ):
        assert f">{heading}" in page
    source = report.subject.source
    assert f"scaling run {source}/study.json --store {source}-again" in page
    assert fingerprint_table(report.subject.table) in page
    for cell in report.subject.table["cell"]:
        assert cell in page


def test_names_from_records_are_text_and_not_markup(page):
    assert "<b>third</b>" not in page
    assert "&lt;b&gt;third&lt;/b&gt;" in page


def test_a_path_that_looks_like_markup_is_text(tmp_path):
    made = make_report(
        str(make_store(tmp_path / "<i>toy<i>", sizes=(100, 200)).path), options=ReportOptions(resamples=20)
    )
    assert "<i>toy" not in render_page(made)
    assert "&lt;i&gt;toy" in render_page(made)


def test_the_card_in_the_page_is_the_reports(report, page):
    card = re.search(r'<script type="application/json" id="card">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(card) == json.loads(json.dumps(report.card))


def test_equal_records_give_the_same_page_byte_for_byte(store):
    one, two = (render_page(make_report(str(store.path), options=ReportOptions(resamples=50))) for _ in range(2))
    assert one == two


def test_a_report_that_cannot_be_written_is_one_line(report):
    with pytest.raises(AnalysisError, match=r"--out '/proc/report\.html' cannot be written"):
        write_page(report, "/proc/report.html")


def test_the_figure_is_written_in_the_format_of_its_suffix(report, tmp_path):
    for suffix, head in {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}.items():
        path = tmp_path / f"figure.{suffix}"
        save_figure(report.figure, str(path))
        assert path.read_bytes().startswith(head)
    for path, message in (("figure.doc", "end it in"), ("/proc/figure.svg", "cannot be written")):
        with pytest.raises(AnalysisError, match=message):
            save_figure(report.figure, path)


def test_a_store_that_is_being_filled_says_so(tmp_path):
    store = make_store(tmp_path / "store", sizes=(100, 200, 400, 800))
    first = next(iter(store.records()))
    (store.cell_path(first) / "record.json").unlink()
    made = make_report(str(store.path), options=ReportOptions(resamples=20))
    assert made.answer[0] == "INCOMPLETE: 47 of 48 cells have a record; what follows is of those alone."
    states = next(table for table in made["cells"].tables() if table.name == "states")
    assert [row["not begun"] for row in states.rows] == [1, 0, 0]


def test_a_declared_law_may_be_changed_in_the_call(report, store):
    changed, _ = fit_study(report.subject.table, store.study, 20, law="power")
    assert set(changed.fits["flat"].params) == {"A", "alpha"}
    assert [row["label"] for row in fit_rows(changed, ["steep", "flat", "absent"])] == ["steep", "flat"]


def test_numbers_are_written_for_people():
    assert format_interval(0.0, 7e-11) == "0 … 0"
    assert format_interval(8.1e-7, 0.162) == "0 … 0.162"
    assert format_interval(None, 1.0) == "unknown"
    assert format_rows([{"a": 1234, "b": 0.123456, "c": None, "d": float("nan"), "e": True, "f": 51200.0}]) == [
        {"a": "1,234", "b": "0.1235", "c": "", "d": "", "e": "True", "f": "51,200"}
    ]


@pytest.mark.slow
def test_the_page_of_a_thousand_cells_stays_below_five_megabytes(tmp_path):
    laws = {f"series {k}": (0.05 * k, 2.0 + 0.3 * k, 0.4 + 0.02 * k) for k in range(10)}
    sizes = tuple(100 * 2**k for k in range(10))
    store = make_store(tmp_path / "store", laws, 0.02, sizes, seeds=range(10), num_evaluations=12)
    made = make_report(str(store.path), options=ReportOptions(resamples=50))
    assert len(made.subject.runs) == 1000
    assert len(render_page(made).encode()) < 5e6
