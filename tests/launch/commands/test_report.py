"""`scaling report`: the page and the figure are written, and what they say is printed."""

import pytest

from tests.analysis.report.stores import LAWS, SIZES, make_store

LABELS = ("flat", "steep")


@pytest.fixture
def store(here):
    """The store of a study whose laws are known."""
    make_store(here.folder / "store", {label: LAWS[label] for label in LABELS}, sizes=SIZES[:4])
    return "store"


def test_the_report_is_one_document_beside_its_page_and_its_figure(here, store):
    document = here.json("report", store, "--figure", "figure.png")
    assert [row["label"] for row in document["fits"]] == list(LABELS)
    assert [row["m"] for row in document["order"]] == list(SIZES[:4])
    assert document["report"] == "store/report.html"
    assert (here.folder / "store" / "report.html").read_text().startswith("<!")
    assert (here.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
