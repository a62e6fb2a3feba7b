"""`scaling predict`: intervals of a saved fit, warnings far outside, and one line when it cannot be done."""

import pytest

from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law


def test_a_saved_fit_predicts_with_intervals_and_warns_far_outside(here, saved):
    document = here.json(
        "predict", saved, "--at", "num_params=7e9,data_seen=1.4e11", "--at", "num_params=7e11,data_seen=1.4e13"
    )
    near, far = document["rows"]
    truth = get_law("chinchilla").predict(get_law("chinchilla").example, {"num_params": [7e9], "data_seen": [1.4e11]})[
        0
    ]
    assert near["low"] < truth < near["high"]
    assert near["high"] - near["low"] < far["high"] - far["low"]
    assert {warning["code"] for warning in document["warnings"]} == {"extrapolation"}
    run = here.json("predict", saved, "--new-run", "--at", "num_params=7e9,data_seen=1.4e11")["rows"][0]
    assert run["low"] < near["low"] < near["high"] < run["high"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.json", "--at", "x=1"], "none.json"),
        (["fit.json", "--at", "num_params=7e9"], "data_seen=VALUE"),
        (["fit.json", "--at", "num_params=big,data_seen=1"], "big"),
        (["fit.json", "--label", "b", "--at", "num_params=7e9,data_seen=1"], "--label"),
    ],
)
def test_a_bad_prediction_is_one_line_and_status_2(here, words, message):
    table = get_law("chinchilla").sample(levels=5, noise=0.003)
    (here.folder / "fit.json").write_text(fit_law("chinchilla", table, table["loss"]).model_dump_json())
    done = here("predict", *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
