"""Claims about the order of rows: a run's last row is its furthest, unless it went back and ended earlier."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.order import NOTHING_TELLS, find_superseded, is_walk, last_of, order_columns, sort_run

NAN = float("nan")
PATIENT = hypothesis.settings(deadline=None, max_examples=50, suppress_health_check=[hypothesis.HealthCheck.too_slow])


def lost(steps, **more):
    return np.flatnonzero(find_superseded(np.array(steps, dtype=float), **more)).tolist()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([0, 1, 2, 3], []),
        ([0, 250, 500, 750, 1000, 500, 600, 800], [2, 3, 4]),  # ended below
        ([0, 10, 20, 30, 20, 30, 40], [2, 3]),  # logged again, and went on
        ([0, 100, 200, 50, 150], [1, 2]),  # ended below, on other steps
        ([0, 1, 2, 0, 1, 2, 3], [0, 1, 2]),  # from the beginning
        ([0, 1, 2, 1, 2, 3, 2, 3, 4], [1, 2, 4, 5]),  # twice
        ([0, 1, 2, 3, 4, 3, 4, 1, 2], [1, 2, 3, 4, 5, 6]),  # further back each time
        ([0, 1, 0, 1, 0, 1], [0, 1, 2, 3]),  # failing again and again
        ([0, 0, 1, 1, 2, 2], []),  # several rows at one step
        ([0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 2, 3]),
        ([1, 2, 4, 3, 5, 7, 6, 8], []),  # jitter
        ([1, 2, 3, 5, 4], []),  # one row that came late, as the last
        ([6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 11], []),  # batches that changed places
        ([900, 910, 920, 930, 900, 940], []),  # one row that was sent twice
        ([400, 300, 200, 100], []),  # checkpoints evaluated newest first
        ([300, 100, 400, 200], []),
        ([0, 1, NAN, 2, 3, NAN, 1, 2], [1, 3, 4]),
        ([NAN, NAN], []),
        ([], []),
    ],
)
def test_only_a_restart_supersedes_and_only_what_was_logged_before_it(steps, expected):
    assert lost(steps) == expected


def test_a_restart_that_logs_at_other_steps_is_seen_by_the_ground_it_walks_over_again():
    assert lost([*range(0, 1001, 10), *range(505, 1505, 10)]) == list(range(51, 101))


def test_rows_of_another_kind_that_come_late_supersede_nothing_and_a_restart_is_of_all_kinds():
    steps, kinds = [890, 900, 910, 900, 920], np.array([0, 0, 0, 1, 0])
    assert lost(steps, kinds=kinds) == []
    train_and_eval = [0, 250, 500, 500, 750, 1000, 1000, 500, 600, 800]
    kinds = np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0])
    assert lost(train_and_eval, kinds=kinds) == [2, 3, 4, 5, 6]


def test_where_another_attempt_is_known_to_begin_a_step_that_was_reached_is_a_restart():
    begins = np.array([False, False, False, True, False])
    assert lost([0, 1, 2, 2, 3], begins=begins) == [2]
    assert lost([0, 1, 2, 3, 4], begins=begins) == []


@PATIENT
@hypothesis.given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_the_row_that_was_logged_last_always_stays(steps):
    steps = np.array(steps, dtype=float)
    assert not find_superseded(steps)[-1]


@PATIENT
@hypothesis.given(st.integers(1, 30), st.data())
def test_a_run_that_went_back_ends_where_it_ended(length, data):
    back = data.draw(st.integers(0, length))
    more = data.draw(st.integers(2, 40))
    again = np.arange(back, back + more)
    steps = np.concatenate([np.arange(length + 1), again]).astype(float)
    kept = steps[~find_superseded(steps)]
    # resumed right where it was, the same step twice is two rows of one step
    expected = np.arange(back + more) if back < length else np.insert(np.arange(back + more), back, back)
    assert kept.tolist() == expected.tolist()


def test_shuffled_steps_are_no_walk():
    assert is_walk(np.array([0.0, 1, 2, NAN, 3, 1, 2, 3]))
    assert not is_walk(np.random.default_rng(0).random(50))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["loss", "step"], ("step", None)),
        (["Step", "Wall time", "Value"], ("Step", "Wall time")),
        (["trainer/global_step", "_step", "_timestamp"], ("trainer/global_step", "_step")),
        (["_step", "_timestamp", "epoch"], ("_step", "_timestamp")),
        (["train/epoch", "train_loss"], ("train/epoch", None)),
        (["iter", "epoch"], ("iter", None)),
        (["iterNum", "loss"], ("iterNum", None)),
        (["num_updates", "tokens_seen"], ("num_updates", None)),
        (["data_seen", "created_at"], ("data_seen", "created_at")),
        (["Tokens (B)", "loss"], ("Tokens (B)", None)),
        (["timestamp", "loss"], (None, "timestamp")),
        (["loss", "max_steps", "warmup_steps", "step_time", "runtime"], (None, None)),
    ],
)
def test_the_columns_that_tell_the_order_are_known_by_name(columns, expected):
    table = pd.DataFrame({name: [1, 2, 3] for name in columns})
    assert order_columns(table) == expected


def test_a_count_that_has_more_values_comes_first_and_one_that_never_changes_last():
    table = pd.DataFrame({"step": [8, 8, 8], "global_step": [1, None, None], "iteration": [1, 2, 3]})
    assert order_columns(table) == ("iteration", None)
    assert order_columns(pd.DataFrame({"step": [8, 8], "tokens": [10, 20]})) == ("tokens", None)


@PATIENT
@hypothesis.given(st.permutations(range(12)))
def test_any_order_of_rows_is_the_same_run(places):
    steps = np.arange(12) * 10
    rows = pd.DataFrame({"step": steps, "loss": 4.0 - steps / 100})
    assert sort_run(rows.iloc[places]).rows["step"].tolist() == steps.tolist()
    resumed = pd.DataFrame({
        "step": [0, 100, 200, 300, 400, 500, 200, 300, 400, 0, 100, 200],
        "time": pd.date_range("2024-01-01", periods=12, freq="h").astype(str),
    })  # fmt: skip
    found = sort_run(resumed.iloc[places])
    assert (found.rows.index.tolist(), found.superseded) == ([9, 10, 11], 9)


@pytest.mark.parametrize(
    "times",
    [
        [1.7e9, 1.7e9 + 60, 1.7e9 + 120, 1.7e9 + 180, 1.7e9 + 240],
        ["2024-01-01T00:00:00Z", "2024-01-01 00:00:01.5+00:00", "2024-01-02", "2024-01-03", "2024-02-01"],
        ["11/01/2024", "12/01/2024", "13/01/2024", "01/02/2024", "02/02/2024"],
        ["Jan 1 2024 10:00", "Jan 1 2024 11:00", "Jan 2 2024 09:00", "Feb 1 2024 01:00", "Feb 2 2024 00:00"],
    ],
)
def test_a_clock_of_any_form_tells_what_was_logged_before_a_restart(times):
    rows = pd.DataFrame({"step": [0, 500, 1000, 500, 800], "timestamp": times, "loss": [5.0, 4, 3, 4.1, 3.5]})
    found = sort_run(rows.iloc[[4, 2, 0, 3, 1]])
    assert (found.rows.index.tolist(), found.superseded, found.doubts) == ([0, 3, 4], 2, ())


def test_an_evaluation_that_comes_late_is_a_row_of_another_kind():
    rows = pd.DataFrame({
        "step": [890, 900, 910, 900, 920], "time": 1.7e9 + np.arange(5), "loss": [3.0, 2.9, 2.8, NAN, 2.7],
        "eval_loss": [NAN, NAN, NAN, 3.1, NAN],
    })  # fmt: skip
    found = sort_run(rows)
    assert (found.rows.index.tolist(), found.superseded) == ([0, 1, 3, 2, 4], 0)


def test_a_clock_that_does_not_go_with_the_steps_is_not_used_and_it_is_said():
    rows = pd.DataFrame({"step": range(20), "time": np.random.default_rng(0).random(20)})  # seconds a step
    found = sort_run(rows.iloc[::-1])
    assert found.rows["step"].tolist() == list(range(20))
    assert (found.superseded, found.doubts) == (0, ("time does not go with step and was not used",))
    found = sort_run(pd.DataFrame({"step": [2, 1], "date": ["2024-01-01", None]}))
    assert (found.rows["step"].tolist(), found.doubts) == ([1, 2], ("date is missing in some rows and was not used",))


def test_steps_that_begin_anew_in_each_epoch_are_no_restarts():
    rows = pd.DataFrame({
        "epoch": np.repeat([0, 1, 2], 4), "batch_idx": np.tile(range(4), 3), "time": 1.7e9 + np.arange(12),
    })  # fmt: skip
    for table in (rows, rows.drop(columns="time")):
        found = sort_run(table.sample(frac=1, random_state=0))
        assert (found.rows.index.tolist(), found.superseded) == (list(range(12)), 0)


def test_rows_that_nothing_orders_stay_in_the_files_order_and_it_is_said():
    rows = pd.DataFrame({"loss": [3.0, 2.0, 2.5]})
    found = sort_run(rows)
    assert (found.rows.index.tolist(), found.doubts) == ([0, 1, 2], (NOTHING_TELLS,))
    assert sort_run(rows.iloc[:1]).doubts == ()
    tied = pd.DataFrame({"step": [1, 2, 2], "loss": [3.0, 2.0, 2.5]})
    assert sort_run(tied).doubts == ("rows with the same step differ, and are in the order of the file",)
    assert sort_run(tied.assign(loss=[3.0, 2.0, 2.0])).doubts == ()
    assert sort_run(pd.DataFrame({"step": [1, 1], "loss": [3.0, None], "eval": [None, 2.0]})).doubts == (NOTHING_TELLS,)


def test_the_last_rows_of_runs_are_in_the_tables_order_and_no_row_without_a_name_is_lost():
    table = pd.DataFrame({
        "run": ["b", None, "a", "b", " ", "a", "b"], "step": [3, 1, 1, 1, 9, 2, 2], "loss": [1.0, 2, 3, 4, 5, 6, 7],
    })  # fmt: skip
    last, sentence = last_of(table, "run")
    assert last.index.tolist() == [0, 1, 5, 4]
    assert sentence == (
        "the last of 1 to 3 rows a run by step: 4 of 7 rows (run); 2 rows without run are runs of their own"
    )
    with pytest.raises(AnalysisError, match="last='rnu' is unknown; did you mean 'run'"):
        last_of(table, "rnu")
    assert len(last_of(table.iloc[:0], "run")[0]) == 0


def test_what_a_restart_superseded_is_said_with_the_last_rows():
    table = pd.DataFrame({"run": "a", "step": [0, 500, 1000, 500, 800], "time": 1.7e9 + np.arange(5.0)})
    last, sentence = last_of(table, "run")
    assert last["step"].tolist() == [800]
    assert sentence.endswith("by step and time: 1 of 5 rows (run); 2 rows of 1 runs superseded by a restart")
    assert last_of(pd.DataFrame({"run": list("aab"), "x": [1, 2, 3]}), "run")[1].endswith(NOTHING_TELLS)


def test_names_that_hold_lists_and_numbers_as_text_are_no_traceback():
    assert sort_run(pd.DataFrame({"tokens": [["a"], ["b"]], "step": ["20", "10"]})).rows["step"].tolist() == [
        "10",
        "20",
    ]
