"""Claims about importing tables: rows are runs, or rows of histories where a column says of which run."""

import pandas as pd
import pytest

from analysis.fit_table import fit
from analysis.tables.table import read_table
from launch.imports.raw import RawFolder


@pytest.fixture
def runs_file(tmp_path):
    """Forty runs that follow a law, as somebody's spreadsheet has them."""
    rows = [
        {"Name": f"r {n} {d}", "Model Size": f"{n}M", "tokens": d, "State": "finished",
         "val loss": 1.7 + 400 / (n * 1e6) ** 0.34 + 410 / d**0.28}
        for n in (1, 3, 10, 30, 100) for d in (1e8, 3e8, 1e9, 3e9, 1e10, 3e10, 1e11, 3e11)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


COLUMNS = [
    "--column", "loss=val loss", "--column", "num_params=count(Model Size)", "--column", "data_seen=tokens",
    "--column", "status=State", "--column", "data_unit='tokens'",
]  # fmt: skip


def test_a_spreadsheet_of_runs_becomes_a_store_that_fits(runs_file, import_runs, tmp_path):
    done = import_runs("csv", runs_file, "--store", tmp_path / "store", *COLUMNS)
    assert done.status == 0, done.err
    table = read_table(str(tmp_path / "store"))
    assert list(table.columns)[:4] == ["study", "cell", "is_final", "status"]
    law = fit(table, "chinchilla", bootstrap=0)
    assert law.n == 40
    assert law.params["alpha"] == pytest.approx(0.34, abs=0.01)


def test_rows_of_histories_are_grouped_by_the_run_column(import_runs, tmp_path):
    rows = [
        {"run": name, "n": n, "step": step, "loss": 3 - step / 10}
        for name, n in (("a", 1), ("b", 2))
        for step in range(4)
    ]
    pd.DataFrame(rows).to_json(tmp_path / "h.jsonl", orient="records", lines=True)
    words = ["jsonl", tmp_path / "h.jsonl", "--store", tmp_path / "store", "--run-column", "run"]
    columns = ["--column", "num_params=n", "--column", "loss=loss", "--column", "step=history.step"]
    assert import_runs(*words, *columns).status == 0
    table = read_table(str(tmp_path / "store"))
    assert table.groupby("cell")["loss"].apply(list).to_dict() == {name: [3.0, 2.9, 2.8, 2.7] for name in "ab"}
    assert table.groupby("cell")["num_params"].apply(set).to_dict() == {"a": {1}, "b": {2}}
    assert table["is_final"].sum() == 2
    assert {run.id: run.config for run in RawFolder(tmp_path / "store").runs()}["a"] == {"run": "a", "n": 1}


def test_a_changed_row_is_fetched_again(runs_file, import_runs, tmp_path):
    words = ["csv", runs_file, "--store", tmp_path / "store", *COLUMNS]
    assert "40 runs fetched" in import_runs(*words).err
    frame = pd.read_csv(runs_file)
    frame.loc[3, "val loss"] = 9.0
    frame.to_csv(runs_file, index=False)
    assert "1 runs fetched, 39 unchanged" in import_runs(*words).err


def test_a_wrong_file_or_column_is_one_line(runs_file, import_runs, tmp_path):
    for words, message in (
        (["csv", tmp_path / "none.csv"], "does not exist"),
        (["csv", runs_file, "--run-column", "nme"], "the file has no such column"),
        (["csv", runs_file, "--column", "loss=val los"], "did you mean 'summary.val loss'"),
        (["csv", runs_file, "--mapping", tmp_path / "none.json"], "does not exist; give a mapping.json"),
        (["csv", runs_file, "--column", "loss"], "is no pair"),
        (["csv", runs_file, "--filter", "{}"], "--filter is for wandb, not for csv"),
    ):
        done = import_runs(*words[:2], "--store", tmp_path / "store", *words[2:])
        assert (done.status, message in done.err) == (2, True), done.err
