"""Claims about imports without a mapping: names are listed and likely ones proposed, nothing is guessed in silence."""

from launch.imports.proposal import list_names, propose


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
