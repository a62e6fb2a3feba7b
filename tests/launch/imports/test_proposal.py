"""Claims about imports without a mapping: names are listed and likely ones proposed, nothing is guessed in silence."""

import pytest

from launch.imports.mapping import build_table
from launch.imports.proposal import find_doubts, list_names, propose


def propose_for(folder):
    return propose(list_names(folder, list(folder.runs())))


def test_likely_names_are_proposed_for_histories(folder, add_run):
    for i in range(3):
        rows = [{"_step": step, "train/loss": 3.0, "eval/loss": 3.0, "_runtime": 1.0} for step in range(4)]
        config = {"model": {"n_params": 1000 * i, "arch": "gpt"}, "optim.lr": 1e-3, "batch_size": 8, "seq_len": 16}
        add_run(f"r{i}", rows, config=config, run={"group": "g", "name": f"r{i}"})
    mapping, others = propose_for(folder)
    assert mapping.columns == {
        "loss": "history.eval/loss",
        "num_params": "config.model.n_params",
        "peak_lr": "config.optim.lr",
        "batch_size": "config.batch_size",
        "family": "config.model.arch",
        "label": "run.group",
        "wall_seconds": "history._runtime",
        "data_seen": "history._step*config.batch_size*config.seq_len",
    }
    assert others["loss"][0] == "history.train/loss"


def test_runs_without_histories_get_their_ends_and_counts_with_letters_are_read(folder, add_run):
    add_run("a", summary={"val_loss": 2.0}, config={"num_params": "124M", "tokens_seen": 1e9, "notes": "loss"})
    assert propose_for(folder)[0].columns == {
        "loss": "summary.val_loss", "num_params": "count(config.num_params)", "data_seen": "config.tokens_seen"
    }  # fmt: skip


def test_names_are_listed_with_counts_and_examples(folder, add_run):
    add_run("a", [{"_step": 0, "loss": 2.0}, {"_step": 1}], config={"lr": 0.1})
    add_run("b", [{"_step": 0, "loss": 1.0}], config={"lr": 0.2, "seed": 1})
    names = {row["name"]: row for row in list_names(folder, list(folder.runs()))}
    assert (names["config.lr"]["runs"], names["config.lr"]["examples"]) == (2, [0.1, 0.2])
    assert (names["config.seed"]["runs"], names["history.loss"]["values"]) == (1, 2)
    assert (names["history._step"]["values"], names["history.loss"]["examples"]) == (3, [2.0, 1.0])


# What runs of other trainers look like at a tracker: the names that they log, with values that were made up.
EXPORTS = {
    "olmo-core": (
        {
            "rows": {
                "train/CE loss": 3.0, "train/PPL": 20.0, "train/Z loss": 1e-4, "eval/lm/c4_en-validation/CE loss": 3.1,
                "eval/lm/c4_en-validation/PPL": 22.0, "throughput/total tokens": 1e9, "throughput/device/TPS": 1e4,
                "throughput/total_training_Gflops": 1e9, "throughput/total_training_log_Gflops": 9.0,
                "optim/LR (group 0)": 1e-3, "optim/total grad norm": 1.0,
            },
            "config": {"data_loader": {"global_batch_size": 524288}, "optim": {"lr": 4e-4}, "model.vocab_size": 50304},
        },
        {
            "loss": "history.eval/lm/c4_en-validation/CE loss", "data_seen": "history.throughput/total tokens",
            "train_flops": "history.throughput/total_training_Gflops*1e9", "peak_lr": "config.optim.lr",
            "batch_size": "config.data_loader.global_batch_size",
        },
    ),
    "levanter": (
        {
            "rows": {
                "train/loss": 3.0, "eval/loss": 3.1, "eval/paloma/macro_loss": 3.2, "eval/paloma/c4_en/bpb": 1.0,
                "throughput/total_tokens": 1e9, "throughput/tokens_per_second": 1e5, "throughput/total_gflops": 1e9,
                "throughput/gflops_per_second": 1e4, "throughput/flops_per_example": 1e12, "optim/learning_rate": 1e-3,
            },
            "config": {"trainer": {"train_batch_size": 256, "seed": 0}, "optimizer": {"learning_rate": 3e-3}},
            "summary": {"parameter_count": 1.2e8, "throughput/theoretical_flops": 1e15},
        },
        {
            "loss": "history.eval/loss", "num_params": "summary.parameter_count",
            "data_seen": "history.throughput/total_tokens", "train_flops": "history.throughput/total_gflops*1e9",
            "seed": "config.trainer.seed", "peak_lr": "config.optimizer.learning_rate",
            "batch_size": "config.trainer.train_batch_size",
        },
    ),
    "maxtext": (
        {
            "rows": {
                "learning/loss": 3.0, "learning/moe_lb_loss": 0.1, "learning/total_weights": 524288,
                "eval/avg_loss": 3.1, "learning/current_learning_rate": 1e-3, "eval/total_loss": 1e6,
                "eval/total_weights": 1e5,
                "perf/per_device_tflops": 100.0, "perf/per_device_tflops_per_sec": 9.0, "perf/per_device_tokens": 1e4,
            },
            "config": {"per_device_batch_size": 12.0, "max_target_length": 2048, "learning_rate": 3e-5},
        },
        {"loss": "history.eval/avg_loss", "peak_lr": "config.learning_rate"},
    ),
    "lm-evaluation-harness": (
        {
            "summary": {"results": {
                "hellaswag": {"acc_norm,none": 0.6, "acc_stderr,none": 0.01},
                "wikitext": {"word_perplexity,none": 20.0, "bits_per_byte,none": 0.8,
                             "bits_per_byte_stderr,none": "N/A"},
            }},
            "config": {"model_num_parameters": 1.2e8, "random_seed": 0, "numpy_seed": 1234},
        },
        {
            "loss": "summary.results.wikitext.bits_per_byte,none", "num_params": "config.model_num_parameters",
            "seed": "config.random_seed",
        },
    ),
    "nanochat": (
        {
            "rows": {
                "step": 10, "total_training_flops": 1e18, "total_training_time": 10.0, "train/loss": 3.0,
                "val/bpb": 0.9, "train/lrm": 1.0, "train/tok_per_sec": 1e5, "core_metric": 0.2,
            },
            "config": {
                "total_batch_size": 524288, "device_batch_size": 32, "max_seq_len": 2048, "embedding_lr": 0.2,
                "num_params": 2e8, "n_params_wte": 1e7, "target_flops": -1.0,
            },
        },
        {
            "loss": "history.val/bpb", "num_params": "config.num_params", "train_flops": "history.total_training_flops",
            "batch_size": "config.total_batch_size", "step": "history.step",
            "data_seen": "history.step*config.total_batch_size",
        },
    ),
    "nanogpt": (
        {
            "rows": {"iter": 10, "train/loss": 3.0, "val/loss": 3.1, "lr": 1e-3},
            "config": {
                "batch_size": 12, "block_size": 1024, "gradient_accumulation_steps": 40, "learning_rate": 6e-4,
                "min_lr": 6e-5, "decay_lr": True, "eval_iters": 200, "max_iters": 600000,
            },
            "summary": {"lr": 1e-3, "val/loss": 3.1},
        },
        {
            "loss": "history.val/loss", "peak_lr": "config.learning_rate", "batch_size": "config.batch_size",
            "step": "history.iter",
            "data_seen": "history.iter*config.batch_size*config.block_size*config.gradient_accumulation_steps",
        },
    ),
    "hf-trainer": (
        {
            "rows": {
                "train/global_step": 10, "train/loss": 3.0, "eval/loss": 3.1, "eval/runtime": 2.0,
                "eval/steps_per_second": 2.0, "train/learning_rate": 1e-3, "train/num_input_tokens_seen": 1e9,
            },
            "config": {
                "per_device_train_batch_size": 8, "auto_find_batch_size": False, "learning_rate": 5e-5, "seed": 42,
                "gradient_accumulation_steps": 4, "eval_batch_size": 8, "model_type": "llama",
            },
            "summary": {"train/learning_rate": 1e-3, "train_samples_per_second": 5.0},
        },
        {
            "loss": "history.eval/loss", "data_seen": "history.train/num_input_tokens_seen", "seed": "config.seed",
            "peak_lr": "config.learning_rate", "family": "config.model_type", "step": "history.train/global_step",
        },
    ),
    "hf-trainer at its end": (
        {"summary": {"eval/loss": 3.1, "total_flos": 1e18, "num_input_tokens_seen": 1e9, "train_runtime": 100.0}},
        {
            "loss": "summary.eval/loss", "train_flops": "summary.total_flos",
            "data_seen": "summary.num_input_tokens_seen", "wall_seconds": "summary.train_runtime",
        },
    ),
    "lightning": (
        {
            "rows": {"trainer/global_step": 10, "train_loss_step": 3.0, "val_loss": 3.1, "epoch": 1, "lr-AdamW": 1e-3},
            "config": {"lr": 1e-3, "batch_size": 64},
        },
        {
            "loss": "history.val_loss", "peak_lr": "config.lr", "batch_size": "config.batch_size",
            "step": "history.trainer/global_step",
        },
    ),
    "a csv of units": (
        {"summary": {"Parameters (M)": 70.0, "tokens_B": 1.4, "Compute (PF-days)": 0.1, "val loss": 3.0,
                     "State": "finished"},
         "state": None},
        {
            "loss": "summary.val loss", "num_params": "summary.Parameters (M)*1e6", "data_seen": "summary.tokens_B*1e9",
            "train_flops": "summary.Compute (PF-days)*8.64e19", "status": "summary.State",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("trainer", EXPORTS)
def test_the_names_of_other_trainers_are_known_and_their_false_friends_left(folder, add_run, trainer):
    parts, columns = EXPORTS[trainer]
    values = parts.get("rows")
    rows = [{"_step": step, **values} for step in (0, 1)] if values else None
    add_run("a", rows, **{name: part for name, part in parts.items() if name != "rows"})
    mapping, _ = propose_for(folder)
    assert mapping.columns == columns
    table, report = build_table(folder, mapping, list(folder.runs()))
    assert (len(table), report.dropped) == (2 if values else 1, ())


OURS = {
    "config": {
        "model": {"kind": "mlp", "num_params": 3000}, "data": {"size": 200}, "seed": 1, "cell": "aa", "study": "demo",
        "training": {"batch_size": 64, "num_steps": 20, "optimizer": {"peak_lr": 1e-3}}, "family": "mlp",
        "label": "wide", "labels": ["wide"], "num_params": 3010, "data_seen": 1280, "train_flops": 2e10,
        "log10_train_flops": 10.3,
    },
    "summary": {
        "accuracy": 0.5, "loss": 3.1, "step": 20, "data_seen": 1280, "train_flops": 2e10, "cell": "aa", "family": "mlp",
        "seed": 1, "status": "ok", "num_params": 3010, "num_params_convention": "total", "params": {"head": 10},
        "data_unit": "examples", "data_unique": 200, "epochs": 6.4, "train_flops_spent": 2e10, "peak_lr": 1e-3,
        "batch_size": 64, "wall_seconds": 9.0, "device_kind": "cpu", "num_devices": 1, "eval/loss": 3.1,
        "_runtime": 3.0,
    },
    "run": {"group": "demo", "name": "wide N=3,000"},
}  # fmt: skip


def test_our_own_runs_are_proposed_under_our_own_names(folder, add_run):
    rows = [
        {"_step": step, "step": step, "data_seen": 64 * step, "train_flops": 1e9 * step, "train_seconds": 1.0,
         "train/loss": 3.0, "eval/loss": 3.1, "eval/accuracy": 0.5, "_runtime": 1.0}
        for step in (10, 20)
    ]  # fmt: skip
    add_run("aa", rows, **OURS)
    add_run("bb", rows, state="crashed", config=OURS["config"], run=OURS["run"])
    mapping, _ = propose_for(folder)
    wanted = {
        "loss": "history.eval/loss", "data_seen": "history.data_seen", "train_flops": "history.train_flops",
        "step": "history.step", "num_params": "config.num_params", "label": "config.label", "family": "config.family",
        "seed": "config.seed", "study": "config.study", "data_unique": "summary.data_unique",
        "data_unit": "summary.data_unit", "peak_lr": "summary.peak_lr", "batch_size": "summary.batch_size",
        "device_kind": "summary.device_kind", "num_devices": "summary.num_devices", "status": "summary.status",
    }  # fmt: skip
    assert mapping.columns == wanted
    assert {"data_unique", "status", "peak_lr"} <= set(mapping.optional)
    assert not {"loss", "num_params", "data_seen", "train_flops", "label"} & set(mapping.optional)
    table, report = build_table(folder, mapping, list(folder.runs()))
    assert (len(table), report.dropped) == (4, ())
    assert table.loc[table["cell"] == "aa", "data_unique"].tolist() == [200, 200]
    assert table["status"].tolist() == ["ok", "ok", "interrupted", "interrupted"]


def test_our_own_records_are_proposed_under_our_own_names(folder, add_run):
    add_run("aa", config=OURS["config"], summary=OURS["summary"])
    columns = propose_for(folder)[0].columns
    for name in ("loss", "data_seen", "train_flops", "data_unique", "epochs", "wall_seconds", "status"):
        assert columns[name] == f"summary.{name}"


def test_a_schedules_value_of_the_moment_is_no_peak(folder, add_run):
    add_run("a", [{"_step": 0, "eval/loss": 3.0, "lr": 1e-3, "learning_rate": 1e-3}], summary={"lr": 1e-5})
    assert "peak_lr" not in propose_for(folder)[0].columns
    add_run("b", summary={"eval/loss": 3.0, "learning_rate": 1e-3}, state=None)  # a row of a table
    assert "peak_lr" not in propose_for(folder)[0].columns


def test_the_learning_rate_of_a_table_is_its_peak(folder, add_run):
    add_run("a", summary={"loss": 3.0, "learning_rate": 1e-3}, state=None)
    assert propose_for(folder)[0].columns == {"loss": "summary.loss", "peak_lr": "summary.learning_rate"}


def test_a_unit_that_the_values_do_not_fit_is_doubted():
    names = [
        {"name": "config.Parameters (b)", "runs": 2, "values": 2, "examples": [7e7, 1e9]},
        {"name": "summary.val loss", "runs": 2, "values": 2, "examples": [3.1, 2.9]},
    ]
    columns = propose(names)[0].columns
    assert columns["num_params"] == "config.Parameters (b)"
    (doubt,) = find_doubts(names, columns)
    assert doubt.startswith("num_params: ") and "taken as it stands" in doubt
