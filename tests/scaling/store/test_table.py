"""The table in columns: every cell's rows in the study's order, once for each label, as rows and as pandas has them."""

import pandas as pd
import pytest

from analysis.tables.table import read_table
from scaling.specs.models import MLPSpec
from scaling.specs.study import Series, Study
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store import attempts
from scaling.store.columns import CONVENTION, TOTAL
from scaling.store.store import Store
from tests.scaling.store.toy_study import CELLS, make_record

NETWORK = CELLS[0].model_copy(
    update={"model": MLPSpec(width=8), "training": TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), num_steps=3)}
)


@pytest.fixture
def several(tmp_path) -> Store:
    """A store of cells in several series, one of which failed, and one of which was not begun."""
    series = (Series(label="b", cells=(CELLS[2], CELLS[0])), Series(label="a", cells=(CELLS[1], CELLS[0], NETWORK)))
    study = Study(name="several", question="?", metric="error", series=series)
    store = Store(tmp_path / "store")
    store.create(study.canonical_json())
    for cell in (CELLS[0], CELLS[1]):
        store.publish(make_record(cell))
    store.write_cell(NETWORK.canonical_json())
    folder = store.cell_path(NETWORK.fingerprint())
    attempts.end_attempt(folder, attempts.start_attempt(folder), "failed", "…")
    return store


def publish(store: Store, **changes) -> None:
    store.publish(make_record(CELLS[2], **changes))


def test_a_cell_has_its_rows_once_for_each_label_in_the_studys_order(several):
    found = [(row["cell"], row["label"], row["step"], row["status"]) for row in several.rows()]
    zero, one, net = (cell.fingerprint() for cell in (CELLS[0], CELLS[1], NETWORK))
    assert found == [
        (zero, "b", 1, "ok"),
        (zero, "b", 2, "ok"),
        (zero, "a", 1, "ok"),
        (zero, "a", 2, "ok"),
        (one, "a", 1, "ok"),
        (one, "a", 2, "ok"),
        (net, "a", None, "failed"),
    ]


def test_fields_stand_behind_with_their_own_kinds(several):
    rows = several.rows()
    fields = {name: [row[name] for row in rows] for name in rows[0] if "." in name}
    assert fields["model.kind"] == ["logistic_regression"] * 6 + ["mlp"]
    everything = several.rows(all_fields=True)
    assert set(fields) < set(everything[0])
    assert everything[-1]["training.optimizer.peak_lr"] == 0.1
    assert everything[0]["training.optimizer.peak_lr"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_params": None, "params": {}, "peak_lr": None, "batch_size": None},
        {"num_params_convention": "non_embedding", "num_params": 4},
        {"mfu": 0.5, "steps_to_target": 7, "train_seconds": 2.0, "price_per_hour": 3.6},
        {"params": {"embedding": 2**60, "head": 1}},
        {"num_params": 2**70, "params": {"head": 2**70}},
    ],
    ids=["plain", "uncounted", "other convention", "course", "large", "too large"],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_columns_are_those_that_pandas_makes_of_the_rows(several, changes, mixed):
    if mixed:
        data = make_record(CELLS[2]).data
        facts = {"mixture_a": 1, "mixture_b": 0.25, "tokens": 3}
        publish(several, data=data.model_copy(update={"facts": facts}), **changes)
        other = make_record(CELLS[1])
        (several.cell_path(other.cell) / "record.json").unlink()
        facts = {"mixture_a": 0.5, "mixture_b": "all"}
        several.publish(other.model_copy(update={"data": other.data.model_copy(update={"facts": facts})}))
    else:
        publish(several, **changes)
    for all_fields in (False, True):
        rows = several.rows(all_fields=all_fields)
        table, expected = read_table(str(several.path), all_fields=all_fields), pd.DataFrame(rows)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
        assert all(list(row) == list(table.columns) for row in rows)
    if mixed:
        assert {row["mixture_b"] for row in rows} == {None, 0.25, "all"}


def test_how_parameters_are_counted_is_a_column_where_some_are_counted_otherwise(several):
    assert not {CONVENTION, TOTAL} & set(several.rows()[0])
    publish(several, num_params_convention="non_embedding", num_params=4)
    rows = several.rows()
    assert {(row[CONVENTION], row["num_params"], row[TOTAL]) for row in rows} == {
        ("non_embedding", 4, 10),
        ("total", 10, 10),
        (None, None, None),
    }


def test_a_store_without_rows_has_no_columns(tmp_path):
    store = Store(tmp_path / "store")
    store.create(
        Study(name="a", question="?", metric="error", series=(Series(label="a", cells=CELLS),)).canonical_json()
    )
    assert store.rows() == []
    assert store.columns() == {}
    assert list(read_table(str(store.path)).columns) == []
