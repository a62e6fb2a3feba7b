"""`scaling fit`: anybody's table, saved fits, and one line when it cannot be done."""

import json

import numpy as np
import pytest

from analysis.fitting.fit import Fit
from analysis.laws.registry import get_law

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
