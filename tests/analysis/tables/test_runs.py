"""Claims about runs in tables: which column names them, what checkpoints are, and which row of a sweep is best."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.tables.runs import best_over, fill_names, find_run_column, recognise_checkpoints


def make_curves(name="run", by="step", rows=12):
    """Returns checkpoints of 6 runs, two of each size."""
    return pd.DataFrame(
        {
            name: np.repeat([f"r{place}" for place in range(6)], rows),
            by: np.tile(np.arange(1, rows + 1) * 100, 6),
            "num_params": np.repeat([1e6, 2e6, 4e6], 2 * rows),
            "loss": np.random.default_rng(0).random(6 * rows),
        }
    )


def make_sweep():
    """Returns 4 rates at each of 3 sizes and 2 budgets; the best is 0.003 everywhere."""
    at = [(n, d, lr) for n in (1e6, 2e6, 4e6) for d in (1e8, 2e8) for lr in (1e-3, 3e-3, 1e-2, 3e-2)]
    table = pd.DataFrame(at, columns=["num_params", "data_seen", "lr"])
    return table.assign(loss=3 + np.log10(table["lr"] / 3e-3) ** 2 + 1e3 / table["num_params"])


@pytest.mark.parametrize("name", ["cell", "run", "Run ID", "runName", "config/run_name", "trial_id", "file", "model"])
def test_the_column_of_runs_is_found_by_its_name_and_its_rows(name):
    assert find_run_column(make_curves(name)) == name
    assert find_run_column(make_curves(name).groupby(name).tail(1)) is None


@pytest.mark.parametrize("by", ["step", "_step", "data_seen", "tokens", "train/global_step"])
def test_steps_or_data_tell_checkpoints_of_a_run(by):
    assert find_run_column(make_curves(by=by)) == "run"


def test_a_column_of_sizes_sweeps_or_copies_names_no_runs():
    grid = make_curves("model", by="data_seen", rows=4)  # a size at several budgets
    assert find_run_column(grid) is None
    assert find_run_column(make_curves().assign(run="all")) is None  # of several sizes
    assert find_run_column(make_curves().assign(seed=lambda rows: np.arange(len(rows)))) is None
    assert find_run_column(make_curves().assign(step=7)) is None
    assert find_run_column(make_curves("colour")) is None


def test_of_two_columns_the_one_that_tells_steps_apart_is_taken():
    rows = make_curves()
    rows = rows.assign(id=rows["run"], run=np.where(rows["run"] == "r1", "r0", rows["run"]))
    assert find_run_column(rows) == "id"


def test_checkpoints_are_said_with_both_ways_out_and_rows_without_a_run_counted():
    said = recognise_checkpoints(make_curves("Run Name"))
    assert said == (
        "72 rows are checkpoints of 6 runs (column Run Name, by step): --last-of 'Run Name' takes the last of each, "
        "--cluster 'Run Name' keeps all and says that they are not independent"
    )
    rows = make_curves()
    rows.loc[:2, "run"] = None
    assert recognise_checkpoints(rows).startswith("69 rows are checkpoints of 6 runs")
    assert recognise_checkpoints(rows).endswith("; 3 rows name no run")


def test_our_own_tables_and_one_row_a_run_are_no_checkpoints():
    assert recognise_checkpoints(make_curves("cell").assign(is_final=False)) is None
    assert recognise_checkpoints(make_curves().groupby("run").tail(1)) is None


def test_the_best_of_a_sweep_is_one_row_a_point():
    kept, said = best_over(make_sweep(), ["lr"], "loss", lower_is_better=True)
    assert kept["lr"].tolist() == [3e-3] * 6
    assert said == "best loss over lr: 6 of 24 rows, at 6 points of num_params, data_seen"
    assert dict(kept.provenance.conventions) == {"best over lr": said}
    worst, said = best_over(make_sweep(), ["lr"], "loss", lower_is_better=False)
    assert worst["lr"].tolist() == [3e-2] * 6
    assert "; at 6 the best is at the end of the values tried" in said


def test_names_of_runs_make_no_points_and_series_settings_and_repeated_seeds_do():
    sweep = make_sweep()
    named = sweep.assign(run=[f"r{place}" for place in range(24)], label=[f"lr={rate}" for rate in sweep["lr"]])
    assert len(best_over(named, ["lr"], "loss", lower_is_better=True)[0]) == 6
    assert len(best_over(sweep.assign(seed=range(1000, 1024)), ["lr"], "loss", lower_is_better=True)[0]) == 6
    for name, values in (
        ("label", ["a", None]),
        ("optimizer", ["adam", "sgd"]),
        ("seed", [1000, 1001]),
        ("wd", [0, 1]),
    ):
        both = pd.concat([sweep.assign(**{name: value}) for value in values])
        kept, said = best_over(both, ["lr"], "loss", lower_is_better=True)
        assert len(kept) == 12
        assert name in said
    nearly = sweep.assign(data_seen=sweep["data_seen"] * (1 + 0.002 * (np.arange(24) % 3)))
    assert len(best_over(nearly, ["lr"], "loss", lower_is_better=True)[0]) == 6


def test_rows_that_failed_never_win_and_are_counted():
    sweep = make_sweep().assign(status="ok")
    sweep.loc[1, "status"] = "diverged"
    sweep.loc[5, "loss"] = np.nan
    sweep.loc[20:, "loss"] = np.nan
    kept, said = best_over(sweep, ["lr"], "loss", lower_is_better=True)
    assert kept["lr"].tolist() == [1e-3, 1e-3, 3e-3, 3e-3, 3e-3]
    assert "6 rows can never win (1 status is diverged, 5 loss is no finite number), and 1 point has no other" in said
    with pytest.raises(AnalysisError, match="no row can win"):
        best_over(sweep.assign(status="failed"), ["lr"], "loss", lower_is_better=True)


def test_a_value_that_diverged_beyond_the_best_one_closes_the_range():
    sweep = make_sweep().assign(status="ok")
    edge = sweep[sweep["lr"] <= 3e-3]
    assert "at 6 the best is at the end" in best_over(edge, ["lr"], "loss", lower_is_better=True)[1]
    closed = sweep[sweep["lr"] <= 1e-2].assign(status=lambda rows: np.where(rows["lr"] > 3e-3, "diverged", "ok"))
    assert "at the end" not in best_over(closed, ["lr"], "loss", lower_is_better=True)[1]


def test_a_number_that_differs_at_a_point_is_named():
    other = make_sweep().assign(strange=np.arange(24) % 3, val_loss=np.random.default_rng(0).random(24))
    assert best_over(other, ["lr"], "loss", lower_is_better=True)[1].endswith("; strange also differs at a point")


def test_missing_columns_and_a_target_as_setting_are_refused():
    with pytest.raises(AnalysisError, match="did you mean 'lr'"):
        best_over(make_sweep(), ["lrs"], "loss", lower_is_better=True)
    for names in ([], ["loss"]):
        with pytest.raises(AnalysisError, match="name"):
            best_over(make_sweep(), names, "loss", lower_is_better=True)


def test_rows_without_a_name_are_a_series_and_full_columns_stay_as_they_are():
    table = pd.DataFrame({"label": ["a", None, np.nan, "", " \t"], "group": [1, 2, None, 1, 2], "x": range(5)})
    assert fill_names(table, "label")["label"].tolist() == ["a", *["(no label)"] * 4]
    assert fill_names(table, "group")["group"].tolist() == ["1", "2", "(no group)", "1", "2"]
    assert fill_names(table, "x") is table
    assert table["label"].isna().sum() == 2
    kinds = pd.DataFrame({"label": pd.Categorical(["a", None])})
    assert fill_names(kinds, "label")["label"].tolist() == ["a", "(no label)"]
