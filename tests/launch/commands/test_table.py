"""A store's table, printed and written: every row, the columns that vary, and all digits."""

import json

import pandas as pd

from scaling.store.columns import CONTRACT
from tests.launch.commands.stores import make_ideas


def test_the_table_is_printed_and_written(finished, here):
    for name in ("table.csv", "table.parquet", "table.jsonl"):
        assert here("table", "store", "--to", name).returncode == 0
        assert (here.folder / name).stat().st_size > 1000
    printed = here("table", "store").stdout.splitlines()
    assert printed[0].startswith("study,cell,family,label,seed,step,is_final,status,trunk,num_params,params_")
    assert printed == (here.folder / "table.csv").read_text().splitlines()
    assert len(here.json("table", "store")) == len(printed) - 1


def columns_of(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[0].split(",")


def test_the_fields_that_vary_are_columns_and_all_are_where_that_is_asked_for(here):
    make_ideas(here.folder / "store")
    few, every = columns_of(here("table", "store")), columns_of(here("table", "store", "--all-columns"))
    assert [name for name in few if "." in name] == ["model.depth", "model.activation", "data.size"]
    assert {"model.width", "training.optimizer.peak_lr", "training.num_steps", "data.source.kind"} <= {*every} - {*few}
    assert [name for name in few if "." not in name] == [name for name in every if "." not in name]
    assert {"steps_to_target", "train_seconds", "data_per_second", "dollars", "loss_spikes", "num_resumes"} <= {*few}
    assert {*CONTRACT} <= {*few}


def test_rows_are_kept_by_a_field_of_their_cells(here):
    make_ideas(here.folder / "store")
    rows = here.json("table", "store", "--keep", "model.depth==2", "--keep", "model.activation==relu")
    assert {(row["model.depth"], row["model.activation"]) for row in rows} == {(2, "relu")}
    assert len(rows) == 10
    done = here("table", "store", "--keep", "model.width==16")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--keep column='model.width' is unknown" in done.stderr
    assert "--all-columns has the fields that are the same in every cell" in done.stderr
    assert len(here.json("table", "store", "--keep", "model.width==16", "--all-columns")) == 40


def test_json_has_every_digit_and_null_for_what_is_not_there(here):
    store = make_ideas(here.folder / "store")
    rows = here.json("table", "store")
    for row in rows:
        (evaluation,) = store.read_record(row["cell"]).evaluations
        assert row["error"] == evaluation.metrics["error"]
        assert (row["loss"], row["step"], row["model.depth"] in (1, 2)) == (None, None, True)
    dates = pd.DataFrame(
        {"when": pd.to_datetime(["2026-01-02", None]), "loss": [1 / 3, float("inf")], "of": [[1, 2], []]}
    )
    dates.to_parquet(here.folder / "dates.parquet")
    assert here.json("table", "dates.parquet") == [
        {"when": "2026-01-02T00:00:00", "loss": 1 / 3, "of": [1, 2]}, {"when": None, "loss": None, "of": []}
    ]  # fmt: skip
    assert json.dumps(rows[0]["error"]) in here("table", "store").stdout


def test_a_table_that_cannot_be_written_is_one_line(here):
    make_ideas(here.folder / "store")
    for name in ("none/t.csv", "none/t.parquet", "none/t.jsonl"):
        done = here("table", "store", "--to", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert f"--to '{name}' cannot be written (" in done.stderr
        assert "choose another file" in done.stderr
    done = here("table", "store", "--to", "t.xls")
    assert (done.returncode, "choose .csv, .parquet or .jsonl" in done.stderr) == (2, True)
