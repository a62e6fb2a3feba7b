"""Claims about sweeps in tables: what nearly agrees is one point, and one value a point is no sweep."""

import numpy as np
import pandas as pd

from analysis.tables.sweeps import find_sweep, name_points, number_points, number_values


def test_values_within_a_percent_are_one_and_text_must_be_equal():
    assert number_values(pd.Series([0.000345, 0.0003453, 0.00069])).tolist() == [0, 0, 1]
    assert number_values(pd.Series([0.0, 0.0, 1e-9, np.nan])).tolist() == [0, 0, 1, -1]
    assert number_values(pd.Series([-1.0, -1.001, 2.0])).tolist() == [1, 0, 2]
    assert number_points(pd.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "x"]}), ["a", "b"]).tolist() == [0, 1, 2]
    assert number_points(pd.DataFrame({"a": [1, 2]}), []).tolist() == [0, 0]


def test_several_values_at_one_point_are_a_sweep_unless_seeds_or_sizes_tell_them_apart():
    table = pd.DataFrame({"data_seen": [1e9] * 3, "num_params": [1e6, 2e6, 4e6], "peak_lr": [0.1, 0.2, 0.4]})
    assert find_sweep(table, "peak_lr", ["data_seen"]) is None
    assert find_sweep(table.drop(columns="num_params"), "peak_lr", ["data_seen"]) == (3, 1, {"data_seen": 1e9})
    seeds = pd.DataFrame({"num_params": [1e6] * 2 + [2e6] * 2, "peak_lr": [0.1, 0.2, 0.1, 0.2], "seed": [0, 1, 0, 1]})
    assert find_sweep(seeds, "peak_lr", ["num_params"]) is None
    assert find_sweep(seeds.assign(seed=0), "peak_lr", ["num_params"]) == (2, 2, {"num_params": 1e6})
    assert find_sweep(seeds.assign(seed=[0, 1, 2, 3]), "peak_lr", ["num_params"]) is not None


def test_points_are_named_by_what_varies():
    table = pd.DataFrame({"num_params": [1e6, 2e6], "data_seen": [1e9, 1.0001e9], "data_unique": [5, 6]})
    assert name_points(table, ["train_flops"]) == ("train_flops", "num_params", "data_unique")
