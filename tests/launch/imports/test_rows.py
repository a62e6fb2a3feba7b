"""The rows that a run gives: missing values drop them with count and reason, and are never invented."""

import pytest

from scaling.specs.base import InputError
from tests.launch.imports.tables_of import build, curve


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


def test_rows_of_a_run_whose_own_step_went_back_are_superseded_with_a_counted_reason(folder, add_run):
    steps = [*range(0, 1001, 100), *range(500, 801, 100)]
    add_run("a", [{"_step": i, "step": step, "tokens": step * 8, "loss": 4 - i / 100} for i, step in enumerate(steps)])
    for columns in ({"step": "history.step"}, {"data_seen": "history.tokens"}):
        table, report = build(folder, {"loss": "history.loss", **columns})
        assert table["loss"].tolist() == [4 - i / 100 for i in (0, 1, 2, 3, 4, 11, 12, 13, 14)]
        assert table["is_final"].tolist() == [False] * 8 + [True]
        assert report.reasons() == {"superseded by a restart": (1, 6)}


def test_the_final_row_is_the_furthest_also_where_rows_came_in_another_order(folder, add_run):
    add_run("a", [{"_step": i, "step": step, "loss": float(step)} for i, step in enumerate((400, 300, 200, 100))])
    table, report = build(folder, {"loss": "history.loss", "step": "history.step"})
    assert (table["step"].tolist(), table["is_final"].tolist()) == ([100, 200, 300, 400], [False] * 3 + [True])
    assert report.reasons() == {}


def test_data_of_one_batch_that_goes_up_and_down_supersedes_nothing(folder, add_run):
    add_run("a", [{"_step": i, "tokens": 100 + i % 2, "loss": 4.0} for i in range(10)])
    table, report = build(folder, {"loss": "history.loss", "data_seen": "history.tokens"})
    assert (table["step"].tolist(), report.reasons()) == (list(range(10)), {})


def test_true_and_false_say_how_a_run_ended_where_their_name_tells(folder, add_run):
    for name, finished in (("a", True), ("b", False)):
        add_run(name, summary={"loss": 2.0, "finished": finished, "flag": finished}, state=None)
    assert build(folder, {"loss": "summary.loss", "status": "finished"})[0]["status"].tolist() == ["ok", "interrupted"]
    with pytest.raises(InputError, match="state 'true' is unknown"):
        build(folder, {"loss": "summary.loss", "status": "flag"})


def test_all_runs_together_decide_what_a_comma_is(folder, add_run):
    for name, size, loss in (("a", "1,5", "85.3%"), ("b", "1,500", "70%")):
        add_run(name, summary={"n": size, "loss": loss})
    table, report = build(folder, {"num_params": "count(n)*1e9", "loss": "number(loss)"})
    assert table["num_params"].tolist() == [1.5e9, 1.5e9]
    assert table["loss"].tolist() == [0.853, 0.7]
    assert "summary.n: decimal commas: 1,500 is 1.5" in report.notices
    assert "summary.loss: per cent signs: 85.3% is 0.853" in report.notices


def test_a_history_decides_what_its_commas_are(folder, add_run):
    add_run("a", [{"_step": 0, "loss": "3,5"}, {"_step": 1, "loss": "3,125"}, {"_step": 2, "loss": "low"}])
    table, report = build(folder, {"loss": "number(history.loss)"})
    assert table["loss"].tolist() == [3.5, 3.125]
    assert report.reasons() == {"history.loss is no number such as 'low'": (1, 1)}


def test_text_that_only_number_reads_is_dropped_with_the_way_to_read_it(folder, add_run):
    add_run("a", summary={"loss": "85%", "n": 3})
    _, report = build(folder, {"loss": "summary.loss", "num_params": "n"})
    assert report.reasons() == {"summary.loss is no number such as '85%'; number(summary.loss) reads it": (1, 1)}
    _, report = build(folder, {"loss": "number(summary.n)", "num_params": "count(loss)"})
    assert report.reasons() == {"summary.loss is no number such as '85%'": (1, 1)}


def test_products_with_numbers_are_what_one_would_have_typed(folder, add_run):
    add_run("a", summary={"loss": 2.0, "tokens": 1.07})
    table, _ = build(folder, {"loss": "summary.loss", "train_flops": "1e9*tokens", "num_params": "tokens*1e9"})
    assert table[["train_flops", "num_params"]].to_numpy().tolist() == [[1070000000, 1070000000]]
