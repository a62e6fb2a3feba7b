"""Claims about importing tables: rows are runs, or rows of histories where a column says of which run."""

import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pandas as pd
import pytest

from analysis.fit_table import fit
from analysis.tables.table import read_table
from launch.cli import main
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


def history(steps, loss=lambda step: 4 - step / 1000, **more):
    return pd.DataFrame({"run": "a", "step": steps, "loss": [loss(step) for step in steps], **more})


MAPPED = ["--column", "loss=loss", "--column", "step=history.step"]


def read_history(import_runs, tmp_path, frame, *words):
    """Returns the table of an imported CSV of histories, and what was said."""
    frame.to_csv(tmp_path / "h.csv", index=False)
    store = tmp_path / "store"
    done = import_runs("csv", tmp_path / "h.csv", "--store", store, "--run-column", "run", *MAPPED, *words)
    assert done.status == 0, done.err
    return read_table(str(store)), done.err


@hypothesis.settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(st.permutations(range(16)))
def test_any_order_of_rows_in_the_file_gives_the_same_table(import_runs, tmp_path, places):
    frame = pd.concat([history(range(0, 800, 100)).assign(run=name, n=n) for name, n in (("a", 1), ("b", 2))])
    with tempfile.TemporaryDirectory(dir=tmp_path) as here:
        table, said = read_history(import_runs, Path(here), frame.iloc[places])
    for name in "ab":
        assert table[table["cell"] == name]["step"].tolist() == list(range(0, 800, 100))
    final = table[table["is_final"]]
    assert (final["step"].tolist(), final["loss"].tolist()) == ([700, 700], [3.3, 3.3])
    assert "superseded" not in said


@pytest.mark.parametrize("order", ["as logged", "newest first", "by loss"])
def test_a_run_that_went_back_ends_where_it_ended_where_a_clock_tells_it(import_runs, tmp_path, order):
    steps = [*range(0, 1001, 100), *range(500, 801, 100)]
    frame = history(steps, time=[f"2024-01-01 {i:02d}:00" for i in range(len(steps))])
    frame = {"as logged": frame, "newest first": frame.iloc[::-1], "by loss": frame.sort_values("loss")}[order]
    table, said = read_history(import_runs, tmp_path, frame)
    assert table["step"].tolist() == list(range(0, 801, 100))
    assert "a: 6 rows are superseded by a restart and left out" in said


def test_rows_without_a_runs_name_are_runs_of_their_own_and_it_is_said(import_runs, tmp_path):
    frame = history([100, 0, 200, 300]).assign(run=["a", "a", None, " "], lr=[0.1, 0.1, 0.2, 0.3])
    table, said = read_history(import_runs, tmp_path, frame, "--column", "peak_lr=lr")
    assert table.groupby("cell")["step"].apply(list).to_dict() == {
        "a": [0, 100],
        "row-00003": [200],
        "row-00004": [300],
    }
    assert table[table["is_final"]]["peak_lr"].tolist() == [0.1, 0.2, 0.3]
    assert "row-00003: has no name in column 'run'; the row is a run of its own" in said


def test_a_file_that_does_not_tell_the_order_says_so(import_runs, tmp_path):
    frame = pd.DataFrame({"run": list("ab") * 4, "loss": range(8)})
    frame.to_csv(tmp_path / "h.csv", index=False)
    done = import_runs(
        "csv", tmp_path / "h.csv", "--store", tmp_path / "s", "--run-column", "run", "--column", "loss=loss"
    )
    assert "a: nothing tells the order of rows; the last row of each run is taken for its end" in done.err
    assert read_table(str(tmp_path / "s"))["loss"].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_a_chart_is_the_histories_of_its_runs(tmp_path, capsys):
    names = [f"llama-{size}M - eval/loss{end}" for size in (70, 160) for end in ("", "__MIN", "__MAX")]
    rows = [",".join(["Step", *names])]
    rows += [",".join([str(step), *([str(4 - step / 1000)] * 3), *([str(3 - step / 1000)] * 3)]) for step in (300, 100)]
    (tmp_path / "chart.csv").write_text("\n".join(rows) + "\n")
    words = ["import", "csv", str(tmp_path / "chart.csv"), "--store", str(tmp_path / "store")]
    assert main([*words, "--column", "loss=history.eval/loss", "--column", "step=history.Step"]) == 0
    assert "read as a chart exported from W&B" in capsys.readouterr().err
    table = read_table(tmp_path / "store", name="cell=llama-{num_params}")
    final = table[table["is_final"]]
    assert final[["cell", "num_params", "step", "loss"]].to_numpy().tolist() == [
        ["llama-160M", 1.6e8, 300, 2.7],
        ["llama-70M", 7e7, 300, 3.7],
    ]
