"""Claims about proposals for anybody's table: by name, unit and values; options that paste; no false friend."""

import shlex

import pandas as pd
import pytest

from analysis.tables.expressions import read_expression
from analysis.tables.proposals import propose_columns, propose_for_table, propose_table

NEEDED = ("num_params", "data_seen", "train_flops", "loss")


def propose(needed=NEEDED, **columns):
    return {one.column: one.expression for one in propose_table(pd.DataFrame(columns), needed)}


@pytest.mark.parametrize(
    ("header", "values", "ours", "expression"),
    [
        ("Parameters (b)", [0.07, 1.4], "num_params", "`Parameters (b)`*1e9"),
        ("Parameters (b)", [7e7, 1.4e9], "num_params", "Parameters (b)"),
        (" Tokens (T)", [3.5e8, 1e9], "data_seen", "Tokens (T)"),
        ("tokens_B", [300, 20], "data_seen", "tokens_B*1e9"),
        ("Compute (PF-days)", [0.1, 0.2], "train_flops", "`Compute (PF-days)`*8.64e19"),
        ("total_gflops", [1e9, 1e10], "train_flops", "total_gflops*1e9"),
        ("Training FLOP", [1e18, 1e19], "train_flops", "Training FLOP"),
        ("Compute (FLOPs)", [1e18, 1e19], "train_flops", "Compute (FLOPs)"),
        ("Params", ["70M", "1.4B"], "num_params", "count(Params)"),
        ("#params (M)", ["1,500", "70"], "num_params", "count(`#params (M)`)*1e6"),
        ("Params (M)", ["70M", "1.4B"], "num_params", "count(`Params (M)`)"),
        ("Tokens (M)", [3.5e7, 5e7], "data_seen", "Tokens (M)"),
        ("Params (M)", ["70k", "0.1M"], "num_params", "count(`Params (M)`)"),
        ("loss_c4_val", [3.0, 4.0], "loss", "loss_c4_val"),
        ("accuracy (%)", [85.0, 0.5], "accuracy", "`accuracy (%)`*0.01"),
        ("accuracy (%)", [0.85, 0.5], "accuracy", "accuracy (%)"),
        ("Accuracy", ["85%", "70.5%"], "accuracy", "number(Accuracy)"),
        ("val loss ", ["3,21", "3,1"], "loss", "number(`val loss`)"),
        ("test_loss", ["3.21 ± 0.02", "3.3"], "loss", "number(test_loss)"),
        ("eval loss (mean ± std)", ["3.21 ± 0.02", "3.3"], "loss", "number(`eval loss (mean ± std)`)"),
        ("loss +/- std", ["3.21 +/- 0.02", "3.3 +/- 0.1"], "loss", "number(`loss +/- std`)"),
        ("N", [7e7, 1e9], "num_params", "N"),
        ("D (B)", [1.4, 3.0], "data_seen", "`D (B)`*1e9"),
        ("summary.eval/loss", [3.0, 4.0], "loss", "summary.eval/loss"),
        ("config.model.numParams", [3, 4], "num_params", "config.model.numParams"),
        ("a*loss", [3.0, 4.0], "loss", "`a*loss`"),
    ],
)
def test_a_column_is_proposed_with_the_unit_that_its_values_agree_with(header, values, ours, expression):
    assert propose([ours], **{header: values}) == {ours: expression}
    read = read_expression(expression, [header], "--column x", holder="the table")
    assert read.names() == [header]


def test_what_is_doubtful_is_said():
    table = pd.DataFrame({"Parameters (b)": [7e7], "tokens": ["70M"], "loss (val)": [3.0]})
    doubts = [one.doubt for one in propose_table(table, NEEDED)]
    assert doubts[0] == "'Parameters (b)' holds 7e+07, which is no number of 1e9s; it is taken as it stands"
    table = pd.DataFrame({"Params (M)": ["70M", "7e7", "a lot"]})
    assert (
        "1 values such as 'a lot'" in propose_table(pd.DataFrame({"Params": ["70M"] * 30 + ["a lot"]}), NEEDED)[0].doubt
    )
    assert propose_table(table, NEEDED) == []
    table = pd.DataFrame({"Params (M)": ["70k", "0.1M"]})
    assert "values with units of their own, so 'M' is left alone" in propose_table(table, NEEDED)[0].doubt


def test_symbols_are_what_they_say_where_a_table_speaks_in_symbols():
    assert propose(N=[7e7], D=[1e9], C=[1e18], train_tokens=[2e9], L=[3.0]) == {
        "num_params": "N", "data_seen": "D", "train_flops": "C", "loss": "L"
    }  # fmt: skip
    assert propose(D=[3], train_tokens=[2e9]) == {"data_seen": "train_tokens"}


def test_options_paste_into_a_shell():
    table = pd.DataFrame({"Parameters (b)": [0.07], "Bob's loss": [3.0], "State": ["finished"], "train_flops": [1e18]})
    options = propose_for_table(table, NEEDED)
    assert options[0] == "--column 'num_params=`Parameters (b)`*1e9'"
    assert options[-1] == "--column status=State"
    assert [shlex.split(option)[1] for option in options] == [
        "num_params=`Parameters (b)`*1e9", "loss=`Bob's loss`", "status=State"
    ]  # fmt: skip


def test_columns_that_are_there_are_not_proposed_again():
    assert propose(num_params=[1], data_seen=[2], Params=[3], tokens=[4], train_flops=[5], loss=[6]) == {}
    assert propose(status=["ok"], State=["finished"]) == {}


@pytest.mark.parametrize(
    "header",
    ["perplexity", "val_ppl", "loss_scale", "train/z_loss", "aux_loss", "eval/loss_stderr", "kl_loss", "total_loss",
     "tokens/s", "tokens_per_second", "tokens_per_batch", "max_tokens", "vocab_size", "batch_size", "eval_tokens",
     "per_device_tflops", "peak_flops", "flops_per_token", "gflops_per_second", "TFLOPS", "log_flops",
     "inference_flops", "param_norm", "embedding_params", "num_params_per_layer",
     "steps_per_second", "head", "run-0 - eval/loss", "num_params;data_seen;loss", "learning/total_weights"],
)  # fmt: skip
def test_false_friends_are_taken_for_nothing(header):
    assert propose(**{header: [1.0, 2.0]}) == {}


def test_held_out_losses_come_before_training_and_numbers_before_words():
    found = propose_columns({
        "train/loss": [3.0], "val/bpb": [0.9], "validation/CE loss": [3.1], "model_size": ["small"], "params": [7],
        "loss": [3.0],
    })  # fmt: skip
    assert found["loss"] == ["validation/CE loss", "val/bpb", "train/loss", "loss"]
    assert found["num_params"] == ["params"]


def test_a_name_that_is_ours_comes_first_for_its_column():
    found = propose_columns({"tokens_seen": [5], "data_seen": [6], "total_flops": [1], "train_flops": [2], "lr": [1]})
    assert (found["data_seen"][0], found["train_flops"][0]) == ("data_seen", "train_flops")
