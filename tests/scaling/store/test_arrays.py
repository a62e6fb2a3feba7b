"""Columns as arrays: every value comes back as it was, of its kind."""

import json

import pytest

from scaling.store.arrays import is_mixed, join_tables, make_table, to_array, to_values


@pytest.mark.parametrize(
    ("values", "mixed"),
    [
        ([1, None, -(2**63)], False),
        ([1.5, None, -0.0], False),
        (["a", None, "ü"], False),
        ([True, None, False], False),
        ([None, None], False),
        ([1, 0.5, None], True),
        ([True, 1], True),
        (["a", 1, None], True),
        ([2**64, 1], True),
    ],
)
def test_values_come_back_as_they_were(values, mixed):
    array = to_array(values)
    assert is_mixed(array) is mixed
    assert json.dumps(to_values(array)) == json.dumps(values)


def test_a_table_has_every_name_of_its_rows_in_order():
    table = make_table([{"a": 1, "b": "x"}, {"b": "y", "c": 0.5, "a": 2}])
    assert [
        dict(zip(table.column_names, row, strict=True)) for row in zip(*map(to_values, table.columns), strict=True)
    ] == [
        {"a": 1, "b": "x", "c": None},
        {"a": 2, "b": "y", "c": 0.5},
    ]
    assert table.column_names == ["a", "b", "c"]


def test_joined_tables_keep_values_of_several_kinds_apart():
    joined = join_tables([make_table([{"a": 1, "b": None}]), make_table([{"a": 0.5}]), make_table([{"b": "x"}])])
    assert json.dumps([to_values(joined.column(name)) for name in ("a", "b")]) == '[[1, 0.5, null], [null, null, "x"]]'


def test_nothing_joined_is_a_table_without_rows():
    assert join_tables([]).num_rows == 0
