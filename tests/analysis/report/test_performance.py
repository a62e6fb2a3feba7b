"""Claims about performance: the laws behind the records, who leads from where, and what was left out."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.report.make import make_report
from analysis.report.page import render_page
from analysis.report.performance import study_performance
from analysis.report.standings import crossing_rows, lead_rows, order_rows
from analysis.report.subject import ReportOptions, study_table
from analysis.tables.table import read_table
from scaling.store.store import Store
from tests.analysis.report.stores import LAWS, SEEDS, SIZES, make_store

FEW = ReportOptions(resamples=50)


@pytest.fixture(scope="module")
def found(report):
    return study_performance(report.subject)


def study(store, options=FEW):
    subject = study_table(str(store.path), read_table(str(store.path)), options)
    return subject, study_performance(subject)


def test_fits_recover_the_laws_behind_the_records(found):
    for label, (floor, scale, exponent) in LAWS.items():
        fit = found.bootstrap.fits[label]
        low, high = fit.ci95["alpha"]
        assert low - 0.02 <= exponent <= high + 0.02
        assert fit.params["E"] == pytest.approx(floor, abs=0.03)
        assert fit.params["A"] == pytest.approx(scale, rel=0.25)
        assert fit.n == len(SIZES) * len(SEEDS)


def test_the_crossing_is_where_the_laws_cross(found):
    (crossing,) = crossing_rows(found.crossings)

    def gap(m):
        return 0.2 + 2.0 * m**-0.5 - 8.0 * m**-0.5477

    truth = np.interp(0.0, [gap(m) for m in range(300, 1200)], range(300, 1200))
    assert crossing["m"] == pytest.approx(truth, rel=0.05)
    assert (crossing["ahead before"], crossing["ahead after"]) == ("flat", "steep")


def test_the_series_with_the_highest_mean_leads_where_higher_is_better(tmp_path):
    laws = {"poor": (0.2, 2.0, 0.5), "good": (0.1, 2.0, 0.5)}
    for metric in ("error", "accuracy"):
        made = make_report(str(make_store(tmp_path / metric, laws, metric=metric).path), options=FEW)
        assert {row["best"] for row in made["performance"].tables()[2].rows} == {"good"}
        assert ", good is significantly ahead of every other series" in made.answer[0]
    noisy = make_report(str(make_store(tmp_path / "noisy", laws, noise=0.9, metric="accuracy").path), options=FEW)
    assert "has the highest mean accuracy" in noisy.answer[0]


def test_accuracy_rises_in_the_figure_and_laws_are_fitted_to_what_it_lacks(tmp_path):
    store = make_store(tmp_path / "store", {"one": (0.1, 2.0, 0.5)}, metric="accuracy")
    subject, found = study(store)
    assert (subject.fitted, subject.lower_is_better) == ("1 - accuracy", False)
    assert found.bootstrap.fits["one"].params["E"] == pytest.approx(0.1, abs=0.03)
    made = make_report(str(store.path), options=FEW)
    (axes,) = made.figure.axes
    curve = next(line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 120)
    assert curve[-1] > curve[0]
    assert axes.get_yscale() == "linear"
    assert any("accuracy rises" in notice for notice in made.notices)


def test_sentences_name_the_leader_and_from_where(report, found):
    first_ahead = next(row["steep"] for row in lead_rows(found.order, list(LAWS)) if row[""] == "<b>third</b>")
    assert first_ahead == "-"
    assert re.match(
        r"From m = (800|1,600|3,200) on, steep is significantly ahead of every other series", report.answer[0]
    )


def test_every_size_has_its_leader(found):
    rows = order_rows(found.order)
    assert [row["m"] for row in rows] == list(SIZES)
    assert rows[0]["best"] == "flat"
    assert rows[-1]["best"] == "steep"
    assert rows[-1]["not significantly behind"] == "nobody"


def test_equal_series_are_unsettled_everywhere(tmp_path):
    twins = {"one": (0.2, 2.0, 0.5), "two": (0.2, 2.0, 0.5)}
    made = make_report(str(make_store(tmp_path / "store", twins, noise=0.05).path), options=FEW)
    unsettled = study_performance(made.subject).unsettled
    assert len(unsettled) <= 3
    inside = [m for m in SIZES if any(low < m < high for low, high in unsettled)]
    assert len(inside) >= len(SIZES) - 1
    assert any("not settled" in sentence for sentence in made.answer)


def test_what_is_flat_and_what_still_improves_have_a_test(tmp_path):
    laws = {"flat": (0.3, 0.0, 0.5), "falling": (0.0, 8.0, 0.5)}
    made = make_report(str(make_store(tmp_path / "store", laws).path), options=FEW)
    slopes = next(table for table in made["performance"].tables() if table.name == "slopes")
    assert {row["series"]: row["verdict"] for row in slopes.rows} == {"flat": "flat", "falling": "improves"}
    assert any("falling still improves; flat is flat" in sentence for sentence in made.answer)


def test_points_below_the_declared_size_are_shown_but_not_fitted(tmp_path):
    _, found = study(make_store(tmp_path / "store", smallest_size=400))
    assert found.bootstrap.ranges["flat"]["data_unique"] == (400, 3200)
    assert found.lines.points["place"].min() == 100


def test_a_store_with_too_few_sizes_to_fit_still_has_a_report(tmp_path):
    store = make_store(tmp_path / "store", sizes=SIZES[:2])
    _, found = study(store)
    assert (found.bootstrap.fits, found.crossings) == ({}, [])
    assert found.notices[0] == "flat is not fitted: 2 different points for the 3 parameters of power_floor"
    assert len(found.lines.points) == 2 * len(LAWS)
    assert make_report(str(store.path), options=FEW)["trust"].missing


def test_options_of_a_fit_reach_the_laws_of_lines(store):
    _, found = study(store, ReportOptions(resamples=20, fit_options={"hold": {"E": 0.1}}, fit={"objective": "log_mse"}))
    assert found.bootstrap.fits["flat"].held == {"E": 0.1}
    assert found.bootstrap.fits["flat"].objective.name == "log_mse"


def test_a_metric_that_no_cell_has_is_refused(tmp_path):
    store = make_store(tmp_path / "store", {"one": (0.1, 2.0, 0.5)}, sizes=SIZES[:1])
    with pytest.raises(AnalysisError, match="--target='top5_error' is unknown"):
        make_report(str(store.path), options=ReportOptions(target="top5_error"))
    empty = Store(tmp_path / "empty")
    empty.create((store.path / "study.json").read_text())
    with pytest.raises(AnalysisError, match="has no complete cell with 'error'; run the study first"):
        make_report(str(empty.path))


def test_valleys_have_no_law_of_one_variable(tmp_path):
    from tests.analysis.report.tables import make_profiles

    table = make_profiles().assign(label=lambda rows: rows["train_flops"].map("C = {:.0e}".format))
    table.to_csv(tmp_path / "runs.csv", index=False)
    made = make_report(str(tmp_path / "runs.csv"), options=FEW)
    found = study_performance(made.subject)
    assert (found.lines.axis, found.lines.keys) == ("num_params", ())
    assert not found.bootstrap.fits
    assert any("performance is a valley" in notice for notice in made.notices)


def test_a_metric_that_rises_without_end_is_shown_and_not_fitted(tmp_path):
    rows = [(m, s, 10.0 * np.log(m)) for m in (10, 20, 40, 80) for s in (0, 1)]
    pd.DataFrame(rows, columns=["data_unique", "seed", "score"]).to_csv(tmp_path / "runs.csv", index=False)
    made = make_report(
        str(tmp_path / "runs.csv"), options=ReportOptions(target="score", higher_is_better=True, resamples=20)
    )
    assert any("no law is fitted" in notice for notice in made.notices)
    assert made.figure is not None


def test_a_series_that_reaches_0_has_no_law_and_says_so(tmp_path):
    store = make_store(tmp_path / "store", {"perfect": (0.0, 0.0, 0.5), **LAWS})
    made = make_report(str(store.path), options=FEW)
    assert "perfect is not fitted: error reaches 0, which has no logarithm; objective mse takes it" in made.notices
    assert {row["label"] for row in made["performance"].tables()[0].rows} == set(LAWS)
    assert "perfect" in render_page(made)
