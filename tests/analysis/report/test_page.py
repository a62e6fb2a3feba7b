"""The report: one file that opens offline and says what the records say."""

import html.parser
import re

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.figures.style import save_figure
from analysis.fit_table import fit_rows, fit_study, format_interval
from analysis.report.figure import assign_looks
from analysis.report.findings import crossing_rows, find_all, lead_rows, order_rows
from analysis.report.page import draw_figure, format_rows, render_page, write_page
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec
from scaling.specs.study import FitSpec, Series, Study
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.store.store import Store

SIZES = (100, 200, 400, 800, 1600, 3200)
SEEDS = (0, 1, 2, 3)

# Errors that rise above each other by construction: `flat` leads early, `steep` from the crossing at m = 400 on.
LAWS = {"flat": (0.2, 2.0, 0.5), "steep": (0.0, 8.0, 0.5477), "<b>third</b>": (0.5, 2.0, 0.5)}


def make_record(cell: Cell, error: float, status: str = "ok") -> Record:
    final = Evaluation(step=None, data_seen=cell.data.size, train_flops=None, loss=None, metrics={"error": error})
    manifest = SubsetManifest(
        source="digits",
        source_sha256="a" * 64,
        order="independent",
        seed=cell.seed,
        size=cell.data.size,
        digests={str(size): f"{cell.seed}-{size}" for size in SIZES if size <= cell.data.size},
        class_counts=(1,),
        evaluation_size=100,
        evaluation_sha256="b" * 64,
    )
    return Record(
        cell=cell.fingerprint(), family=cell.model.kind, seed=cell.seed, status=status, num_params=10, params={},
        data_unit="examples", data_unique=cell.data.size, epochs=1.0, flops={}, flops_version=1, train_flops_spent=None,
        evaluations=(final,), peak_lr=None, batch_size=None, wall_seconds=1.0, device_kind="cpu", num_devices=1,
        data=manifest, environment={"python": "3"},
    )  # fmt: skip


def make_store(path, laws=LAWS, noise=0.002, sizes=SIZES, smallest_size=1) -> Store:
    generator = np.random.default_rng(0)
    series, records = [], []
    for rank, (label, (floor, scale, exponent)) in enumerate(laws.items()):
        cells = []
        for m in sizes:
            for seed in SEEDS:
                model = LogisticRegressionSpec(inverse_regularization=1.0 + rank)
                cell = Cell(model=model, data=DataSpec(source=DigitsSource(), size=m), seed=seed)
                error = (floor + scale * m**-exponent) * np.exp(generator.normal(0, noise))
                cells.append(cell)
                records.append(make_record(cell, float(error)))
        series.append(Series(label=label, cells=tuple(cells)))
    fit = FitSpec(delta=0.05, smallest_size=smallest_size)
    study = Study(name="toy", question="Who leads?", metric="error", fit=fit, series=tuple(series))
    store = Store(path)
    store.create(study.canonical_json())
    for record in records:
        store.publish(record)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("report") / "store")


@pytest.fixture(scope="module")
def findings(store):
    return find_all(store, resamples=200)


def test_fits_recover_the_laws_behind_the_records(findings):
    for label, (floor, scale, exponent) in LAWS.items():
        fit = findings.bootstrap.fits[label]
        low, high = fit.ci95["alpha"]
        assert low - 0.02 <= exponent <= high + 0.02
        assert fit.params["E"] == pytest.approx(floor, abs=0.03)
        assert fit.params["A"] == pytest.approx(scale, rel=0.25)
        assert fit.n == len(SIZES) * len(SEEDS)


def test_the_crossing_is_where_the_laws_cross(findings):
    (crossing,) = crossing_rows(findings.crossings)

    def gap(m):
        return 0.2 + 2.0 * m**-0.5 - 8.0 * m**-0.5477

    truth = np.interp(0.0, [gap(m) for m in range(300, 900)], range(300, 900))
    assert crossing["m"] == pytest.approx(truth, rel=0.05)
    assert (crossing["ahead before"], crossing["ahead after"]) == ("flat", "steep")


def test_sentences_name_the_leader_and_from_where(findings):
    first_ahead = next(row["steep"] for row in lead_rows(findings.order, list(LAWS)) if row[""] == "<b>third</b>")
    assert first_ahead == "-"
    assert re.match(
        r"From m = (800|1,600) on, steep is significantly ahead of every other series", findings.sentences[0]
    )


def test_every_size_has_its_leader(findings):
    rows = order_rows(findings.order)
    assert [row["m"] for row in rows] == list(SIZES)
    assert rows[0]["best"] == "flat"
    assert rows[-1]["best"] == "steep"
    assert rows[-1]["not significantly behind"] == "nobody"


def test_equal_series_are_unsettled_everywhere(tmp_path):
    twins = {"one": (0.2, 2.0, 0.5), "two": (0.2, 2.0, 0.5)}
    found = find_all(make_store(tmp_path / "store", twins, noise=0.05), resamples=50)
    assert len(found.unsettled) <= 3
    inside = [m for m in SIZES if any(low < m < high for low, high in found.unsettled)]
    assert len(inside) >= len(SIZES) - 1
    assert "not settled" in found.sentences[1]


def test_points_below_the_declared_size_are_shown_but_not_fitted(tmp_path):
    found = find_all(make_store(tmp_path / "store", smallest_size=400), resamples=50)
    assert found.bootstrap.ranges["flat"]["data_unique"] == (400, 3200)
    assert found.points["m"].min() == 100


def test_a_store_with_too_few_sizes_to_fit_still_has_a_report(tmp_path):
    found = find_all(make_store(tmp_path / "store", sizes=SIZES[:2]), resamples=50)
    assert (found.bootstrap.fits, found.crossings) == ({}, [])
    assert found.notices[0] == "flat is not fitted: 2 different points for the 3 parameters of power_floor"
    assert len(found.points) == 2 * len(LAWS)
    assert "<p>None.</p>" in render_page(found, "store")


def test_manifests_are_checked_and_counted(findings):
    pairs = len(LAWS) ** 2 * len(SEEDS) * (len(SIZES) * (len(SIZES) - 1) // 2)
    assert findings.provenance["nested subsets"].startswith(f"{pairs:,} of {pairs:,} pairs")
    assert findings.provenance["evaluation set"].startswith("the same for every cell")


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


def test_diverged_cells_are_counted_and_left_out(tmp_path):
    store = make_store(tmp_path / "store")
    cell = next(iter(store.records()))
    path = store.cell_path(cell) / "record.json"
    spoiled = store.read_record(cell).model_copy(update={"status": "diverged"})
    path.write_text(spoiled.canonical_json())
    found = find_all(Store(store.path), resamples=50)
    assert found.sentences[0] == "Left out of all that follows, final rows: 1 where status is diverged."
    assert found.bootstrap.fits["flat"].n == len(SIZES) * len(SEEDS) - 1


def test_an_incomplete_store_says_so_first(tmp_path):
    store = make_store(tmp_path / "store")
    for path in list(store.path.glob("cells/*/record.json"))[:5]:
        path.unlink()
    found = find_all(store, resamples=20)
    assert found.sentences[0].startswith(f"INCOMPLETE: {3 * 24 - 5} of {3 * 24} cells have a record")


def test_a_series_without_errors_is_shown_and_not_fitted(tmp_path):
    store = make_store(tmp_path / "store", {**LAWS, "perfect": (0.0, 0.0, 1.0)})
    found = find_all(store, resamples=20)
    assert set(found.bootstrap.fits) == set(LAWS)
    assert found.notices == ["perfect is not fitted: error reaches 0, which has no logarithm; objective mse takes it"]
    assert "perfect" in render_page(found, "store")


def test_an_empty_store_is_one_line(tmp_path):
    store = make_store(tmp_path / "store")
    for path in store.path.glob("cells/*/record.json"):
        path.unlink()
    with pytest.raises(AnalysisError, match="has no complete cell with 'error'; run the study first"):
        find_all(store)


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


def test_sizes_of_one_family_share_a_hue_and_darken():
    points = pd.DataFrame(
        {"label": ["s", "l", "x"], "family": ["mlp", "mlp", "forest"], "num_params": [10, 1000, None], "m": 1}
    )
    looks = assign_looks(points)
    brightness = {label: sum(bytes.fromhex(colour[1:])) for label, (colour, _) in looks.items()}
    assert brightness["s"] > brightness["l"]
    assert looks["s"][1] == looks["l"][1] != looks["x"][1]


def test_numbers_are_written_for_people():
    assert format_interval(0.0, 7e-11) == "0 … 0"
    assert format_interval(8.1e-7, 0.162) == "0 … 0.162"
    assert format_interval(None, 1.0) == "unknown"
    assert format_rows([{"a": 1234, "b": 0.123456, "c": None, "d": float("nan"), "e": True, "f": 51200.0}]) == [
        {"a": "1,234", "b": "0.1235", "c": "", "d": "", "e": "True", "f": "51,200"}
    ]
