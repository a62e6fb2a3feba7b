"""Claims about rows that repeat another: exact ones wherever they stand, in what they may differ, and what is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.tables.copies import find_copies

DAYS = [f"2026-03-{day:02d}T10:00:00Z" for day in range(1, 15)]


def make(*again, **columns):
    """Returns 12 runs and some of them a second time, with more columns."""
    runs = pd.DataFrame(
        {
            "num_params": np.repeat([1e6, 2e6, 4e6], 4),
            "data_seen": np.tile([1e7, 2e7, 4e7, 8e7], 3),
            "loss": 2 + np.random.default_rng(0).random(12),
        }
    )
    return pd.concat([runs, runs.iloc[list(again)]], ignore_index=True).assign(**columns)


def test_exact_copies_are_found_wherever_they_stand_and_the_first_pair_is_named():
    found = find_copies(make(3, 5))
    assert np.flatnonzero(found.again).tolist() == [12, 13]
    assert found.said.startswith("2 rows repeat another one (row 13 is row 4: num_params=1e6, data_seen=8e7, loss=2.01")
    table = make(3, 5).sample(frac=1.0, random_state=0)
    assert find_copies(table).again.sum() == 2
    assert len(table[~find_copies(table).again].drop_duplicates()) == 12
    clean = find_copies(make())
    assert not clean.again.any()
    assert clean.said is None


def test_three_of_one_row_are_two_copies():
    assert find_copies(make(3, 3)).again.sum() == 2


def test_lists_objects_and_missing_values_are_compared_too():
    settings = [{"widths": [place, 2], "decay": None} for place in range(12)]
    turned = [dict(reversed(settings[3].items())), {**settings[5], "decay": 0.1}]
    found = find_copies(make(3, 5, config=settings + turned, note=[None, np.nan] * 7))
    assert np.flatnonzero(found.again).tolist() == [12]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("exported_at", DAYS),
        ("export time", pd.to_datetime(DAYS)),
        ("_timestamp", 1.77e9 + 60 * np.arange(14)),
        ("updatedAt", (1.77e12 + np.arange(14)).astype(int)),
        ("snapshot_date", [int(day[:10].replace("-", "")) for day in DAYS]),
        ("Created", [day[:10] for day in DAYS]),
        ("Unnamed: 0", np.arange(14)[::-1]),
        ("index", np.arange(14)),
        ("row", np.r_[:12, 1:3]),
        ("file", ["march"] * 12 + ["april"] * 2),
    ],
)
def test_rows_that_differ_in_when_or_where_they_were_written_alone_are_copies(name, values):
    found = find_copies(make(3, 5, **{name: values}))
    assert found.again.sum() == 2
    assert found.said.endswith(f"; they differ in {name} alone)")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("wall_seconds", np.arange(14) + 1.77e9),
        ("runtime", np.arange(14) * 60.0),
        ("updated", [f"v{place}" for place in range(14)]),
        ("index", 50 - 3 * np.arange(14)),
        ("run", [f"run-{place}" for place in range(14)]),
        ("seed", np.arange(14)),
        ("id", np.arange(14)),
    ],
)
def test_rows_that_differ_in_anything_else_are_no_copies(name, values):
    assert find_copies(make(3, 5, **{name: values})).said is None


def test_what_a_cell_took_does_not_tell_its_rows_apart():
    cells = [f"c{place}" for place in (*range(12), 3, 5)]
    found = find_copies(make(3, 5, cell=cells, wall_seconds=np.arange(14.0)))
    assert found.again.sum() == 2
    assert "they differ in wall_seconds alone" in found.said


def test_rows_without_a_measured_value_are_nobodys_copies():
    table = make(3, 5, status="crashed", peak_lr=0.1)
    assert find_copies(table.assign(loss=np.nan)).said is None
    assert find_copies(table.drop(columns="loss")).said is None
    assert find_copies(table.drop(columns="loss").assign(wer=0.5)).again.sum() == 2


def test_curves_that_meet_at_a_point_are_no_copies_and_a_file_that_is_there_twice_is():
    step = np.arange(1, 11) * 100
    curves = [pd.DataFrame({"file": f"run{seed}", "step": step, "loss": [2.0] * 9 + [1.0 - seed]}) for seed in range(3)]
    assert find_copies(pd.concat(curves)).said is None
    varied = [curve.assign(loss=2.0 + seed + 1 / step) for seed, curve in enumerate(curves)]
    twice = pd.concat([*varied, varied[1].assign(file="run1 (1)")], ignore_index=True)
    assert np.flatnonzero(find_copies(twice).again).tolist() == list(range(30, 40))


def test_tables_of_any_kinds_of_columns_can_be_searched():
    table = make(3, 5)
    table["kind"] = pd.Categorical(["a", "b"] * 7)
    table["count"] = pd.array([1, None] * 7, dtype="Int64")
    table["mixed"] = [1, "1", None, 2**70, True, 1.5, "x"] * 2
    table.columns = [*table.columns[:-1], 7]
    for frame in (table, table.iloc[:0], table.iloc[:1], pd.DataFrame(), pd.concat([table, table], axis=1)):
        assert len(find_copies(frame).again) == len(frame)
