"""`scaling compare`: order, crossing and gain in data and in compute, and one line when it cannot be done."""

import re

import numpy as np
import pandas as pd
import pytest

from scaling.specs.metrics import MetricFacts
from tests.launch.commands.stores import make_ideas


@pytest.fixture
def pair(here):
    """Two series that share seeds, subsets and seed effects; b has the higher exponent."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(4):
        luck = rng.normal(0, 0.02)
        for m in np.geomspace(100, 51_200, 10).round():
            for label, A, alpha in (("a", 3.0, 0.4), ("b", 3.6, 0.5)):
                y = (0.05 + A * m**-alpha) * np.exp(luck + rng.normal(0, 0.003))
                rows.append((label, seed, m, 6e4 * m, y))
    frame = pd.DataFrame(rows, columns=["label", "seed", "data_unique", "train_flops", "loss"])
    frame.to_csv(here.folder / "pair.csv", index=False)
    return "pair.csv"


def test_a_comparison_has_order_crossing_and_gain_in_data_and_compute(here, pair):
    document = here.json("compare", pair, "--baseline", "a", "--candidate", "b", "--bootstrap", 200)
    assert {row["better"] for row in document["data"]["order"] if row["m"] > 1000} == {"b"}
    for part in ("data", "compute"):
        gain = document[part]["gain"]
        assert gain["paired"]
        assert gain["exponent"]["low"] > 0  # the gain grows with scale
        assert gain["verdict"] in ("slope", "both")


def test_a_comparison_prints_and_refuses_unknown_labels(here, pair):
    done = here("compare", pair, "--baseline", "a", "--candidate", "b", "--bootstrap", 50)
    assert done.returncode == 0, done.stderr
    assert "How many times more" in done.stdout
    done = here("compare", pair, "--baseline", "a", "--candidate", "c")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_two_ideas_on_a_grid_of_sizes_and_data_are_compared_along_their_frontiers(here):
    rows = [
        (label, seed, N, D, D, 6 * N * D, (1.8 + 480 * (f * N) ** -0.35 + 2100 * (f * D) ** -0.37) * (1 + 0.004 * seed))
        for label, f in (("sigmoid", 1.0), ("relu", 2.0))
        for seed in range(2)
        for N in np.geomspace(1e6, 1e8, 4).round()
        for D in np.geomspace(1e8, 1e10, 4).round()
    ]
    names = ["idea", "seed", "num_params", "data_seen", "data_unique", "train_flops", "loss"]
    pd.DataFrame(rows, columns=names).to_csv(here.folder / "grid.csv", index=False)
    words = ("compare", "grid.csv", "--by", "idea", "--baseline", "sigmoid", "--candidate", "relu", "--bootstrap", 40)
    document = here.json(*words)
    assert document["surface"]["offset"]["estimate"] == pytest.approx(4.0, rel=0.05)
    assert (document["data"], document["compute"], document["by"]) == (None, None, "idea")
    assert {"shared_sizes", "surface"} <= {notice["code"] for notice in document["warnings"]}
    done = here(*words)
    assert re.search(r"relu needs (3\.9\d|4(\.0\d)?) \(", done.stdout)
    assert "times less compute than sigmoid at C = " in done.stdout
    assert "[shared_sizes]" in done.stderr


def test_a_metric_of_which_nothing_is_known_has_the_direction_that_is_given(here, pair):
    frame = pd.read_csv(here.folder / pair)
    frame.assign(score=1 / frame["loss"], accuracy=1 - frame["loss"]).to_csv(here.folder / "scores.csv", index=False)
    words = ("compare", "scores.csv", "--baseline", "a", "--candidate", "b", "--bootstrap", 20)
    ahead = {}
    for target, *flags in (("score", "--higher-is-better"), ("score",), ("accuracy",)):
        document = here.json(*words, "--target", target, *flags)
        ahead[target, *flags] = {row["better"] for row in document["data"]["order"] if row["m"] > 1000}
    assert ahead == {("score", "--higher-is-better"): {"b"}, ("score",): {"a"}, ("accuracy",): {"b"}}
    assert (document["curves_of"], document["lower_is_better"]) == ("1 - accuracy", False)
    done = here(*words, "--target", "loss", "--higher-is-better")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "lower values are known to be better" in done.stderr


def test_a_store_says_what_is_needed_to_reach_a_level(here, trained):
    words = ("compare", trained, "--baseline", "linear", "--candidate", "mlp", "--bootstrap", 20)
    document = here.json(*words, "--reach", 0.5)
    assert document["targets"]["level"] == 0.5
    assert {row["over"] for row in document["targets"]["needs"]} >= {"data_seen", "wall_seconds"}
    assert document["data"]["corrected"] == {"method": "holm", "comparisons": 3, "intervals": "not corrected"}
    assert [row["label"] for row in document["data"]["slopes"]] == ["linear", "mlp"]
    done = here(*words)
    assert "corrected for 3 comparisons (Holm), the intervals are not" in done.stdout
    assert "To reach error " in done.stdout


def test_the_direction_of_a_users_metric_is_known_from_the_records(here, finished):
    facts = MetricFacts(name="score", direction="higher")
    for cell, record in finished.records().items():
        evaluations = tuple(
            one.model_copy(update={"metrics": {**one.metrics, "score": -one.metrics["error"]}})
            for one in record.evaluations
        )
        data = record.data.model_copy(update={"metrics": (facts,)})
        told = record.model_copy(update={"evaluations": evaluations, "data": data})
        (finished.cell_path(cell) / "record.json").write_text(told.canonical_json())
    words = ("compare", finished.path, "--baseline", "linear", "--candidate", "mlp", "--bootstrap", 20, "--target")
    errors, scores = here.json(*words, "error"), here.json(*words, "score")
    assert (errors["lower_is_better"], scores["lower_is_better"]) == (True, False)
    assert [row["better"] for row in scores["data"]["order"]] == [row["better"] for row in errors["data"]["order"]]


def test_a_field_of_the_cells_names_what_is_compared(here):
    make_ideas(here.folder / "store")
    words = ("compare", "store", "--by", "model.activation", "--baseline", "sigmoid", "--bootstrap", 20)
    one = ("--keep", "model.depth==1", "--candidate")
    document = here.json(*words, *one, "relu")
    gain = document["data"]["gain"]
    assert (document["by"], document["baseline"], document["candidate"]) == ("model.activation", "sigmoid", "relu")
    assert gain["offset"]["estimate"] == pytest.approx(4, rel=0.1)
    assert {row["better"] for row in document["data"]["order"]} == {"relu"}
    both = here.json(*words, "--candidate", "relu")
    assert {"shared_sizes", "mixed_settings"} <= {notice["code"] for notice in both["warnings"]}
    assert both["data"]["gain"]["offset"]["estimate"] == pytest.approx(4, rel=0.1)
    done = here(*words, *one, "rleu")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "model.activation='rleu' is unknown; did you mean 'relu'" in done.stderr
