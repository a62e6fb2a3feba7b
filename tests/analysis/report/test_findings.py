"""Claims about what the report finds: the laws behind the records, who leads from where, and what was left out."""

import re

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.report.findings import crossing_rows, find_all, lead_rows, order_rows
from analysis.report.page import render_page
from scaling.store.store import Store
from tests.analysis.report.stores import LAWS, SEEDS, SIZES, make_store


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


def test_the_series_with_the_highest_mean_leads_where_higher_is_better(tmp_path):
    laws = {"poor": (0.2, 2.0, 0.5), "good": (0.1, 2.0, 0.5)}
    found = {
        metric: find_all(make_store(tmp_path / metric, laws, metric=metric), 20) for metric in ("error", "accuracy")
    }
    for each in found.values():
        assert set(each.order.sizes["best"]) == {"good"}
        assert ", good is significantly ahead of every other series" in each.sentences[0]
    noisy = find_all(make_store(tmp_path / "noisy", laws, noise=0.9, metric="accuracy"), 20)
    assert "has the highest mean" in noisy.sentences[0]


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
