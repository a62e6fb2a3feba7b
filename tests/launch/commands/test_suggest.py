"""`scaling suggest`: runs that stay in a budget and make a target surer."""


def test_suggested_runs_stay_in_the_budget_and_make_the_target_surer(here, saved):
    cells = here.json("suggest", saved, "--target", "flops=1e22", "--budget", 1e20)["cells"]
    assert sum(cell["train_flops"] for cell in cells) <= 1e20
    certain = [cell["sd_after"] for cell in cells]
    assert certain == sorted(certain, reverse=True)
    done = here("suggest", saved, "--target", "loss=2", "--budget", 1e20)
    assert (done.returncode, "flops=1e22" in done.stderr) == (2, True)
