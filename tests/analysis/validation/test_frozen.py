"""Frozen predictions: never replaced, never edited unseen, and scored on new runs alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fit_table import fit
from analysis.laws.registry import get_law
from analysis.validation.frozen import freeze, score


@pytest.fixture
def table():
    return get_law("power_floor").sample(levels=12, noise=0.01, seed=3)


@pytest.fixture
def frozen(table, tmp_path):
    path = str(tmp_path / "frozen.json")
    found = fit(table, "power_floor", bootstrap=100)
    freeze(found, {"data_unique": [3e6, 1e7]}, path, note="the next decade")
    return path


def test_new_runs_are_scored_by_their_error_and_by_the_intervals(frozen):
    law, truth = get_law("power_floor"), get_law("power_floor").example
    m = np.array([3e6, 3e6])
    new = pd.DataFrame(
        {"data_unique": m, "seed": [0, 1], "loss": law.predict(truth, {"data_unique": m}) * [1.005, 0.995]}
    )
    verdict = score(frozen, new)
    assert verdict.coverage == 1.0
    assert verdict.unmatched == 1
    assert verdict.rmse < 0.05
    wild = score(frozen, new.assign(loss=new["loss"] * 3))
    assert wild.coverage == 0.0
    assert wild.bias < -1


def test_the_file_names_its_date_its_table_and_its_own_hash(frozen, table):
    document = json.loads(Path(frozen).read_text())
    assert document["frozen"].endswith("+00:00")
    assert len(document["table_sha256"]) == len(document["sha256"]) == 64
    with pytest.raises(AnalysisError, match="the one that the prediction was fitted to"):
        score(frozen, table)


def test_an_edited_file_is_refused(frozen, table):
    document = json.loads(Path(frozen).read_text())
    document["estimate"][0] *= 1.01
    Path(frozen).write_text(json.dumps(document))
    with pytest.raises(AnalysisError, match="changed after it was frozen"):
        score(frozen, table)


def test_a_frozen_prediction_is_never_replaced(frozen, table):
    with pytest.raises(AnalysisError, match="never replaced"):
        freeze(fit(table), {"data_unique": [3e6]}, frozen)


def test_runs_of_other_sizes_are_no_verdict(frozen):
    with pytest.raises(AnalysisError, match="no run of the table has a size"):
        score(frozen, pd.DataFrame({"data_unique": [12345.0], "loss": [0.2]}))


def test_other_files_are_no_prediction(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(AnalysisError, match="holds no frozen prediction"):
        score(str(tmp_path / "x.json"), pd.DataFrame())


def test_rows_that_were_fitted_are_left_out_of_the_grown_table(table, tmp_path):
    path, sizes = str(tmp_path / "grown.json"), [float(table["data_unique"].iloc[-1]), 3e6]
    freeze(fit(table, "power_floor", bootstrap=50), {"data_unique": sizes}, path, table=table)
    new = pd.DataFrame({"data_unique": [3e6], "seed": [0], "loss": [0.103]})
    verdict = score(path, pd.concat([table, new], ignore_index=True))
    assert (len(verdict.table), verdict.known, verdict.unmatched) == (1, len(table), 1)


def test_a_run_near_a_planned_size_counts_within_the_tolerance(frozen):
    near = pd.DataFrame({"data_unique": [3.003e6], "loss": [0.103]})
    with pytest.raises(AnalysisError, match="no run of the table has a size"):
        score(frozen, near)
    assert len(score(frozen, near, tolerance=0.01).table) == 1
