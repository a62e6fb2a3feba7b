"""`scaling fit`: anybody's table, saved fits, and one line when it cannot be done."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.fitting.fit import Fit
from analysis.laws.registry import get_law
from tests.launch.commands.stores import make_ideas

SIZES = (100, 300, 1000, 3000, 10_000)


@pytest.fixture
def table(here):
    """A table whose columns have other names: error = 0.1 + 3 m^-0.5, two learners, two seeds."""
    generator = np.random.default_rng(0)
    lines = ["who,seed,m,err"]
    for who, floor in (("a", 0.1), ("b", 0.2)):
        for seed in (0, 1, 2):
            errors = {m: (floor + 3 * m**-0.5) * np.exp(generator.normal(0, 1e-4)) for m in SIZES}
            lines += [f"{who},{seed},{m},{error}" for m, error in errors.items()]
    (here.folder / "theirs.csv").write_text("\n".join(lines) + "\n")
    return ["theirs.csv", "--column", "loss=err", "--column", "data_unique=m", "--column", "label=who"]


def test_a_foreign_table_is_fitted_and_saved_bit_for_bit(here, table):
    document = here.json("fit", *table, "--law", "power_floor", "--bootstrap", 50, "--to", "fit.json")
    saved = json.loads((here.folder / "fit.json").read_text())["fits"]
    for one, floor, whole in zip(document["fits"], (0.1, 0.2), saved, strict=True):
        draws = whole.pop("draws")
        assert (whole, len(draws)) == (one, 50)
        fit = Fit.model_validate_json(json.dumps(one))
        assert fit.params["E"] == pytest.approx(floor, abs=1e-3)
        assert fit.params["alpha"] == pytest.approx(0.5, abs=5e-3)
        assert (fit.n, fit.objective.name, fit.objective.delta) == (15, "huber", 1e-3)
        again = Fit.model_validate_json(fit.model_dump_json())
        at = {"data_unique": np.array([1e5, 3e7])}
        assert again.predict(at).tolist() == fit.predict(at).tolist()


def test_rows_are_kept_by_expression_and_series_need_no_label(here, table):
    words = [*table[:5], "--keep", "who==a", "--keep", "data_unique>100", "--bootstrap", 20, "--objective", "mse"]
    (fit,) = here.json("fit", *words)["fits"]
    assert (fit["label"], fit["n"], fit["objective"]["name"]) == ("all", 12, "mse")


def test_the_text_shows_law_estimates_and_intervals(here, table):
    done = here("fit", *table, "--bootstrap", 20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("y = E + A x^-alpha")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["label", "a", "b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--law", "power_flor"], "did you mean 'power_floor'"),
        (["--column", "loss"], "write --column NAME=VALUE"),
        (["--column", "loss=errr"], "err"),
        (["--keep", "loss~3"], "loss~3"),
        (["--keep", "los<3"], "los"),
        (["--delta", "-1"], "delta"),
        (["--bootstrap", "1"], "1"),
        (["--keep", "loss<0"], "keep"),
        (["--hold", "E"], "write --hold NAME=VALUE"),
        (["--hold", "F=1"], "hold"),
        (["--by", "whom"], "whom"),
    ],
)
def test_bad_calls_are_one_line_and_status_2(here, table, words, message):
    done = here("fit", *table, *words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_missing_or_strange_file_is_one_line(here):
    (here.folder / "notes.txt").write_text("hello")
    for name in ("none.csv", "notes.txt"):
        done = here("fit", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


@pytest.fixture
def chinchilla(here):
    """A table in other people's words, whose N and C are known and D is not, from a known law."""
    table = get_law("chinchilla").sample(levels=5, noise=0.003).rename(columns={"num_params": "Model Size"})
    table["Training FLOP"] = 6 * table["Model Size"] * table.pop("data_seen")
    table.drop(columns="seed").to_csv(here.folder / "runs.csv", index=False)
    return ["runs.csv", "--column", "num_params=Model Size", "--column", "train_flops=Training FLOP"]


def test_data_is_derived_only_when_asked_and_recorded(here, chinchilla):
    done = here("fit", *chinchilla, "--law", "chinchilla")
    assert done.returncode == 2
    assert "data_seen" in done.stderr
    (fit,) = here.json("fit", *chinchilla, "--law", "chinchilla", "--derive", "data_seen", "--bootstrap", 20)["fits"]
    assert fit["params"]["alpha"] == pytest.approx(0.34731, abs=0.02)
    assert fit["derived"]["a"] == pytest.approx(0.5139, abs=0.03)
    assert "6" in json.dumps(fit["conventions"])


def test_one_fit_is_saved_as_one_document_that_predicts(here, chinchilla):
    words = [*chinchilla, "--law", "chinchilla", "--derive", "data_seen", "--bootstrap", 0, "--to", "fit.json"]
    (fit,) = here.json("fit", *words)["fits"]
    assert Fit.model_validate_json((here.folder / "fit.json").read_text()).params == fit["params"]
    (row,) = here.json("predict", "fit.json", "--at", "num_params=7e9,data_seen=1.4e11")["rows"]
    assert row["low"] < row["estimate"] < row["high"]


def test_every_law_is_listed(here):
    rows = here.json("fit", "--law", "list")
    assert {"chinchilla", "power_floor", "m4", "bnsl"} <= {row["law"] for row in rows}


@pytest.fixture
def sweep(here):
    """Runs over seven learning rates and two batches at each of nine (N, D), whose best rates follow Step Law."""
    law, frames = get_law("step_law_lr"), []
    grid = law.sample(levels=3, noise=0.0).drop(columns=["seed", "peak_lr"])
    best = law.predict(law.example, grid)
    for factor in 1.7 ** np.arange(-3, 4):
        rate = 10 ** np.round(np.log10(best), 1) * factor
        loss = np.exp(1 + 0.02 * np.log(rate / best) ** 2 + 1e-4 * np.random.default_rng(0).standard_normal(len(best)))
        frames += [grid.assign(lr=rate, bs=size, loss=loss * penalty) for size, penalty in ((64, 1.0), (128, 1.02))]
    pd.concat(frames).to_csv(here.folder / "sweep.csv", index=False)
    return ["sweep.csv", "--column", "peak_lr=lr", "--column", "batch_size=bs", "--law", "step_law_lr"]


def test_a_law_of_best_settings_is_fitted_to_optima_and_not_to_a_sweep(here, sweep):
    done = here("fit", *sweep)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--optima loss" in done.stderr
    done = here("fit", *sweep, "--optima", "loss")
    assert done.returncode == 2
    assert "--profile batch_size" in done.stderr
    (fit,) = here.json("fit", *sweep, "--optima", "loss", "--profile", "batch_size", "--bootstrap", 50)["fits"]
    assert fit["params"]["a"] == pytest.approx(-0.7129, abs=0.03)
    assert (fit["n"], fit["target"]) == (9, "peak_lr")
    assert "profile_edge" in {warning["code"] for warning in fit["warnings"]}
    assert "9 of 9 inside" in fit["conventions"]["rows"]


def test_optima_at_an_edge_are_listed_with_what_to_run(here, sweep):
    words = [*sweep, "--optima", "loss", "--profile", "batch_size", "--bootstrap", 50, "--keep", "peak_lr<0.002"]
    done = here("fit", *words)
    assert done.returncode == 0, done.stderr
    assert "not inside the settings tried (edge)" in done.stdout
    assert "is its largest: add larger ones" in done.stderr
    assert "weak (" in done.stdout


def test_optima_are_of_settings(here, sweep):
    done = here("fit", *sweep[:-1], "chinchilla", "--optima", "loss")
    assert (done.returncode, "is not of a setting" in done.stderr) == (2, True)
    done = here("fit", *sweep, "--profile", "batch_size")
    assert (done.returncode, "give --optima loss" in done.stderr) == (2, True)
    power = [*sweep[:-1], "power", "--variables", "num_params", "--target", "peak_lr", "--keep", "data_seen<3e9"]
    (fit,) = here.json("fit", *power, "--optima", "loss", "--profile", "batch_size", "--bootstrap", 20)["fits"]
    assert fit["target"] == "peak_lr"


def test_a_weak_fit_says_so_beside_numbers_that_are_as_short_as_they_deserve(here):
    table = get_law("chinchilla").sample(levels=2, seeds=2, noise=0.01)
    table.drop(columns="seed").to_csv(here.folder / "few.csv", index=False)
    done = here("fit", "few.csv", "--law", "chinchilla", "--bootstrap", 50)
    assert done.returncode == 0, done.stderr
    assert "weak (few_points, few_levels" in done.stdout
    (fit,) = here.json("fit", "few.csv", "--law", "chinchilla", "--bootstrap", 50)["fits"]
    low, high = fit["ci95"]["alpha"]
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("alpha"))
    assert float(line[1]) == pytest.approx(fit["params"]["alpha"], abs=(high - low) / 2)
    assert len(line[1]) < len(str(fit["params"]["alpha"]))


def test_a_fit_of_one_cluster_prints_no_interval_and_why_and_its_file_predicts(here):
    table = get_law("chinchilla").sample(levels=5, noise=0.01).drop(columns="seed")
    table.assign(project="p").to_csv(here.folder / "one.csv", index=False)
    done = here(
        "fit", "one.csv", "--law", "chinchilla", "--scheme", "pairs", "--cluster", "project", "--to", "one.json"
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("alpha"))
    assert line[2] == "unknown"
    assert "weak (one_cluster)" in done.stdout
    assert "all 25 points are one cluster by project" in done.stderr
    (row,) = here.json("predict", "one.json", "--at", "num_params=1e9,data_seen=2e10")["rows"]
    assert (row["low"], row["high"]) == (None, None)
    assert row["estimate"] > 0


def test_a_store_is_fitted_by_a_field_of_its_cells(here):
    make_ideas(here.folder / "store")
    fits = here.json("fit", "store", "--by", "model.activation", "--bootstrap", 20)["fits"]
    assert [fit["label"] for fit in fits] == ["relu", "sigmoid"]
    assert [fit["params"]["A"] for fit in fits] == pytest.approx([2, 4], rel=0.1)
    assert [fit["n"] for fit in fits] == [20, 20]
    (fit,) = here.json("fit", "store", "--keep", "model.activation==sigmoid", "--bootstrap", 20)["fits"]
    assert (fit["label"], fit["params"]["A"]) == ("mlp", pytest.approx(4, rel=0.1))
    done = here("fit", "store", "--by", "model.activatio")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--by model.activatio: the table has no such column; it has" in done.stderr
