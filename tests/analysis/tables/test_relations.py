"""Claims that need no oracle: order, units, format and division into files change no digit of a fit; junk is named."""

from __future__ import annotations

import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.fit_table import fit
from analysis.tables.provenance import Table
from analysis.tables.table import read_table, select_rows, sort_rows, write_table

NEEDED = ["num_params", "data_seen", "loss"]
CALM = settings(max_examples=25, deadline=None, derandomize=True)
# How people write a count: the unit of the header, and the factor that undoes it.
UNITS = [("", ""), (" (K)", "*1e3"), (" (M)", "*1e6"), (" (B)", "*1e9"), (" (T)", "*1e12")]
SUFFIXES = [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", ".tsv.xz", ".jsonl.bz2"]


def make_runs() -> pd.DataFrame:
    """Returns 24 runs on Chinchilla's surface with noise, counted as people count: 70M parameters, 1.4B tokens."""
    rng, rows = np.random.default_rng(3), []
    for millions in (70, 160, 410, 1000, 2800, 6900):
        for ratio in (5, 20, 80, 320):
            size, data = millions * 10**6, round(millions * ratio / 10) * 10**7
            clean = 1.8172 + 477.83 * size**-0.34731 + 2143.4 * data**-0.36717
            rows.append(
                {
                    "num_params": size,
                    "data_seen": data,
                    "loss": clean * np.exp(rng.normal(0, 2e-3)),
                    "label": f'{millions}M, \u2028 "quoted"' if millions == 410 else f"{millions}M",
                    "seed": ratio % 3,
                }
            )
    return pd.DataFrame(rows)


RUNS = make_runs()
WHOLE = fit(RUNS, "chinchilla", bootstrap=20)


def fitted_alike(table: pd.DataFrame) -> bool:
    """Returns whether a table's rows come to a fit as those of the runs do: the same floats in the same order."""
    ours, theirs = (sort_rows(select_rows(one, NEEDED)[0], NEEDED) for one in (RUNS, table))
    return all(
        ours[name].to_numpy(float).tobytes() == theirs[name].to_numpy(float).tobytes() for name in (*NEEDED, "seed")
    )


@CALM
@given(st.permutations(range(len(RUNS))), st.permutations(list(RUNS.columns)))
def test_the_order_of_rows_and_columns_changes_no_digit(order, names):
    assert fitted_alike(RUNS.iloc[list(order)][list(names)])


def test_what_comes_to_a_fit_alike_is_fitted_alike():
    again = fit(RUNS.iloc[::-1][RUNS.columns[::-1]], "chinchilla", bootstrap=20)
    assert (again.params, again.ci95, again.draws) == (WHOLE.params, WHOLE.ci95, WHOLE.draws)


@CALM
@given(st.sampled_from(UNITS), st.sampled_from(UNITS), st.sampled_from(["csv", "frame"]))
def test_changed_units_change_no_digit(size, data, how):
    theirs = pd.DataFrame({"loss": RUNS["loss"], "seed": RUNS["seed"]})
    columns = {}
    for ours, name, (unit, factor) in (("num_params", "Parameters", size), ("data_seen", "Tokens", data)):
        scale = int(float(factor[1:] or 1))
        # as somebody would have typed it: 0.07, not 0.07000000000000001
        theirs[f"{name}{unit}"] = [float(f"{value / scale:.10g}") for value in RUNS[ours]]
        columns[ours] = f"`{name}{unit}`{factor}"
    with TemporaryDirectory() as folder:
        path = f"{folder}/runs.csv"
        theirs.to_csv(path, index=False)
        assert fitted_alike(read_table(path if how == "csv" else theirs, columns))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_read_as_it_was_written(tmp_path, suffix):
    path = str(tmp_path / f"runs{suffix}")
    write_table(RUNS, path)
    again = read_table(path)
    assert fitted_alike(again)
    assert again["label"].tolist() == RUNS["label"].tolist()
    assert not again.provenance.said


@CALM
@given(
    st.lists(st.integers(1, len(RUNS) - 1), max_size=4, unique=True),
    st.lists(st.sampled_from(SUFFIXES), min_size=5, max_size=5),
)
@example(cuts=[1, 2, 3], suffixes=SUFFIXES[:5])
def test_one_table_in_several_files_is_the_same_table(cuts, suffixes):
    ends = [0, *sorted(cuts), len(RUNS)]
    with TemporaryDirectory() as folder:
        paths = []
        for part, (first, last, suffix) in enumerate(zip(ends[:-1], ends[1:], suffixes, strict=False)):
            paths.append(f"{folder}/part{part}{suffix}")
            write_table(RUNS.iloc[first:last], paths[-1])
        assert fitted_alike(read_table(paths))
        assert fitted_alike(read_table(f"{folder}/part*"))


@CALM
@given(st.integers(0, 10**30), st.sampled_from([".csv", ".jsonl"]))
def test_whole_numbers_of_any_length_are_the_floats_that_they_are(value, suffix):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_text(f"train_flops\n{value}\n" if suffix == ".csv" else json.dumps({"train_flops": value}))
        table = read_table(path)
        assert float(table["train_flops"].iloc[0]) == float(value)
        assert len(read_table(path, keep=[f"train_flops<={float(value)!r}"])) == 1
        write_table(table, f"{folder}/again.parquet")


TEXT = st.text(alphabet=string.ascii_letters[:6] + "01.5eE+-*/`'\"()<>= ,%±?{}", max_size=24)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXT, TEXT)
def test_whatever_is_typed_for_a_column_or_a_rule_is_a_table_or_one_line(column, rule):
    table = pd.DataFrame({"a": [1.0, 2.0], "b": ["70M", "1,5"], "e (B)": [1, 2], "ab": [None, "x"]})
    try:
        found = read_table(table, {"loss": column} if column else None, keep=[rule] if rule else ())
    except AnalysisError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(found, Table)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_table_is_fitted_or_one_line(data):
    suffix = data.draw(st.sampled_from([".csv", ".jsonl", ".json", ".parquet", ".csv.gz"]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"runs{suffix}"
        write_table(RUNS.iloc[:6], str(path))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            place, what = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 2))
            if what == 0:
                content[place] = data.draw(st.integers(0, 255))
            elif what == 1:
                del content[place : place + data.draw(st.integers(1, 40))]
            else:
                content[place:place] = data.draw(st.sampled_from([b",", b"\n", b'"', b"\x00", b"NaN", b"{", b"1e999"]))
            content = content or bytearray(b"x")
        path.write_bytes(content)
        try:
            fit(read_table(str(path)), "power_floor", variables=["data_seen"])
        except AnalysisError as error:
            assert "\n" not in str(error)
