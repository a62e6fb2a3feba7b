"""Claims about pooling: runs of several series are told apart, also where some have no name."""

import pandas as pd

from analysis.decisions.pooling import check_pooling


def test_runs_without_a_label_beside_some_with_one_are_pooled():
    rows = pd.DataFrame({"label": ["a", "a", None, " "], "num_params": [1e6, 2e6] * 2, "data_seen": [1e8, 2e8] * 2})
    (notice,) = check_pooling(rows)
    assert notice.code == "pooled_series"
    assert "(a: 2, (no label): 2)" in notice.text
    assert "--label 'a'" in notice.text
    assert not check_pooling(rows.assign(label=None))
    assert not check_pooling(rows.iloc[:2])


def test_families_go_before_labels():
    rows = pd.DataFrame({"label": ["a", "b"], "family": ["mlp", None], "num_params": [1e6, 2e6]})
    assert "--keep family==mlp" in check_pooling(rows)[0].text
