"""Claims about comparisons: crossings lie where the laws cross, and an order is only as firm as its seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.compare import find_crossings, locate_turns, order_by_size
from analysis.errors import AnalysisError
from analysis.uncertainty.bootstrap import bootstrap_series

LAWS = {"forest": (0.15, 2.0, 0.5), "mlp": (0.02, 3.0, 0.4)}  # the forest leads until 915


def simulate(laws=LAWS, *, runs=4, noise=0.01, low=50.0, high=5e4, seed=0):
    rng, m, parts = np.random.default_rng(seed), np.geomspace(low, high, 11), []
    for label, (E, A, alpha) in laws.items():
        loss = (E + A * m[:, None] ** -alpha) * np.exp(noise * rng.standard_normal((11, runs)))
        columns = {"label": label, "seed": np.tile(np.arange(runs), 11), "data_unique": np.repeat(m, runs)}
        parts.append(pd.DataFrame({**columns, "loss": loss.ravel()}))
    return pd.concat(parts, ignore_index=True)


def true_crossing():
    from scipy.optimize import brentq

    (E, A, alpha), (F, B, beta) = LAWS.values()
    return brentq(lambda m: E + A * m**-alpha - F - B * m**-beta, 50, 5e4)


def test_the_crossing_lies_where_the_laws_cross():
    result = bootstrap_series(simulate(), "power_floor", "loss", resamples=200)
    (crossing,) = find_crossings(result)
    assert crossing.low < true_crossing() < crossing.high
    assert crossing.low < crossing.size < crossing.high
    assert crossing.high < 1.5 * crossing.low
    assert crossing.share == 1
    assert (crossing.ahead_before, crossing.ahead_after) == ("forest", "mlp")
    both = [fit.predict({"data_unique": [crossing.size]})[0] for fit in result.fits.values()]
    assert both == pytest.approx([crossing.value] * 2, rel=1e-10)


def test_where_higher_is_better_the_leaders_swap():
    result = bootstrap_series(simulate(), "power_floor", "loss", resamples=20)
    (crossing,) = find_crossings(result, lower_is_better=False)
    assert (crossing.ahead_before, crossing.ahead_after) == ("mlp", "forest")


def test_crossings_outside_the_common_range_are_not_reported():
    result = bootstrap_series(simulate(low=3 * true_crossing()), "power_floor", "loss", resamples=20)
    assert find_crossings(result) == []


def test_a_pair_can_cross_twice():
    laws = {"a": (0.10, 1.0, 0.30), "b": (0.1482, 3.742, 0.60)}
    m = np.geomspace(50, 5e4, 2000)
    gap = np.subtract(*(E + A * m**-alpha for E, A, alpha in laws.values()))
    expected = m[:-1][np.diff(np.sign(gap)) != 0]
    found = find_crossings(bootstrap_series(simulate(laws, noise=1e-4), "power_floor", "loss", resamples=50))
    assert len(expected) == 2
    assert [crossing.size for crossing in found] == pytest.approx(expected, rel=0.05)
    assert found[0].ahead_before == found[1].ahead_after == "a"


def test_a_doubtful_crossing_shows_in_its_share():
    laws = {"a": (0.1, 2.0, 0.5), "b": (0.1, 2.02, 0.5)}
    shares = [
        crossing.share
        for seed in range(4)
        for crossing in find_crossings(
            bootstrap_series(simulate(laws, noise=0.03, seed=seed), "power_floor", "loss", resamples=50)
        )
    ]
    assert shares
    assert min(shares) < 0.95


def test_the_nearest_turn_in_the_right_direction_counts():
    logs = np.arange(5.0)
    gaps = np.array([[-1, 1, -1, 1, 1], [1, 1, 1, 1, 1], [1, -1, -1, -1, -1]], dtype=float)
    np.testing.assert_array_equal(locate_turns(gaps, logs, 2.4, rising=True), [2.5, np.nan, np.nan])
    np.testing.assert_array_equal(locate_turns(gaps, logs, 2.4, rising=False), [1.5, np.nan, 0.5])


def test_crossings_need_a_law_of_one_variable():
    table = simulate().assign(
        num_params=lambda t: t["data_unique"] ** 0.7 * (1 + t["seed"]), data_seen=lambda t: t["data_unique"]
    )
    result = bootstrap_series(table.drop(columns="seed"), "chinchilla", "loss", resamples=2)
    with pytest.raises(AnalysisError, match="crossings need a law of one"):
        find_crossings(result)


def rows(values, label):
    return pd.DataFrame(
        [(label, s, m, v) for m, row in values.items() for s, v in enumerate(row)],
        columns=["label", "seed", "data_unique", "loss"],
    )


@pytest.fixture
def three():
    a = {10: [0.9, 0.8, 0.7], 100: [0.50, 0.40, 0.30], 1000: [0.20, 0.21, 0.22]}
    b = {10: [0.5, 0.9, 0.7], 100: [0.61, 0.50, 0.41], 1000: [0.30, 0.31, 0.33]}
    c = {10: [0.8, 0.6, 0.9], 100: [0.55, 0.38, 0.31]}
    return pd.concat([rows(a, "a"), rows(b, "b"), rows(c, "c")], ignore_index=True)


def test_pairing_settles_what_unpaired_spread_would_hide(three):
    order = order_by_size(three, "loss")
    assert order.ahead_from("a", "b") == 100  # the seeds differ by 0.2, the pairs by 0.11, 0.10 and 0.11
    assert order.ahead_from("b", "a") is None
    row = order.pairs.query("first == 'a' and second == 'b' and m == 100").iloc[0]
    assert row["difference"] == pytest.approx(-0.32 / 3)
    assert (row["seeds"], row["better"]) == (3, "a")


def test_leaders_and_unsettled_sizes_follow_the_corrected_tests(three):
    order = order_by_size(three, "loss")
    assert order.unsettled_sizes == [10, 100]
    assert order.sizes.set_index("m")["leaders"].map(set).to_dict() == {
        10: {"a", "b", "c"},
        100: {"a", "c"},
        1000: {"a"},
    }
    assert order.sizes["best"].tolist()[1:] == ["a", "a"]


def test_for_accuracy_the_higher_is_ahead(three):
    order = order_by_size(three.assign(accuracy=1 - three["loss"]), "accuracy", lower_is_better=False)
    assert order.ahead_from("a", "b") == 100
    assert order.sizes["best"].tolist()[1:] == ["a", "a"]


def test_one_seed_settles_nothing(three):
    order = order_by_size(three[three["seed"] == 0].drop(columns="seed"), "loss")
    assert order.unsettled_sizes == [10, 100, 1000]
    assert (order.pairs["better"] == "").all()


def test_ambiguous_rows_and_unknown_labels_are_refused(three):
    with pytest.raises(AnalysisError, match="label=a has several rows at data_unique=10, seed=0: several settings"):
        order_by_size(pd.concat([three, three.iloc[:1].assign(loss=0.5)]), "loss")
    with pytest.raises(AnalysisError, match="label='mpl' is unknown; choose one of 'a', 'b', 'c'"):
        order_by_size(three, "loss").ahead_from("mpl", "a")


def test_a_claim_is_corrected_for_the_number_of_comparisons_and_its_interval_is_not():
    gap = [0.010, 0.012, 0.014, 0.030]  # of the seeds: p = 0.04
    one = {10: [0.5, 0.5, 0.5, 0.5]}
    other = {10: [0.5 + each for each in gap]}
    alone = order_by_size(pd.concat([rows(one, "a"), rows(other, "b")]), "loss")
    assert alone.pairs.iloc[0]["better"] == "a"
    assert alone.pairs.iloc[0]["p"] == alone.pairs.iloc[0]["p_holm"] == pytest.approx(0.0366, abs=1e-4)
    tie = {20: [0.50, 0.52, 0.49, 0.51]}
    both = order_by_size(pd.concat([rows(one | tie, "a"), rows(other | {20: [0.51, 0.50, 0.50, 0.52]}, "b")]), "loss")
    first = both.pairs.iloc[0]
    assert both.num_tests == 2
    assert first["p_holm"] == pytest.approx(2 * first["p"])
    assert (first["low"] > 0 or first["high"] < 0, first["better"]) == (True, "")
    assert (both.unsettled_sizes, both.ahead_from("a", "b")) == ([10, 20], None)
    assert set(both.sizes["leaders"].iloc[0]) == {"a", "b"}


def test_among_true_ties_hardly_any_order_is_claimed():
    generator, claims, intervals = np.random.default_rng(0), 0, 0
    for _ in range(60):
        series = [rows({m: generator.normal(0.5, 0.01, 4) for m in (10, 20, 40)}, label) for label in "abcd"]
        pairs = order_by_size(pd.concat(series), "loss").pairs
        claims += bool((pairs["better"] != "").any())
        intervals += bool(((pairs["low"] > 0) | (pairs["high"] < 0)).any())
    assert claims <= 6  # 3 are expected
    assert intervals > 20


@pytest.mark.parametrize("empty", [None, np.nan, "", " "])
def test_runs_without_a_label_are_a_series(empty):
    table = simulate()
    table["label"] = table["label"].where(table["label"] != "mlp", empty)
    found = order_by_size(table, "loss")
    assert set(found.pairs["first"]) | set(found.pairs["second"]) == {"forest", "(no label)"}
    np.testing.assert_array_equal(found.pairs["p"], order_by_size(simulate(), "loss").pairs["p"])
    assert set(bootstrap_series(table, "power_floor", "loss", resamples=20).fits) == {"forest", "(no label)"}


def test_runs_without_a_seed_pair_with_none():
    table = simulate()
    table["seed"] = table["seed"].where(table["seed"] > 0)
    assert (order_by_size(table, "loss").pairs["seeds"] == 3).all()
