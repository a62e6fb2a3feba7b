"""Claims about units: headers name them, C against 6 N D tells of missing ones, and honest counts pass."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.tables.units import check_compute, doubt_counts, find_unit


@pytest.mark.parametrize(
    ("header", "name", "scale"),
    [
        ("Parameters (b)", "Parameters", "1e9"),
        ("Params(M)", "Params", "1e6"), ("Model Size (B)", "Model Size", "1e9"),
        ("Parameters (in millions)", "Parameters", "1e6"), ("N (M)", "N", "1e6"), ("D [B]", "D", "1e9"),
        ("Tokens (T)", "Tokens", "1e12"), ("tokens in billions", "tokens", "1e9"), ("Tokens, B", "Tokens", "1e9"),
        ("tokens / 1e9", "tokens", "1e9"), ("tokens/M", "tokens", "1e6"), ("tokens_B", "tokens", "1e9"),
        ("params_m", "params", "1e6"), ("tokens_seen_B", "tokens_seen", "1e9"), ("N_B", "N", "1e9"),
        ("Billion tokens", "tokens", "1e9"), ("M params", "params", "1e6"), ("MParams", "Params", "1e6"),
        ("Dataset size (B tokens)", "Dataset size", "1e9"), ("Steps (thousands)", "Steps", "1e3"),
        ("FLOPs (1E21)", "FLOPs", "1e21"), ("FLOPs (x1e18)", "FLOPs", "1e18"),
        ("Compute (\u00d710^21)", "Compute", "1e21"),
        ("C (10²¹)", "C", "1e21"), ("Compute (10^18 FLOPs)", "Compute", "1e18"), ("flops_1e18", "flops", "1e18"),
        ("Compute (FLOPs, 1e18)", "Compute", "1e18"), ("Compute (FLOPs)", "Compute", "1"),
        ("FLOPs (G)", "FLOPs", "1e9"),
        ("Compute (1e3 PFLOPs)", "Compute", "1e18"), ("Training compute (ZFLOPS)", "Training compute", "1e21"),
        ("Compute [PF-days]", "Compute", "8.64e19"), ("petaflop/s-days", "FLOPs", "8.64e19"),
        ("Compute (PFLOP/s-days)", "Compute", "8.64e19"), ("PFLOP-days", "FLOPs", "8.64e19"),
        ("compute_pf_days", "compute", "8.64e19"), ("EF-days", "FLOPs", "8.64e22"), ("PF-hours", "FLOPs", "3.6e18"),
        ("GFLOPs", "FLOPs", "1e9"), ("throughput/total_gflops", "throughput/total_FLOPs", "1e9"),
        ("throughput/total_training_Gflops", "throughput/total_training_FLOPs", "1e9"),
        ("Training ExaFLOPs", "Training FLOPs", "1e18"), ("Accuracy (%)", "Accuracy", "0.01"),
        ("acc_pct", "acc", "0.01"),
        ("err%", "err", "0.01"), ("Accuracy, %", "Accuracy", "0.01"), (" Tokens  (B) ", "Tokens", "1e9"),
    ],
)  # fmt: skip
def test_a_header_names_its_unit(header, name, scale):
    unit = find_unit(header)
    assert unit is not None
    assert (unit.name, unit.scale) == (name, scale)


@pytest.mark.parametrize(
    "header",
    ["data_seen", "num_params", "train_flops", "Model Size", "T", "B", "M", "k", "", "n_b", "in_b", "data_b",
     "Model params", "Batch size (B)", "Sequence length (T)", "Steps (T)", "Time (m)", "Runtime (m)",
     "Memory (GB)", "loss (nats)",
     "train/loss", "val/B", "loss 1e18", "loss_1e-3", "lr (1e-4)", "flops_matmul", "flops_k", "params_head", "TFLOPS",
     "throughput/gflops_per_second", "perf/per_device_tflops", "tokens_per_second (M)", "Training FLOP",
     "learning/total_weights", "results.hellaswag.acc_norm,none", "GPU-days", "seconds/1e3", "Data (tokens)"],
)  # fmt: skip
def test_plain_names_and_symbols_hold_no_unit(header):
    assert find_unit(header) is None


@given(st.text(alphabet="abBMKTN (),/_[]%xe109^GFLOPs-days", max_size=24))
def test_any_header_is_looked_at(header):
    unit = find_unit(header)
    assert unit is None or float(unit.scale) > 0


def make_table(n=1.0, d=1.0, c=1.0, **more):
    N = np.array([7e7, 7e7, 1.6e8, 4.1e8, 2.8e9])
    D = np.array([3.5e8, 5.6e9, 3.2e9, 8e9, 5.6e10])
    return pd.DataFrame({"num_params": N / n, "data_seen": D / d, "train_flops": 6 * N * D / c, **more})


@pytest.mark.parametrize(
    ("n", "d", "c", "options"),
    [
        (1e6, 1e9, 1, "--column 'num_params=num_params*1e6' --column 'data_seen=data_seen*1e9'"),
        (1e9, 1e9, 1, "--column 'num_params=num_params*1e9' --column 'data_seen=data_seen*1e9'"),
        (1e6, 1, 1, "--column 'num_params=num_params*1e6'"),
        (1, 1e6, 1, "--column 'data_seen=data_seen*1e6'"),
        (1, 1e3, 1, "--column 'data_seen=data_seen*1e3'"),
        (1, 1, 1e18, "--column 'train_flops=train_flops*1e18'"),
        (1, 1, 8.64e19, "--column 'train_flops=train_flops*8.64e19'"),
        (1e6, 1e9, 1e21, "--column 'train_flops=train_flops*1e21'"),
    ],
)
def test_missing_units_are_told_with_options_to_paste(n, d, c, options):
    said = check_compute(make_table(n, d, c))
    assert said is not None
    assert "times 6 N D, so their units differ; they agree with --column" in said
    assert options in said
    assert "\n" not in said


def test_options_go_on_from_the_expressions_that_were_given():
    table = make_table(1e6)
    assert "'num_params=`Size (x)`*1e6'" in check_compute(table, {"num_params": "`Size (x)`"})


@pytest.mark.parametrize("factor", [1 / 3, 1.0, 3.0, 30.0, 0.02, 1024.0, 3136.0])
def test_honest_ways_of_counting_pass(factor):
    table = make_table()
    table["train_flops"] *= factor * np.array([1.0, 1.1, 0.9, 1.05, 1.0])
    assert check_compute(table) is None


def test_examples_may_have_many_positions_and_our_own_terms_are_known():
    table = make_table(c=2e-5)
    assert check_compute(table) is not None
    assert check_compute(table.assign(data_unit="examples")) is None
    assert check_compute(table.assign(flops_matmul=table["train_flops"])) is None
    assert check_compute(table.assign(flops_per_token=1e9)) is not None


def test_rows_in_other_units_than_the_rest_are_found():
    table = make_table()
    table.loc[2:3, "num_params"] /= 1e6
    assert "C is 1e6 times 6 N D in 2 of 5 rows, the first of them row 3, and 1 times in the others" in check_compute(
        table
    )


def test_without_all_three_or_without_usable_rows_nothing_is_said():
    table = make_table(1e6, 1e9)
    assert check_compute(table.drop(columns="train_flops")) is None
    assert check_compute(table.assign(train_flops=np.nan)) is None
    assert check_compute(table.assign(num_params="70M")) is None
    assert check_compute(table.iloc[:0]) is None


def test_units_that_nothing_explains_are_still_refused():
    assert check_compute(make_table(c=1e-17)).endswith("so their units differ; look at the three columns")


def test_counts_that_cannot_be_are_doubted():
    table = make_table().drop(columns="train_flops")
    assert doubt_counts(table) is None
    assert "num_params is 0.07 to 2.8, which cannot be a count; are they billions" in doubt_counts(
        table.assign(num_params=[0.07] * 4 + [2.8])
    )
    assert "are they millions, --column 'num_params=num_params*1e6'" in doubt_counts(
        table.assign(num_params=[70.4, 160, 410, 1400, 2800])
    )
    assert "data_seen" in doubt_counts(table.assign(data_seen=[0.5, 3, 4, 5, 6]))
    assert doubt_counts(table.assign(num_params=[70, 160, 410, 1400, 2800])) is None  # tiny models there are
    assert doubt_counts(pd.DataFrame({"loss": [0.5]})) is None
