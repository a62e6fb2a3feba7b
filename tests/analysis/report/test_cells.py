"""Claims about the runs behind a report: what manifests prove, states, costs and learning curves."""

import pytest

from analysis.report.cells import check_records
from analysis.report.make import make_report
from analysis.report.subject import ReportOptions
from tests.analysis.report.stores import SEEDS, SIZES, make_store


def test_manifests_are_checked_and_counted(store):
    facts = check_records(store.records())
    pairs = len(SEEDS) * 9 * len(SIZES) * (len(SIZES) - 1) // 2
    assert facts["nested subsets"] == f"{pairs:,} of {pairs:,} pairs of records of one seed prove it"
    assert facts["evaluation set"].startswith("the same for every cell")


def test_subsets_that_are_not_nested_are_counted_as_such(store):
    records = store.records()
    name, record = next((name, each) for name, each in records.items() if each.data.size == SIZES[0])
    torn = record.data.model_copy(update={"digests": {str(SIZES[0]): "other"}})
    facts = check_records({**records, name: record.model_copy(update={"data": torn})})
    proven, _, total = facts["nested subsets"].partition(" pairs")[0].partition(" of ")
    assert int(total.replace(",", "")) - int(proven.replace(",", "")) == 3 * (len(SIZES) - 1)


def test_every_cell_is_listed_with_its_state(report):
    cells = next(table for table in report["cells"].tables() if table.name == "cells")
    assert len(cells.rows) == 3 * len(SIZES) * len(SEEDS)
    assert {row["status"] for row in cells.rows} == {"ok"}
    assert cells.is_folded


def test_diverged_cells_are_in_the_list_and_not_in_the_laws(tmp_path):
    store = make_store(tmp_path / "store", sizes=SIZES[:4])
    first, record = next(iter(store.records().items()))
    path = store.cell_path(first) / "record.json"
    path.write_text(record.model_copy(update={"status": "diverged"}).canonical_json())
    made = make_report(str(store.path), options=ReportOptions(resamples=20))
    states = next(table for table in made["cells"].tables() if table.name == "states")
    assert [row["diverged"] for row in states.rows] == [1, 0, 0]
    assert len(made.subject.runs) == 3 * 4 * len(SEEDS) - 1


def test_runs_with_several_evaluations_have_learning_curves(tmp_path):
    import pandas as pd

    rows = [(f"c{n}", step, step == 40, step * n, 4.0 / step) for n in (1, 2) for step in (10, 20, 40)]
    table = pd.DataFrame(rows, columns=["cell", "step", "is_final", "data_seen", "loss"])
    table.to_csv(tmp_path / "runs.csv", index=False)
    made = make_report(str(tmp_path / "runs.csv"), options=ReportOptions(resamples=20))
    (curves,) = made["cells"].pictures()
    assert "2 of 2 runs are drawn" in curves.caption
    (paths,) = curves.figure.axes[0].collections
    assert [len(path.vertices) for path in paths.get_paths()] == [3, 3]


@pytest.mark.parametrize("price", [None, 3.6])
def test_dollars_are_there_where_the_price_is_known(tmp_path, price):
    store = make_store(tmp_path / "store", sizes=SIZES[:4])
    for cell, record in store.records().items():
        (store.cell_path(cell) / "record.json").write_text(
            record.model_copy(update={"price_per_hour": price}).canonical_json()
        )
    made = make_report(str(store.path), options=ReportOptions(resamples=20))
    states = next(table for table in made["cells"].tables() if table.name == "states")
    costs = [row.get("dollars") for row in states.rows]
    assert costs == ([None] * 3 if price is None else pytest.approx([16 / 1000] * 3))
