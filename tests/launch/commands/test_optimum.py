"""`scaling optimum`: the optimum of a saved fit and of a table, and one line when there is none."""

import json

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


def test_every_notice_of_a_table_is_in_the_text_and_in_the_document(here, runs):
    table = pd.read_csv(here.folder / runs)
    two = table[table["cell"].str.startswith(("1e+19", "3e+19"))].copy()
    two["loss"] *= np.exp(0.01 * np.random.default_rng(0).standard_normal(len(two)))
    two.loc[two["is_final"], "train_flops"] *= np.where(np.arange(two["is_final"].sum()) % 2, 1.0, 1.06)
    two["family"] = np.where(np.arange(len(two)) % 2, "mlp", "cnn")
    two.to_csv(here.folder / "two.csv", index=False)
    document, done = here.json("optimum", "two.csv", "--flops", 1e24), here("optimum", "two.csv", "--flops", 1e24)
    codes = {notice["code"] for notice in document["warnings"]}
    assert {"uneven_budget", "few_budgets", "extrapolation", "pooled_series", "no_repeated_seeds"} <= codes
    for notice in document["warnings"]:
        assert f"{notice['text']} [{notice['code']}]" in done.stderr
        for name in notice.get("approaches", ()):
            (row,) = [row for row in document["approaches"] if row["approach"] == name]
            assert notice["code"] in {one["code"] for one in row["warnings"]}
    assert {tuple(notice["approaches"]) for notice in document["warnings"] if "approaches" in notice} > {()}
    assert any("all" in notice["conventions"] for notice in document["warnings"] if "conventions" in notice)
    for row in document["approaches"]:
        assert (row["status"] == "weak") == any(one["is_weak"] for one in row["warnings"])
    assert "status" in done.stdout
    assert "Warning" not in done.stderr
    assert "[few_budgets]" not in done.stdout
    budgets = document["isoflops"]["isoflop_parabola"]
    assert [budget["sizes"] for budget in budgets] == [7, 7]
    assert (document["n"], document["left_out"]) == (14, {"not the final row": 28})


def test_profiles_whose_minima_are_at_the_edge_are_in_the_document(here, runs):
    table = pd.read_csv(here.folder / runs)
    table[table["cell"].str[-1].isin(list("0123"))].to_csv(here.folder / "edge.csv", index=False)
    found = here.json("optimum", "edge.csv")
    assert "on the edge" in found["missing"]["isoflop_cubic"]
    assert {budget["code"] for budget in found["isoflops"]["isoflop_cubic"]} <= {"isoflop_edge", "isoflop_skipped"}
    assert len(found["isoflops"]["isoflop_cubic"]) == 5


def test_a_column_names_the_budgets_of_a_table(here, runs):
    table = pd.read_csv(here.folder / runs)
    spread = np.where(table["cell"].str[-1].isin(list("024")), 3.0, 1.0)
    table = table.assign(rung=table["cell"].str[:-2], train_flops=table["train_flops"] * spread)
    table.to_csv(here.folder / "wide.csv", index=False)
    budgets = here.json("optimum", "wide.csv", "--budget", "rung")["isoflops"]["isoflop_cubic"]
    assert [budget["sizes"] for budget in budgets] == [7] * 5
    assert all(budget["moved"] and budget["spread"] == pytest.approx(2) for budget in budgets)
    done = here("optimum", "wide.csv", "--budget", "rang")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "budget='rang'" in done.stderr


def test_a_tables_budget_has_its_price(here, runs):
    words = ["--flops", 1e22, "--price", 2, "--peak-flops", 989e12, "--mfu", 0.4]
    found = here.json("optimum", runs, *words)
    assert found["cost"]["dollars"] == pytest.approx(2 * 1e22 / (989e12 * 0.4 * 3600))
    assert "dollars" in here("optimum", runs, *words).stdout
    done = here("optimum", runs, "--price", 2)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_saved_fits_own_warnings_are_told_too(here, saved):
    fit = json.loads((here.folder / saved).read_text())
    assert fit["warnings"]
    found, done = here.json("optimum", saved, "--flops", 1e30), here("optimum", saved, "--flops", 1e30)
    codes = [notice["code"] for notice in found["warnings"]]
    assert {"extrapolation", *(notice["code"] for notice in fit["warnings"])} <= set(codes)
    assert all(notice["text"] in done.stderr for notice in found["warnings"])
    assert f"from {fit['n']} points; left out: nothing" in done.stdout


def test_what_only_a_table_can_be_told_is_refused_of_a_fit(here, saved):
    done = here("optimum", saved, "--flops", 1e21, "--law", "chinchilla", "--keep", "loss<3")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "--law, --keep" in done.stderr


def test_a_law_that_counts_cannot_be_compared_in_costs_only_that_part(here, runs):
    found = here.json("optimum", runs, "--law", "data_constrained")
    assert "laws of num_params and data_seen alone" in found["missing"]["conventions"]
    assert found["conventions"] is None
    assert "isoflop_cubic" in {row["approach"] for row in found["approaches"]}


def test_what_only_a_fit_can_answer_is_refused_of_a_table(here, runs):
    done = here("optimum", runs, "--loss", 2, "--unique-data", 1e9)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "--loss, --unique-data" in done.stderr
    assert "scaling fit runs.csv" in done.stderr
    done = here("optimum", runs, "--label", "a")
    assert (done.returncode, "--label" in done.stderr) == (2, True)
    done = here("optimum", runs, "--loss", 0)
    assert (done.returncode, "--loss" in done.stderr) == (2, True)
