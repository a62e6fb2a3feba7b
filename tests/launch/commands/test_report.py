"""`scaling report` as a stranger types it: of stores, files and imports, with what it prints, writes and refuses."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from tests import told_runs
from tests.analysis.report.stores import LAWS, SIZES, make_store
from tests.analysis.report.tables import make_grid, make_sweep, surface

LABELS = ("flat", "steep")
FEW = ("--bootstrap", 20)
RECIPES = ("recipes.csv", "--column", "num_params=Model Size", "--by", "recipe", *FEW)


@pytest.fixture(scope="module")
def report_store(here_in, tmp_path_factory):
    """Reports a store whose laws are known, and returns the folder and the document."""

    def report_store(*words):
        here = here_in(tmp_path_factory.mktemp("store"))
        make_store(here.folder / "store", {label: LAWS[label] for label in LABELS}, sizes=SIZES[:4])
        return here.folder, here.json("report", "store", *FEW, *words)

    return report_store


@pytest.fixture(scope="module")
def plain(report_store):
    """A report as it is, in files that the call names."""
    return report_store("--out", "page.html", "--figure", "figure.png")


@pytest.fixture(scope="module")
def marked(report_store):
    """A report with another baseline and with lines, beside its store."""
    lines = ("--line", "people=0.02", "--line", "chance=0.9")
    return report_store("--baseline", LABELS[1], *lines, "--figure", "figure.svg")


@pytest.fixture
def files(here):
    """Tables in the words of others: a grid of two recipes, a sweep, and runs in which nothing varies."""
    grid = make_grid(("plain", "better"), seeds=(0,)).rename(columns={"num_params": "Model Size", "label": "recipe"})
    grid.to_csv(here.folder / "recipes.csv", index=False)
    make_sweep(seeds=(0,)).to_csv(here.folder / "sweep.v2.csv", index=False)
    pd.DataFrame({"label": ["a", "a", "b"], "loss": [1.0, 1.1, 2.0]}).to_csv(here.folder / "same.csv", index=False)
    return here.folder


def rows_of(document, section, start):
    """Returns the rows of the first table of a section whose name starts so."""
    tables = document["sections"][section]["tables"]
    return next((rows for name, rows in tables.items() if name.startswith(start)), [])


def test_the_report_is_one_document_beside_its_page_and_its_figure(marked):
    folder, document = marked
    assert [row["label"] for row in document["fits"]] == list(LABELS)
    assert [row["m"] for row in document["order"]] == list(SIZES[:4])
    assert document["report"] == "store/report.html"
    assert (folder / "store" / "report.html").read_text().startswith("<!")
    assert (folder / "figure.svg").read_text().startswith("<?xml")


def test_the_page_and_the_figure_are_where_the_call_wants_them(plain):
    folder, document = plain
    assert document["report"] == "page.html"
    assert (folder / "page.html").read_text().startswith("<!")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "store" / "report.html").exists()


def test_the_document_has_the_answer_the_sections_and_the_card_that_the_page_has(plain):
    folder, document = plain
    head = ["report", "says", "rests_on", "notices", "fits", "crossings", "order", "sections", "card"]
    assert list(document) == head
    assert list(document["sections"]) == ["performance", "size_and_data", "settings", "ideas", "trust", "cells"]
    for section in document["sections"].values():
        assert list(section) == ["title", "tables", "notices", "missing"]
        assert section["tables"] or section["missing"]
        assert set(section["notices"]) <= set(document["notices"])
    for name in ("fits", "crossings", "order"):
        assert document[name] == document["sections"]["performance"]["tables"][name] != []
    assert len(document["sections"]["cells"]["tables"]["cells"]) == 32
    assert 0 < len(document["says"]) <= 5
    assert document["rests_on"].startswith("Rests on 32 runs with error")
    page = (folder / "page.html").read_text()
    card = re.search(r'<script type="application/json" id="card">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(card) == document["card"]


def test_the_text_has_the_answer_and_says_where_the_page_is(here):
    told_runs.complete(told_runs.make_store(here.folder / "told"))
    done, document = here("report", "told", *FEW), here.json("report", "told", *FEW)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "told: ?"
    assert [line[2:] for line in lines if line.startswith("- ")] == document["says"]
    assert lines[-1] == "report: told/report.html"
    assert "not here: no setting was swept" in done.stdout
    assert rows_of(document, "ideas", "targets")  # of which some numbers are not known
    assert "nan" not in done.stdout.split()
    for notice in document["notices"]:
        assert notice in done.stderr
        assert notice not in done.stdout


def test_the_baseline_is_the_series_that_others_are_compared_with(marked):
    (gain,) = rows_of(marked[1], "ideas", "gains")
    assert gain["candidate"] == LABELS[0]


def test_a_marked_line_is_named_in_the_figure(marked):
    folder, _ = marked
    for text in ((folder / "figure.svg").read_text(), (folder / "store" / "report.html").read_text()):
        assert "<!-- people -->" in text
        assert "<!-- chance -->" in text


def test_a_file_in_other_words_has_a_page_named_after_it_here(here, files):
    document = here.json("report", *RECIPES)
    assert document["report"] == "recipes-report.html"
    assert (files / "recipes-report.html").exists()
    assert [row["label"] for row in rows_of(document, "size_and_data", "surfaces")] == ["plain", "better"]
    (gain,) = rows_of(document, "ideas", "gains")
    assert (gain["candidate"], gain["of"]) == ("better", "compute")
    assert gain["factor"] == pytest.approx(4, rel=0.3)
    assert "N* =" in document["says"][0]


def test_all_rows_are_one_series_where_none_is_asked_for(here, files):
    document = here.json("report", "sweep.v2.csv", *FEW, "--by", "none")
    assert document["report"] == "sweep.v2-report.html"
    assert len(rows_of(document, "settings", "best_peak_lr")) == 3


def test_a_column_that_is_no_known_setting_is_one_when_it_is_named(here, files):
    sweep = pd.read_csv(files / "sweep.v2.csv").rename(columns={"peak_lr": "eta"})
    sweep.to_csv(files / "eta.csv", index=False)
    assert not rows_of(here.json("report", "eta.csv", *FEW), "settings", "best_eta")
    rows = rows_of(here.json("report", "eta.csv", *FEW, "--setting", "eta"), "settings", "best_eta")
    assert [float(row["best"]) for row in rows] == pytest.approx(
        [0.3 * N ** (-1 / 3) for N in (1e6, 4e6, 1.6e7)], rel=0.1
    )


def test_imported_runs_have_a_report_with_curves_beside_their_table(here):
    steps, rows = (10, 100, 1000), []
    for N in np.geomspace(1e5, 1e7, 4):
        for D in np.geomspace(2e6, 2e8, 4):
            rows += [(f"{N:.0f}-{D:.0f}", N, step, D * step / 1000, surface(N, D * step / 1000)) for step in steps]
    names = ["run", "n", "step", "tokens", "val"]
    pd.DataFrame(rows, columns=names).to_csv(here.folder / "history.csv", index=False)
    words = {"loss": "history.val", "num_params": "config.n", "data_seen": "history.tokens", "step": "history.step"}
    columns = [word for name, theirs in words.items() for word in ("--column", f"{name}={theirs}")]
    done = here(
        "import", "csv", "history.csv", "--store", "runs", "--run-column", "run", *columns, "--derive", "train_flops"
    )
    assert done.returncode == 0, done.stderr
    document = here.json("report", "runs", *FEW)
    assert document["report"] == "runs/report.html"
    assert "Learning curves: loss at each evaluation" in (here.folder / "runs" / "report.html").read_text()
    assert "16 of 16 runs are drawn" in (here.folder / "runs" / "report.html").read_text()
    assert {row["approach"] for row in rows_of(document, "size_and_data", "approaches")} >= {"envelope", "parametric"}
    assert json.loads((here.folder / "runs" / "report.json").read_text())  # what the import said of itself


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--baseline", "plian"], ["--baseline='plian' is unknown; did you mean 'plain'"]),
        (["--by", "recipi"], ["--by='recipi' is unknown; did you mean 'recipe'"]),
        (["--target", "lose"], ["'lose' is unknown; did you mean 'loss'"]),
        (["--setting", "momentum"], ["'momentum' is unknown; choose one of"]),
        (["--line", "people"], ["--line 'people' is no pair; write --line NAME=VALUE, for example --line people=0.02"]),
        (["--line", "people=many"], ["--line 'people=many': 'many' is no number; write it like 7e9"]),
        (["--figure", "page.doc"], ["--figure 'page.doc' is no figure file; end it in .svg, .pdf or .png"]),
        (["--figure", "none/f.svg"], ["--figure 'none/f.svg' cannot be written: there is no folder 'none'; make it"]),
        (["--out", "none/page.html"], ["--out 'none/page.html' cannot be written: there is no folder 'none'; make it"]),
        (["--law", "power_flor"], ["'power_flor' is unknown; did you mean 'power_floor'"]),
        (["--law", "step_law_lr"], ["--law step_law_lr is of the best settings", "--optima"]),
        (["--law", "kaplan_ns"], ["--law kaplan_ns is of num_params", "choose another, or use scaling fit"]),
        (["--delta", "-1"], ["delta=-1", "must be positive", "use 1e-3"]),
        (["--bootstrap", "1"], ["--bootstrap 1 gives no interval; choose at least 2"]),
        (["--weights", "sead"], ["--weights='sead' is unknown; did you mean 'seed'"]),
        (["--cluster", "trunk"], ["--cluster='trunk' is unknown; choose one of"]),
        (["--hold", "F=1"], ["--hold='F' is unknown; choose one of"]),
        (["--hold", "E"], ["--hold 'E' is no pair; write --hold NAME=VALUE, for example --hold E=1.69"]),
        (["--higher-is-better"], ["--higher-is-better: of loss, lower values are known to be better; leave"]),
        (["--keep", "loss<0"], ["'recipes.csv' has no usable row with 'loss'"]),
        (["--column", "loss=los"], ["los"]),
    ],
)  # fmt: skip
def test_a_bad_call_is_one_line_before_anything_is_written(here, files, words, parts):
    before = set(files.iterdir())
    done = here("report", *RECIPES, *words)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, ""), done.stderr
    for part in parts:
        assert part in done.stderr
    assert set(files.iterdir()) == before


def test_a_source_that_is_not_there_is_one_line(here):
    for name in ("none", "none.csv"):
        done = here("report", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert f"source='{name}' does not exist; give a store folder or a .csv" in done.stderr


def test_a_report_without_a_figure_has_a_page_and_no_figure(here, files):
    done = here("report", "same.csv", *FEW, "--figure", "figure.svg")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "--figure 'figure.svg': the report has no figure" in done.stderr
    assert "leave --figure out" in done.stderr
    assert (files / "same-report.html").exists()
    assert not (files / "figure.svg").exists()
