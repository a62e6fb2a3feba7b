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
