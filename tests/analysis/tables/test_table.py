"""Claims about tables: every source gives the same rows, what is left out is counted, fingerprints survive files."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.errors import AnalysisError
from analysis.tables.columns import keep_rows
from analysis.tables.table import fingerprint_table, read_table, select_rows, write_table


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_keeps_its_fingerprint_through_a_file(table, tmp_path, suffix):
    path = str(tmp_path / f"t{suffix}")
    write_table(table, path)
    again = read_table(path)
    assert again["loss"].to_numpy().tobytes() == table["loss"].to_numpy().tobytes()
    assert fingerprint_table(again) == fingerprint_table(table)


def test_the_fingerprint_sees_every_change(table):
    changed = [
        table.assign(loss=table["loss"] * (1 + 1e-15)),
        table.rename(columns={"loss": "error"}),
        table.assign(label=["mlp", "forest", "mlp"]),
        table.iloc[::-1],
    ]
    assert len({fingerprint_table(item) for item in [table, *changed]}) == 5


def test_a_store_is_read_through_its_columns(tmp_path, monkeypatch):
    class Store:
        def __init__(self, path):
            assert str(path) == str(tmp_path)

        @classmethod
        def open(cls, path):
            return cls(path)

        def columns(self, *, all_fields):
            assert not all_fields
            return {"cell": pa.chunked_array([["aa", "bb"]]), "loss": pa.chunked_array([[0.5, 0.25]])}

    monkeypatch.setattr("scaling.store.store.Store", Store)
    assert read_table(str(tmp_path)).to_dict("list") == {"cell": ["aa", "bb"], "loss": [0.5, 0.25]}


def test_every_row_left_out_is_counted_once_with_its_reason():
    nan, inf = float("nan"), float("inf")
    table = pd.DataFrame(
        [
            ("a", "ok", True, 10.0, 3.0),
            ("b", "ok", False, nan, nan),
            ("c", "diverged", True, 10.0, nan),
            ("d", "diverged", False, 10.0, nan),
            ("e", None, True, 10.0, 3.0),
            ("f", "ok", True, nan, nan),
            ("g", "ok", True, 0.0, 3.0),
            ("h", "ok", True, 10.0, nan),
            ("i", "ok", True, 10.0, inf),
            ("j", "ok", True, 10.0, -1.0),
        ],
        columns=["cell", "status", "is_final", "num_params", "loss"],
    )
    rows, left_out, rule = select_rows(table, ["num_params", "loss"], positive=["num_params", "loss"])
    assert rows["cell"].tolist() == ["a"]
    assert left_out == {
        "not the final row": 2,
        "status is diverged": 1,
        "status is missing": 1,
        "num_params is missing": 1,
        "num_params is zero or negative": 1,
        "loss is NaN": 1,
        "loss is infinite": 1,
        "loss is zero or negative": 1,
    }
    assert len(rows) + sum(left_out.values()) == len(table)
    assert rule == "is_final and status is ok and num_params, loss finite and num_params, loss > 0"


def test_zero_stays_where_no_logarithm_is_taken_and_curves_where_they_are_asked_for(table):
    zero = table.assign(loss=0.0)
    assert select_rows(zero, ["loss"])[1] == {"not the final row": 1, "status is diverged": 1}
    assert select_rows(zero, ["loss"], only_final=False)[0]["cell"].tolist() == ["aa", "cc"]


def test_text_is_no_number_and_the_message_says_how_to_write_it():
    table = pd.DataFrame({"num_params": ["7B", "13B", "1e9", None], "loss": [2.0, 1.9, 2.5, 2.6]})
    with pytest.raises(AnalysisError, match=r"'num_params' holds text such as '7B' \(2 of 4 values\).*write 7B as 7e9"):
        select_rows(table, ["num_params", "loss"])
    with pytest.raises(AnalysisError, match="did you mean 'num_params'"):
        select_rows(table, ["num_param", "loss"])


def test_rows_that_repeat_another_count_once_with_their_number(table):
    finished = table.assign(status="ok", is_final=True, seed=0)
    copies = pd.concat([finished, finished.iloc[:2]])
    for some in (copies, copies.drop(columns="cell"), copies.drop(columns=["cell", "seed"])):
        rows, left_out, rule = select_rows(some, ["loss"])
        assert (len(rows), left_out) == (3, {"the same as another row": 2})
        assert "2 rows repeat another one (row 4 is row 1: " in rule
    every, left_out, _ = select_rows(read_table(copies.drop(columns="cell"), copies="all"), ["loss"])
    assert (len(every), left_out) == (5, {})


def test_cells_that_are_measured_twice_and_differ_are_refused_with_their_count(table):
    finished = table.assign(status="ok", is_final=True, seed=0)
    again = pd.concat([finished, finished.iloc[:1].assign(loss=9.0)])
    with pytest.raises(AnalysisError, match=r"1 rows measure a cell that another row measures, and differ, .* cell=aa"):
        select_rows(again, ["loss"])
    curve = pd.concat([finished.assign(step=1, is_final=False), finished.assign(step=2)])
    assert len(select_rows(curve, ["loss"], only_final=False)[0]) == 6
    two_labels = pd.concat([finished, finished.assign(label=finished["label"] + "-again")])
    assert len(select_rows(two_labels, ["loss"])[0]) == 6


def test_units_of_data_are_not_mixed(table):
    mixed = table.assign(status="ok", is_final=True, data_unit=["examples", "tokens", "tokens"])
    with pytest.raises(AnalysisError, match=r"2 rows in tokens and 1 rows in examples.*--keep data_unit==tokens"):
        select_rows(mixed, ["loss"])
    assert len(select_rows(keep_rows(mixed, ["data_unit==tokens"]), ["loss"])[0]) == 2


def test_ways_of_counting_n_are_not_mixed_and_a_fit_names_its_own(table):
    finished = table.assign(status="ok", is_final=True, num_params=[100, 60, 60])
    mixed = finished.assign(num_params_convention=[None, "non_embedding", "non_embedding"], num_params_total=100)
    with pytest.raises(AnalysisError, match=r"2 rows as non_embedding and 1 rows as total.*--keep num_params_conv"):
        select_rows(mixed, ["num_params", "loss"])
    assert len(select_rows(mixed, ["loss"])[0]) == len(select_rows(mixed, ["num_params_total", "loss"])[0]) == 3
    rows, _, rule = select_rows(keep_rows(mixed, ["num_params_convention==non_embedding"]), ["num_params", "loss"])
    assert (len(rows), "num_params counted as non_embedding" in rule) == (2, True)
    assert "counted" not in select_rows(finished, ["num_params", "loss"])[2]


def test_chinchilla_is_read_by_its_own_names(shared_data):
    names = {"num_params": "Model Size", "train_flops": "Training FLOP"}
    path = shared_data / "scaling-tables" / "chinchilla_epoch.csv"
    table = read_table(path, names, derive=["data_seen"], keep=["loss<3.44"])
    rows, left_out, _ = select_rows(table, ["num_params", "data_seen", "loss"])
    assert (len(rows), left_out) == (240, {})  # SCIENCE: 245 points of which 5 are outliers
    assert np.allclose(6 * rows["num_params"] * rows["data_seen"], rows["train_flops"], rtol=1e-15)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_packed_files_are_the_same_table(table, tmp_path, suffix):
    plain = tmp_path / f"t{suffix}"
    if suffix == ".tsv":
        table.to_csv(plain, index=False, sep="\t")
    else:
        write_table(table, str(plain))
    packed = tmp_path / f"t{suffix}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert fingerprint_table(read_table(plain)) == fingerprint_table(read_table(packed)) == fingerprint_table(table)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b""),
        ("t.csv", b"a,b\n1,2,3\n4\n5,6,7,8\n"),
        ("t.parquet", b"no"),
        ("t.jsonl", b"{'a': 1}"),
        ("t.csv.gz", b"a,b"),
    ],
)
def test_broken_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnalysisError, match=r"is no readable \.\w+ file") as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_unknown_files_are_refused(table, tmp_path):
    with pytest.raises(AnalysisError, match=r"choose \.csv, \.parquet or \.jsonl"):
        write_table(table, str(tmp_path / "t.xlsx"))
    with pytest.raises(AnalysisError, match="does not exist"):
        read_table(str(tmp_path / "none.csv"))
    with pytest.raises(AnalysisError, match="does not exist; give"):
        read_table(str(tmp_path / "none.xlsx"))
    with pytest.raises(AnalysisError, match="is a web address; download the file"):
        read_table("https://example.org/t.csv")
    (tmp_path / "some.pdf").write_text("")
    with pytest.raises(AnalysisError, match="neither a folder nor"):
        read_table(tmp_path / "some.pdf")
