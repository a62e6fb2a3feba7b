"""Claims about what tables are read from: other libraries' tables, runs of W&B's client, several files, patterns."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.table import read_table, write_table

ROWS = {"num_params": [1e6, 2e6], "loss": [3.0, 2.5], "label": ["a", None]}


def read_back(source, **options):
    table = read_table(source, **options)
    return {name: table[name].tolist() for name in ("num_params", "loss")}, table["label"].isna().tolist()


def test_frames_of_other_libraries_are_the_same_table():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    wanted = read_back(pd.DataFrame(ROWS))
    assert read_back(pl.DataFrame(ROWS)) == wanted
    assert read_back(pl.DataFrame(ROWS).lazy()) == wanted
    assert read_back(pa.table(ROWS)) == wanted
    assert read_back(pa.table(ROWS).to_reader()) == wanted
    assert read_back([dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]) == wanted


def test_nested_columns_have_dotted_names():
    pa = pytest.importorskip("pyarrow")
    rows = [{"config": {"model": {"size": 7}}, "loss": 3.0}]
    for source in (pa.Table.from_pylist(rows), rows):
        assert read_table(source, {"num_params": "config.model.size"})["num_params"].tolist() == [7]


def test_an_index_and_categories_are_columns_of_their_values():
    frame = pd.DataFrame(ROWS).set_index("num_params")
    assert read_table(frame)["num_params"].tolist() == [1e6, 2e6]
    kinds = pd.DataFrame({"label": pd.Categorical(["a", "b"], categories=["a", "b", "c"]), 3: [1, 2]})
    table = read_table(kinds)
    assert not isinstance(table["label"].dtype, pd.CategoricalDtype)
    assert table.columns.tolist() == ["label", "3"]
    assert kinds.columns.tolist() == ["label", 3]


class Run:
    """A run as W&B's public API has it."""

    def __init__(self, name, state, loss):
        self.id, self.name, self.state, self.group = f"id-{name}", name, state, ""
        self.config = {"model": {"n_params": 10**6}, "_wandb": {}}
        self.summary = {"eval/loss": loss, "_wandb": {}, "_step": 10}


class Runs:
    """Its lazily paged list of runs."""

    def __iter__(self):
        return iter([Run("a", "finished", 3.0), Run("b", "crashed", 9.0)])


@pytest.mark.parametrize("source", [Runs(), list(Runs())])
def test_runs_of_the_client_of_wandb_are_rows_with_a_status(source):
    table = read_table(source, {"num_params": "config.model.n_params", "loss": "eval/loss", "label": "run.name"})
    assert table[["label", "num_params", "loss", "status"]].values.tolist() == [
        ["a", 10**6, 3.0, "ok"],
        ["b", 10**6, 9.0, "interrupted"],
    ]
    assert not [name for name in table.columns if "_wandb" in name]


def test_settings_in_names_are_read_of_frames_too():
    table = read_table(pd.DataFrame({"run": ["N70M-s1", "N1B-s2"]}), name="N{num_params}-s{seed}")
    assert (table["num_params"].tolist(), table["seed"].tolist()) == ([7e7, 1e9], [1, 2])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (3, {}, "source=int is no table; give"),
        ([], {}, "source=list is no table; give"),
        (pd.DataFrame({"a": [1]}), {"sheet": "x"}, "sheet='x' is of files"),
        (["folder", "t.csv"], {}, "several sources must be files"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, monkeypatch, source, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write_table(pd.DataFrame(ROWS), "t.csv")
    with pytest.raises(AnalysisError, match=message) as caught:
        read_table(source, **options)
    assert "\n" not in str(caught.value)
