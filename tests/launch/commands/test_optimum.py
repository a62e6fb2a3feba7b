"""`scaling optimum`: the optimum of a saved fit and of a table, and one line when there is none."""

import numpy as np
import pandas as pd
import pytest

from analysis.laws.registry import get_law

TRUTH = get_law("chinchilla").example  # of the saved fit and of the table


def test_the_optimum_at_a_budget_holds_the_truth(here, saved):
    found = here.json("optimum", saved, "--flops", 1e21)["quantities"]
    assert found["num_params"]["low"] < 2.79e9 < found["num_params"]["high"]  # (C/6)^a G of the truth
    assert found["num_params"]["value"] * found["data_seen"]["value"] * 6 == pytest.approx(1e21, rel=1e-6)


def test_the_budget_of_a_loss_is_the_inverse(here, saved):
    forward = here.json("optimum", saved, "--flops", 1e21)["quantities"]
    back = here.json("optimum", saved, "--loss", forward["loss"]["value"])["quantities"]
    assert back["train_flops"]["value"] == pytest.approx(1e21, rel=1e-4)


def test_inference_makes_models_smaller_and_repeated_data_makes_them_train_longer(here, saved):
    plain = here.json("optimum", saved, "--flops", 1e22)["quantities"]
    served = here.json("optimum", saved, "--flops", 1e22, "--inference-tokens", 1e12)["quantities"]
    assert served["num_params"]["value"] < plain["num_params"]["value"]
    scarce = here.json("optimum", saved, "--flops", 1e22, "--unique-data", 2.5e10)["quantities"]
    assert scarce["epochs"]["value"] > 1
    assert scarce["loss"]["value"] > plain["loss"]["value"]


def test_money_follows_from_price_peak_and_mfu(here, saved):
    words = ["--flops", 1e22, "--price", 2, "--peak-flops", 989e12, "--mfu", 0.4]
    found = here.json("optimum", saved, *words)["quantities"]
    assert found["dollars"]["value"] == pytest.approx(2 * 1e22 / (989e12 * 0.4 * 3600))


@pytest.mark.parametrize(
    ("words", "message"), [(["--flops", "-1"], "flops"), ([], "flops"), (["--flops", "1e21", "--loss", "2"], "loss")]
)
def test_a_bad_question_is_one_line_and_status_2(here, saved, words, message):
    done = here("optimum", saved, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr


@pytest.fixture
def runs(here):
    """A table of Chinchilla's surface on isoFLOP grids, with curves of evaluations and with counted parameters."""
    law, rows = get_law("chinchilla"), []
    for budget in np.geomspace(1e19, 1e21, 5):
        best = (budget / 6) ** 0.5139 * 0.1  # near enough to the middle of the valley
        for i, size in enumerate(best * np.geomspace(1 / 3, 3, 7)):
            for part in (0.25, 0.5, 1.0):
                D = part * budget / (6 * size)
                y = law.predict(TRUTH, {"num_params": np.array([size]), "data_seen": np.array([D])})[0]
                rows.append((f"{budget:.0e}/{i}", size, 0.2 * size, D, 6 * size * D, y, part == 1))
    names = ["cell", "num_params", "params_embedding", "data_seen", "train_flops", "loss", "is_final"]
    pd.DataFrame(rows, columns=names).to_csv(here.folder / "runs.csv", index=False)
    return "runs.csv"


def test_the_optimum_of_a_table_shows_the_approaches_beside_each_other(here, runs):
    found = here.json("optimum", runs, "--flops", 1e21)
    by_name = {row["approach"]: row for row in found["approaches"]}
    assert set(by_name) == {"envelope", "isoflop_cubic", "isoflop_parabola", "parametric"}
    exact = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert by_name["parametric"]["a"] == pytest.approx(exact, abs=1e-6)
    assert by_name["isoflop_cubic"]["a"] == pytest.approx(exact, abs=0.01)
    assert 1 <= found["disagreement"]["num_params"] < 1.3
    assert {"all", "non_embedding"} <= {row["size"] for row in found["conventions"]}
    done = here("optimum", runs)
    assert "disagreement" in done.stdout
    assert "every way of counting" in done.stdout


def test_what_only_a_fit_can_answer_is_refused_of_a_table(here, runs):
    done = here("optimum", runs, "--loss", 2, "--unique-data", 1e9)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "--loss, --unique-data" in done.stderr
    assert "scaling fit runs.csv" in done.stderr
    done = here("optimum", runs, "--label", "a")
    assert (done.returncode, "--label" in done.stderr) == (2, True)
