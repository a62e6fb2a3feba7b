"""Claims about reports of anybody's tables: sections follow from what varies, and none stops the page."""

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.report import make
from analysis.report.make import make_report
from analysis.report.page import render_page
from analysis.report.subject import ReportOptions
from tests.analysis.report.tables import make_grid, make_profiles, make_sweep

FEW = ReportOptions(resamples=40)


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    def write(table, name="runs"):
        path = tmp_path_factory.mktemp("tables") / f"{name}.csv"
        table.to_csv(path, index=False)
        return str(path)

    return write


def rows_of(report, section, name):
    return next((table.rows for table in report[section].tables() if table.name.startswith(name)), [])


@pytest.fixture(scope="module")
def ideas(write):
    return make_report(write(make_grid(("plain", "better"))), options=FEW)


@pytest.fixture(scope="module")
def priced(write):
    """A report of a grid with what its runs cost, one parameter of its law held."""
    table = make_grid().assign(train_flops_spent=lambda rows: rows["train_flops"])
    table = table.assign(wall_seconds=table["train_flops"] / 1e12, dollars=table["train_flops"] / 1e15)
    return make_report(write(table), options=ReportOptions(resamples=20, fit_options={"hold": {"B": 2080.0}}))


def test_ideas_over_sizes_and_data_have_a_surface_each_and_their_gain(ideas):
    assert [row["label"] for row in rows_of(ideas, "size_and_data", "surfaces")] == ["plain", "better"]
    (gain,) = rows_of(ideas, "ideas", "gains")
    assert (gain["candidate"], gain["of"]) == ("better", "compute")
    assert gain["factor"] == pytest.approx(4, rel=0.25)
    assert any("better needs" in sentence and "less compute than plain" in sentence for sentence in ideas.answer)
    assert not ideas.faults


def test_the_answer_has_at_most_five_sentences_and_says_what_it_rests_on(ideas):
    assert 0 < len(ideas.answer) <= 5
    assert "64 runs with loss" in ideas.rests_on
    assert "chinchilla of num_params, data_seen" in ideas.rests_on
    assert "Holm" in ideas.rests_on


def test_profiles_have_valleys_approaches_and_an_optimum(write):
    made = make_report(write(make_profiles((1e17, 4e17, 1.6e18, 6.4e18, 2.56e19))), options=FEW)
    approaches = {row["approach"] for row in rows_of(made, "size_and_data", "approaches")}
    assert {"isoflop_cubic", "isoflop_parabola", "parametric"} <= approaches
    assert any(picture.name.startswith("valleys") for picture in made["size_and_data"].pictures())
    assert "At 2.56e+19 FLOPs the best size is N* =" in made.answer[0]
    assert rows_of(made, "size_and_data", "optima")[0]["C"] == "2.56e+19"


def test_profiles_with_all_minima_at_the_edge_have_their_valleys(write):
    edges = make_profiles(sizes=9).groupby("train_flops").head(4)
    made = make_report(write(edges), options=FEW)
    assert any("isoflop_cubic" in reason and "on the edge" in reason for reason in made["size_and_data"].missing)
    (valleys,) = [picture for picture in made["size_and_data"].pictures() if picture.name.startswith("valleys")]
    assert "grey" in valleys.caption
    assert not made.faults


def test_budgets_of_series_that_are_slices_belong_to_one_surface(write):
    table = make_profiles().assign(label=lambda rows: rows["train_flops"].map("C = {:.0e}".format))
    made = make_report(write(table), options=FEW)
    assert len(rows_of(made, "size_and_data", "surfaces")) == 1
    assert not any("pooled" in notice for notice in made.notices)


def test_two_budgets_are_said_to_be_few(write):
    made = make_report(write(make_profiles((1e17, 1e18))), options=FEW)
    assert any("few_budgets" in notice for notice in made["size_and_data"].notices)


def test_a_sweep_has_its_best_setting_by_size(write):
    made = make_report(write(make_sweep()), options=FEW)
    rows = rows_of(made, "settings", "best_peak_lr")
    found = [float(row["best"]) for row in rows]
    assert found == pytest.approx([0.3 * N ** (-1 / 3) for N in (1e6, 4e6, 1.6e7)], rel=0.1)
    assert "The best peak_lr is" in made.answer[0]
    assert made["ideas"].missing


def test_seconds_and_dollars_are_at_the_rate_of_the_runs(priced):
    (row, *_) = rows_of(priced, "size_and_data", "optima")
    assert float(row["C"]) == pytest.approx(1.2e18)
    assert row["hours, as here"] == pytest.approx(1.2e18 / 1e12 / 3600)
    assert row["dollars, as here"] == pytest.approx(1.2e3)


def test_a_column_of_the_caller_names_series_and_the_baseline(write):
    table = make_grid(("plain", "better")).rename(columns={"label": "recipe"})
    made = make_report(write(table), options=ReportOptions(resamples=20, by="recipe", baseline="better"))
    (gain,) = rows_of(made, "ideas", "gains")
    assert gain["candidate"] == "plain"
    assert gain["factor"] < 1
    for options, message in (
        (ReportOptions(by="recipi"), "--by"), (ReportOptions(baseline="best", by="recipe"), "--baseline"),
        (ReportOptions(target="lose"), "lose"), (ReportOptions(settings=("momentum",)), "momentum"),
    ):  # fmt: skip
        with pytest.raises(AnalysisError, match=message):
            make_report(write(table), options=options)


def test_runs_in_which_nothing_varies_have_their_means(write):
    made = make_report(write(pd.DataFrame({"label": ["a", "a", "b"], "loss": [1.0, 1.1, 2.0]})), options=FEW)
    assert [row["runs"] for row in rows_of(made, "performance", "means")] == [2, 1]
    assert "Nothing that varies here" in made.answer[0]


def test_a_section_that_fails_says_so_and_the_others_are_there(write, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(make, "make_trust", fail)
    made = make_report(write(make_sweep()), options=ReportOptions(resamples=20))
    assert "a fault of this program (ZeroDivisionError: by design)" in made["trust"].missing[0]
    assert "by design" in made.faults[0]
    assert "a fault of this program" in render_page(made)
    assert made["cells"].blocks


def test_rows_that_do_not_count_are_counted(write):
    table = make_sweep().assign(status="ok")
    table.loc[0, "status"] = "diverged"
    made = make_report(write(table), options=FEW)
    assert "1 where status is diverged" in made.rests_on


def test_integers_beyond_64_bits_are_numbers(write):
    table = make_sweep().assign(train_flops=lambda rows: [int(value) * 10**4 for value in rows["train_flops"]])
    assert table["train_flops"].dtype == object
    made = make_report(write(table), options=FEW)
    assert not made.faults
    assert np.isfinite(made.subject.runs["train_flops"]).all()


def test_the_best_of_each_sweep_stands_for_it_on_the_surface(write):
    rows = [
        table.assign(peak_lr=rate, loss=table["loss"] * (1 + cost))
        for rate, cost in ((0.1, 0.05), (0.2, 0.0), (0.4, 0.08))
        for table in [make_grid(seeds=(0,))]
    ]
    made = make_report(write(pd.concat(rows, ignore_index=True)), options=FEW)
    (fitted,) = rows_of(made, "size_and_data", "surfaces")
    assert fitted["n"] == 16
    assert fitted["E"] == pytest.approx(1.7, abs=0.1)
    assert any("16 of 48 runs" in notice for notice in made["size_and_data"].notices)
    approaches = next(table for table in made["size_and_data"].tables() if table.name.startswith("approaches"))
    assert "from 16 runs" in approaches.note


def test_a_report_without_resamples_has_lines_and_no_bands(write):
    made = make_report(write(make_grid()), options=ReportOptions(resamples=0))
    assert not made.faults
    assert rows_of(made, "performance", "fits")


def test_a_parameter_that_only_one_law_has_is_held_there_alone(priced):
    assert rows_of(priced, "performance", "fits")
    assert next(fit for fit in priced.card["hypothesis"] if fit["law"] == "chinchilla")["held"] == {"B": 2080.0}


def test_a_switch_of_two_values_does_not_hide_what_was_varied(write):
    rows = [
        (depth, m, seed, 1 / (m * depth), 10.0 * depth) for depth in (1, 2) for m in (10, 20, 40, 80) for seed in (0, 1)
    ]
    table = pd.DataFrame(rows, columns=["model.depth", "data_unique", "seed", "loss", "num_params"])
    made = make_report(write(table), options=FEW)
    assert len(rows_of(made, "performance", "fits")) == 2
    (axes,) = made.figure.axes
    assert axes.get_xlabel() == "unique data m"
