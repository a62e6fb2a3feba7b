"""Claims about mappings: what they make of raw runs, what they drop and say, and what they refuse."""

import numpy as np
import pytest

from analysis.tables.table import read_table, select_rows
from launch.imports.mapping import TableMapping, build_table, resolve
from scaling.specs.base import InputError
from scaling.store.store import CorruptStoreError


def build(folder, columns, **parts):
    return build_table(folder, TableMapping(columns=columns, **parts), list(folder.runs()))


def curve(steps, **extra):
    return [{"_step": step, "eval/loss": 4.0 - step / 100, **extra} for step in steps]


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


def test_the_last_value_before_an_evaluation_is_taken_only_when_asked(folder, add_run):
    rows = [
        {"_step": 0, "loss": 3.0},
        {"_step": 1, "tokens": 100},
        {"_step": 2, "loss": 2.0},
        {"_step": 3, "tokens": 300},
    ]
    add_run("a", rows)
    with_last, report = build(folder, {"loss": "history.loss", "data_seen": "last(history.tokens)"})
    assert with_last[["step", "data_seen"]].to_numpy().tolist() == [[2, 100]]
    assert report.reasons() == {"history.tokens is missing": (1, 1)}
    without, report = build(folder, {"loss": "history.loss", "data_seen": "history.tokens"})
    assert (len(without), report.reasons()) == (0, {"history.tokens is missing": (1, 2)})


def test_missing_values_drop_rows_with_count_and_reason_and_are_never_invented(folder, add_run):
    add_run("whole", curve([10, 20]), config={"n": 100, "seed": 1})
    add_run("no_size", curve([10, 20, 30]), config={"seed": 1})
    add_run("no_seed", curve([10]), config={"n": 200})
    add_run("no_loss", [{"_step": 1, "train/loss": 2.0}], config={"n": 300, "seed": 1})
    add_run("words", curve([10]), config={"n": "124M", "seed": 1})
    columns = {"loss": "history.eval/loss", "num_params": "config.n", "seed": "config.seed"}
    table, report = build(folder, columns)
    assert set(table["cell"]) == {"whole"}
    assert report.reasons() == {
        "config.n is missing": (1, 3),
        "config.seed is missing": (1, 1),
        "history.eval/loss has no values": (1, 0),
        "config.n is no number such as '124M'; count(config.n) reads 7B": (1, 1),
    }
    assert {one.run for one in report.dropped} == {"no_size", "no_seed", "no_loss", "words"}
    table, report = build(folder, {**columns, "num_params": "count(config.n)"}, optional=("seed",))
    assert dict(zip(table["cell"], table["num_params"], strict=True)) == {"whole": 100, "no_seed": 200, "words": 124e6}
    assert table.loc[table["cell"] == "no_seed", "seed"].isna().all()


@pytest.mark.parametrize(
    ("state", "loss", "status"),
    [
        ("finished", 3.0, "ok"),
        ("FINISHED", 3.0, "ok"),
        ("finished", float("nan"), "diverged"),
        ("finished", float("inf"), "diverged"),
        ("failed", 3.0, "failed"),
        ("crashed", float("nan"), "interrupted"),
        ("running", 3.0, "interrupted"),
        ("KILLED", 3.0, "interrupted"),
    ],
)
def test_how_a_run_ended_is_told_in_our_words(folder, add_run, state, loss, status):
    add_run("a", [{"_step": 0, "loss": 5.0}, {"_step": 1, "loss": loss}], state=state)
    table, report = build(folder, {"loss": "history.loss", "step": "history._step"})
    assert (table["status"].tolist(), report.statuses) == ([status] * 2, {status: 1})
    assert table["is_final"].tolist() == [False, True]


def test_an_unknown_state_is_asked_for_and_can_be_told(folder, add_run):
    add_run("a", summary={"loss": 2.0}, state="zombie")
    with pytest.raises(InputError, match=r"run a: state 'zombie' is unknown.*statuses in mapping\.json"):
        build(folder, {"loss": "summary.loss"})
    assert build(folder, {"loss": "summary.loss"}, statuses={"zombie": "failed"})[0]["status"].tolist() == ["failed"]


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


def test_a_damaged_run_is_named_with_what_to_do(folder, add_run):
    add_run("a", curve([1]))
    path = folder.folder_of("a") / "run.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(CorruptStoreError, match=r"corrupt run: .*run\.json.*delete that file, and the same command"):
        list(folder.runs())


def test_names_that_are_no_file_names_are_kept_apart(folder, add_run):
    names = ["a/b", "a_b", "..", "ü", "a" * 200, "run-x", ".hidden"]
    for name in names:
        add_run(name, summary={"loss": 1.0})
    assert sorted(run.id for run in folder.runs()) == sorted(names)
    assert {folder.version_of(name) for name in names} == {"1"}
    assert all(path.parent == folder.path / "runs" for path in (folder.path / "runs").iterdir())


def test_the_table_reads_back_as_the_same_numbers(folder, add_run, tmp_path):
    rng = np.random.default_rng(0)
    losses = rng.random(50)
    add_run("a", [{"_step": i, "loss": float(loss)} for i, loss in enumerate(losses)])
    table, _ = build(folder, {"loss": "history.loss"})
    table.to_parquet(folder.path / "table.parquet")
    assert read_table(str(folder.path))["loss"].to_numpy().tobytes() == losses.tobytes()
