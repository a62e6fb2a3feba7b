"""Claims about provenance: it goes along with what is chosen from a table, and no attribute of pandas carries it."""

from __future__ import annotations

import copy
import pickle

import pandas as pd

from analysis.fit_table import fit
from analysis.laws.registry import get_law
from analysis.tables.provenance import Provenance, Table, note, provenance_of
from analysis.tables.table import read_table


def test_it_goes_along_with_chosen_rows_and_columns_and_leaves_attrs_alone():
    frame = pd.DataFrame({"loss": [3.0, 2.0, 2.0], "label": ["a", "b", "b"]})
    frame.attrs = {"mine": 1}
    table = read_table(frame, keep=["loss<9"])
    known = table.provenance
    assert dict(known.conventions) == {"keep loss<9": "0 of 3 rows taken away"}
    for some in (
        table[table["loss"] < 3], table[["loss"]], table.assign(seed=0), table.rename(columns={"loss": "L"}),
        table.sort_values("loss"), table.drop_duplicates(), copy.deepcopy(table), pickle.loads(pickle.dumps(table)),  # noqa: S301
        *(rows for _, rows in table.groupby("label")),
    ):  # fmt: skip
        assert some.provenance == known
    assert frame.attrs == {"mine": 1} and "conventions" not in table.attrs
    assert provenance_of(frame) == Provenance()
    assert provenance_of(Table(frame)) == Provenance()


def test_a_fit_records_what_was_done_and_what_was_said():
    sample = get_law("power_floor").sample(levels=6, noise=0.0)
    texts = sample.assign(size=[f"{m:g} examples" for m in sample["data_unique"]]).drop(columns="data_unique")
    table = read_table(texts.assign(**{"val (%)": 100 * texts["loss"]}).drop(columns="loss"),
                       {"data_unique": "count(size)", "loss": "`val (%)`*0.01"})  # fmt: skip
    found = fit(note(table, "mine", "a note"), "power_floor")
    assert "data_unique: count(size)" in found.conventions["rows"] and "mine: a note" in found.conventions["rows"]
