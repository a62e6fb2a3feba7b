"""Claims about how runs stand: every tracker's word is ours or unknown, and each translation is said."""

import pandas as pd
import pytest

from analysis.tables.states import STATUSES, find_state_column, find_status, translate_states


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["finished", "FINISHED", "COMPLETED", "Succeeded", "SUCCEEDED", "TERMINATED", "published",
          "JOB_STATE_SUCCEEDED"], "ok"),
        (["diverged", "NaN"], "diverged"),
        (["failed", "OUT_OF_MEMORY", "out of memory", "Out-Of-Memory", "ERRORED", "OOMKilled", "Error"], "failed"),
        (["crashed", "killed", "NODE_FAIL", "TIMEOUT", "CANCELLED by 1000", "CANCELLED+", "PREEMPTED", "stopped",
          "aborted", "running", "In Progress", "Evicted", "PRUNED"], "interrupted"),
        (["zombie", "inactive", "", "unknown", "true"], None),
    ],
)  # fmt: skip
def test_words_of_trackers_and_schedulers_are_known(words, ours):
    assert {word: find_status(word) for word in words} == dict.fromkeys(words, ours)


def test_our_own_words_are_themselves():
    for word in ("ok", "diverged", "failed", "interrupted"):
        assert STATUSES[word] == word


def test_truth_values_say_what_their_name_does():
    said = [
        find_status(value, name) for name in ("finished", "crashed", "sys.diverged", "x") for value in (True, "false")
    ]
    assert said == ["ok", "interrupted", "interrupted", "ok", "diverged", "ok", None, None]


def test_words_that_are_told_come_first():
    assert find_status("Zombie", more={"zombie": "failed"}) == "failed"
    assert find_status("killed", more={"Killed": "ok"}) == "ok"


def test_a_column_is_translated_and_each_word_named():
    column = pd.Series(["finished"] * 3 + ["crashed", "zombie", None, "ok"], name="status")
    ours, said = translate_states(column)
    assert ours.dropna().tolist() == ["ok", "ok", "ok", "interrupted", "zombie", "ok"]
    assert len(ours) == len(column)
    assert said == "status: finished is ok (3 rows), crashed is interrupted (1), zombie is unknown and stays (1)"
    assert column.tolist()[0] == "finished"


def test_columns_without_foreign_words_stay_without_a_word():
    for values in (["ok", "failed"], [None, None], [0, 1], [[1], [2]]):
        ours, said = translate_states(pd.Series(values, name="status"))
        assert (ours.tolist(), said) == (values, None)
    assert translate_states(pd.Series([True, False], name="Finished"))[0].tolist() == ["ok", "interrupted"]


def test_a_column_of_states_is_found_by_name_and_words():
    table = pd.DataFrame({"phase": ["one", "two"], "State": ["finished", None], "loss": [1.0, 2.0]})
    assert find_state_column(table) == "State"
    assert find_state_column(table.assign(State=["finished", "zombie"])) is None
    assert find_state_column(table.assign(State=["", None])) is None
    assert find_state_column(table.assign(State=[1, 2])) is None
    assert find_state_column(table.assign(State=["finished", 3])) is None
    assert find_state_column(table.rename(columns={"State": "sys/state"})) == "sys/state"
    assert find_state_column(table.rename(columns={"State": "run.state"})) == "run.state"
    assert find_state_column(pd.DataFrame({"who": ["finished"]})) is None
