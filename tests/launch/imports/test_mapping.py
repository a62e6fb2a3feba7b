"""Claims about mappings: what they make of raw runs, what they drop and say, and what they refuse."""

import numpy as np
import pytest

from analysis.tables.table import read_table, select_rows
from launch.imports.mapping import TableMapping, resolve
from scaling.specs.base import InputError
from tests.launch.imports.tables_of import build, curve


def test_a_history_gives_a_row_for_each_evaluation_in_the_contracts_columns(folder, add_run):
    rows = [
        {"_step": step, "train/loss": 1.0} | ({"eval/loss": 4 - step / 10} if step % 5 == 0 else {})
        for step in range(11)
    ]
    add_run("a", rows, config={"model": {"n_params": 1000}, "batch_size": 8, "seq_len": 16, "lr": 1e-3, "seed": 3})
    table, report = build(
        folder,
        {
            "peak_lr": "config.lr",
            "seed": "config.seed",
            "loss": "history.eval/loss",
            "data_seen": "history._step*config.batch_size*config.seq_len",
            "num_params": "config.model.n_params",
        },
    )
    assert list(table.columns) == [
        "study", "cell", "seed", "step", "is_final", "status", "num_params", "data_seen", "loss", "peak_lr"
    ]  # fmt: skip
    assert table["step"].tolist() == [0, 5, 10]
    assert table["data_seen"].tolist() == [0, 640, 1280]
    assert table["loss"].tolist() == [4.0, 3.5, 3.0]
    assert table["is_final"].tolist() == [False, False, True]
    assert set(table["status"]) == {"ok"}
    assert set(table["study"]) == {"ladder"}
    assert (report.runs, report.rows, report.dropped) == (1, 3, ())


def test_a_runs_end_gives_one_row_a_run(folder, add_run):
    for i in range(3):
        add_run(f"r{i}", curve(range(4)), config={"n": 10**i}, summary={"loss": 3.0 - i})
    table, _ = build(folder, {"num_params": "config.n", "loss": "summary.loss", "step": "last(history._step)"})
    assert table[["cell", "num_params", "loss", "step", "is_final"]].to_numpy().tolist() == [
        ["r0", 1, 3.0, 3, True],
        ["r1", 10, 2.0, 3, True],
        ["r2", 100, 1.0, 3, True],
    ]


def test_runs_without_a_state_have_no_status_and_it_is_said(folder, add_run):
    add_run("a", summary={"loss": 2.0, "State": "crashed"}, state=None)
    table, report = build(folder, {"loss": "summary.loss"})
    assert "status" not in table
    assert any("does not say how runs ended" in notice for notice in report.notices)
    assert build(folder, {"loss": "summary.loss", "status": "summary.State"})[0]["status"].tolist() == ["interrupted"]


def test_a_dropped_last_row_leaves_a_run_without_a_final_one(folder, add_run):
    add_run("a", [{"_step": 1, "loss": 3.0, "tokens": 10}, {"_step": 2, "loss": 2.0}])
    table, report = build(folder, {"loss": "history.loss", "data_seen": "history.tokens"})
    assert table["is_final"].tolist() == [False]
    assert any("1 runs lack their final row" in notice for notice in report.notices)


def test_texts_and_constants_fill_columns_of_text(folder, add_run):
    add_run("a", summary={"loss": 2.0}, config={"arch": "mlp", "width": 64, "sizes": [1, 2]}, run={"group": "g 1"})
    columns = {"loss": "summary.loss", "family": "config.arch", "label": "run.group", "data_unit": "'tokens'"}
    assert build(folder, columns)[0][["family", "label", "data_unit"]].to_numpy().tolist() == [["mlp", "g 1", "tokens"]]
    assert build(folder, {"loss": "summary.loss", "label": "config.width"})[0]["label"].tolist() == ["64"]
    assert build(folder, {"loss": "summary.loss", "label": "config.sizes"})[0]["label"].tolist() == ["[1, 2]"]


def test_what_follows_from_c_6nd_is_derived_and_the_fit_can_say_so(folder, add_run):
    add_run("a", summary={"loss": 2.0}, config={"n": 1000, "d": 20_000})
    columns = {"loss": "summary.loss", "num_params": "config.n", "data_seen": "config.d"}
    table, _ = build(folder, columns, derive=("train_flops",))
    assert table["train_flops"].tolist() == [6 * 1000 * 20_000]
    assert list(table.columns).index("train_flops") < list(table.columns).index("loss")
    assert "train_flops: 6 num_params data_seen" in select_rows(table, ["loss"])[2]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"num_param": "config.n"}, "the table has no 'num_param'; did you mean 'num_params'"),
        ({"cell": "config.n"}, "--column cell: is set by the import"),
        ({"2n": "config.n"}, "must be letters, digits"),
        ({"num_params": "'many'"}, "the column holds numbers"),
        ({"loss": "summary.loss", "step": "history._step"}, r"write last\(history\._step\)"),
        ({"loss": "config.nn"}, r"did you mean 'config\.n'"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(columns, message):
    with pytest.raises(InputError, match=message):
        resolve(TableMapping(columns=columns), ["config.n", "summary.loss", "history._step"])


def test_counts_are_whole_numbers_and_what_is_not_whole_stays(folder, add_run):
    add_run("a", summary={"loss": 2.0}, config={"n": 1e9, "d": 2.5, "c": 1e24})
    columns = {"loss": "summary.loss", "num_params": "config.n", "data_seen": "config.d", "train_flops": "config.c"}
    table = build(folder, columns)[0]
    assert [str(table[name].dtype) for name in columns] == ["float64", "int64", "float64", "float64"]


def test_the_table_reads_back_as_the_same_numbers(folder, add_run, tmp_path):
    rng = np.random.default_rng(0)
    losses = rng.random(50)
    add_run("a", [{"_step": i, "loss": float(loss)} for i, loss in enumerate(losses)])
    table, _ = build(folder, {"loss": "history.loss"})
    table.to_parquet(folder.path / "table.parquet")
    assert read_table(str(folder.path))["loss"].to_numpy().tobytes() == losses.tobytes()
