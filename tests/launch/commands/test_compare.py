"""`scaling compare`: order, crossing and gain in data and in compute, and one line when it cannot be done."""

import numpy as np
import pandas as pd
import pytest


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
