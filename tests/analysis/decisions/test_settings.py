"""Claims about best settings: optima are recovered, intervals cover, and what a sweep cannot tell is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.parabolas import choose_points
from analysis.decisions.settings import find_best_settings
from analysis.errors import AnalysisError
from analysis.laws.registry import get_law

SIZES = (1e6, 4e6, 16e6, 64e6)
RATES = 3e-4 * 2.0 ** np.arange(7)


def best_rate(size):
    """The truth: 3e-3 at a million parameters, falling as the fourth root of the size."""
    return 3e-3 * (np.asarray(size) / 1e6) ** -0.25


def make_sweep(*, sizes=SIZES, rates=RATES, seeds=3, noise=0.001, bend=0.01, seed=0, cliff=np.inf):
    """Runs whose log loss is a parabola over the log rate; beyond `cliff` times the best they cost e times as much."""
    rng = np.random.default_rng(seed)
    N, rate, run = (axis.ravel() for axis in np.meshgrid(sizes, rates, np.arange(seeds), indexing="ij"))
    off = np.log(rate / best_rate(N))
    log_loss = 1.0 - 0.1 * np.log(N / 1e6) + bend * off**2 + noise * rng.standard_normal(len(N))
    log_loss += np.where(off > np.log(cliff), 1.0, 0.0)
    return pd.DataFrame({"num_params": N, "peak_lr": rate, "seed": run, "loss": np.exp(log_loss)})


def codes(found):
    return {notice.code for notice in found.notices}


def test_a_known_optimum_its_loss_and_the_power_law_are_recovered():
    found = find_best_settings(make_sweep(noise=1e-4), "peak_lr", resamples=200)
    points = found.points
    assert points["best"].to_numpy() == pytest.approx(best_rate(SIZES), rel=0.01)
    assert points["loss"].to_numpy() == pytest.approx(np.exp(1 - 0.1 * np.log(np.array(SIZES) / 1e6)), rel=1e-3)
    assert points["cost_of_2x"].to_numpy() == pytest.approx(np.expm1(0.01 * np.log(2) ** 2), rel=0.05)
    assert found.trend.exponents["num_params"].value == pytest.approx(-0.25, abs=0.005)
    assert found.trend.at(num_params=4e6).value == pytest.approx(best_rate(4e6), rel=0.01)
    assert "num_params^-0.25" in str(found)


@pytest.mark.parametrize(("seeds", "noise"), [(3, 0.002), (1, 0.001)])
def test_intervals_cover_at_about_their_nominal_rate(seeds, noise):
    hits, trends = [], []
    for seed in range(40):
        found = find_best_settings(make_sweep(seeds=seeds, noise=noise, seed=seed), "peak_lr", resamples=200)
        points = found.points[~found.points["is_edge"]]
        truth = best_rate(points["num_params"])
        hits += ((points["low"] <= truth) & (truth <= points["high"])).tolist()
        exponent = found.trend.exponents["num_params"]
        trends.append(exponent.low <= -0.25 <= exponent.high)
    assert 0.9 <= np.mean(hits) <= 0.99
    assert np.mean(trends) >= 0.87


def test_one_seed_and_five_points_have_an_interval_and_three_points_have_none():
    table = make_sweep(seeds=1)
    assert find_best_settings(table, "peak_lr", resamples=100).points["low"].notna().all()
    few = table[table["peak_lr"].isin(RATES[[1, 3, 5]]) & (table["num_params"] < 6e7)]
    found = find_best_settings(few, "peak_lr", resamples=100)
    assert not found.points["is_edge"].any()
    assert found.points["low"].isna().all()
    assert "no_interval" in codes(found)
    # with seeds three points have one
    again = make_sweep(rates=RATES[[1, 3, 5]], sizes=SIZES[:3])
    assert find_best_settings(again, "peak_lr", resamples=100).points["low"].notna().all()


def test_an_edge_is_said_and_never_extrapolated():
    table = make_sweep(rates=RATES[:3])  # all below the best of the smallest
    found = find_best_settings(table[table["num_params"] == 1e6], "peak_lr", by=())
    row = found.points.iloc[0]
    assert row["is_edge"]
    assert row["best"] == pytest.approx(RATES[2])
    assert np.isnan(row["low"])
    (notice,) = found.notices
    assert notice.code == "edge"
    assert "is its largest: add larger ones" in notice.text
    mixed = find_best_settings(make_sweep(rates=RATES[2:]), "peak_lr", resamples=100)
    assert mixed.points["note"].tolist() == ["", "", "edge", "edge"]
    assert "is its smallest: add smaller ones" in mixed.notices[0].text
    assert {"edges_left_out", "few_sizes"} <= codes(mixed)
    assert mixed.trend is None


def test_two_settings_are_too_few_and_one_is_no_sweep():
    table = make_sweep(rates=RATES[2:4])
    assert codes(find_best_settings(table, "peak_lr", resamples=0)) >= {"few_settings"}
    with pytest.raises(AnalysisError, match="nothing to choose from"):
        find_best_settings(table[table["peak_lr"] == RATES[2]], "peak_lr")


def test_diverged_runs_are_left_out_counted_and_named_beside_the_best():
    table = make_sweep(sizes=(1e6,)).assign(status="ok")
    table.loc[table["peak_lr"] > RATES[3] * 1.1, ["status", "loss"]] = "diverged", np.nan
    found = find_best_settings(table, "peak_lr")
    assert found.left_out == {"status is diverged": 9}
    assert found.points[["diverged", "runs"]].values.tolist() == [[9, 12]]
    assert "is its largest that did not diverge (3 runs at 0.0048 did): add settings between" in found.notices[0].text
    inside = make_sweep(sizes=(1e6,)).assign(status="ok")
    inside.loc[inside["peak_lr"] > RATES[4] * 1.1, ["status", "loss"]] = "diverged", np.nan
    lower = inside.assign(loss=inside["loss"] * np.where(inside["peak_lr"] < RATES[4] * 0.9, 1.0, 1.3))
    found = find_best_settings(lower, "peak_lr")
    assert "divergence" not in codes(found)  # the next setting did not diverge
    near = inside.assign(
        status=np.where(inside["peak_lr"].between(4e-3, 5e-3) & (inside["seed"] == 0), "diverged", "ok")
    )
    near = near[near["loss"].notna()]
    found = find_best_settings(near, "peak_lr")
    assert any("1 runs at 0.0048, the next setting above" in notice.text for notice in found.notices)


def test_a_cliff_does_not_move_the_parabola():
    plain = find_best_settings(make_sweep(noise=1e-4), "peak_lr", resamples=0)
    cliff = find_best_settings(make_sweep(noise=1e-4, cliff=2.5), "peak_lr", resamples=0)
    assert cliff.points["best"].to_numpy() == pytest.approx(plain.points["best"].to_numpy(), rel=0.02)
    x = np.log([1.0, 2.0, 4.0, 8.0, 16.0])
    assert choose_points(x, np.array([4.0, 1.0, 0.0, 1.0, 13.0]), 2, np.log(4)).tolist() == [True] * 4 + [False]
    assert choose_points(x, np.array([4.0, 1.0, 0.0, 1.0, 11.0]), 2, np.log(4)).all()


def test_higher_is_better_for_r2_and_for_what_reaches_0():
    table = make_sweep(noise=1e-4)
    off = np.log(table["peak_lr"] / best_rate(table["num_params"]))
    scores = table.assign(r2=0.2 - 0.1 * off**2 + 1e-4 * np.random.default_rng(0).standard_normal(len(table)))
    found = find_best_settings(scores, "peak_lr", target="r2", resamples=100)
    assert not found.is_log
    assert not found.lower_is_better
    assert found.points["best"].to_numpy() == pytest.approx(best_rate(SIZES), rel=0.01)
    assert found.points["r2"].to_numpy() == pytest.approx(0.2, abs=1e-3)
    assert found.points["cost_of_2x"].to_numpy() == pytest.approx(0.1 * np.log(2) ** 2, rel=0.05)
    accuracy = find_best_settings(table.assign(accuracy=1 / table["loss"]), "peak_lr", target="accuracy")
    assert accuracy.is_log
    assert accuracy.points["best"].to_numpy() == pytest.approx(best_rate(SIZES), rel=0.01)


def test_settings_swept_beside_are_profiled_and_refused_otherwise():
    table = make_sweep(noise=1e-4, seeds=1)
    joint = pd.concat(
        [table.assign(batch_size=b, loss=table["loss"] * (1 + 0.05 * np.log(b / 64) ** 2)) for b in (32, 64, 128)]
    )
    with pytest.raises(AnalysisError, match=r"differ in batch_size \(3 values\).*--profile batch_size"):
        find_best_settings(joint, "peak_lr")
    found = find_best_settings(joint, "peak_lr", profile="batch_size")
    assert found.points["best"].to_numpy() == pytest.approx(best_rate(SIZES), rel=0.02)
    assert found.points["batch_size"].tolist() == [64] * 4
    assert "profile_edge" not in codes(found)
    edge = find_best_settings(joint[joint["batch_size"] < 100], "peak_lr", profile="batch_size")
    assert "profile_edge" in codes(edge)


def test_two_sizes_give_a_trend_in_both_unless_they_move_together():
    law = get_law("step_law_lr")
    N, D, step = np.meshgrid([1e8, 3e8, 1e9], [1e10, 5e10, 2e11], np.arange(-3, 4), indexing="ij")
    table = pd.DataFrame({"num_params": N.ravel(), "data_seen": D.ravel()})
    best = law.predict(law.example, table)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(table))
    table["peak_lr"] = 10 ** np.round(np.log10(best), 1) * 1.5 ** step.ravel()
    table["loss"] = np.exp(1 + 0.02 * np.log(table["peak_lr"] / best) ** 2 + noise)
    found = find_best_settings(table, "peak_lr", by=("num_params", "data_seen"))
    for name, value in (("num_params", -0.7129), ("data_seen", 0.3075)):
        exponent = found.trend.exponents[name]
        assert exponent.low <= value <= exponent.high
        assert exponent.value == pytest.approx(value, abs=0.02)
    fitted = found.fit("step_law_lr", bootstrap=50)
    assert fitted.params["a"] == pytest.approx(-0.7129, abs=0.02)
    assert fitted.n == 9
    assert "9 of 9 inside" in fitted.conventions["rows"]
    tied = table.assign(data_seen=20 * table["num_params"])[np.isclose(table["data_seen"], 5e10)]
    path = find_best_settings(tied, "peak_lr", by=("num_params", "data_seen"))
    assert "collinear" in codes(path)
    assert list(path.trend.exponents) == ["num_params"]


def test_labels_have_trends_of_their_own():
    table = pd.concat([make_sweep().assign(label="a"), make_sweep(seed=1).assign(label="b")])
    with pytest.raises(AnalysisError, match="differ in label"):
        find_best_settings(table, "peak_lr")
    found = find_best_settings(table, "peak_lr", by=("label", "num_params"), resamples=100)
    assert [dict(trend.where) for trend in found.trends] == [{"label": "a"}, {"label": "b"}]
    assert found.trend is None


def test_a_fit_to_optima_says_what_was_left_out():
    found = find_best_settings(make_sweep(rates=RATES[:5]), "peak_lr", resamples=0)
    assert not found.points["is_edge"].any()
    cut = find_best_settings(make_sweep(rates=RATES[2:]), "peak_lr", resamples=0)
    assert cut.points["note"].tolist() == ["", "", "edge", "edge"]
    fitted = cut.fit("power", variables=("num_params",))
    assert fitted.left_out == {"best peak_lr not inside the settings tried (edge)": 2}
    assert {"edge", "edges_left_out"} <= {notice.code for notice in fitted.warnings}
    assert fitted.status == "weak"
    with pytest.raises(AnalysisError, match="no best peak_lr is inside"):
        find_best_settings(make_sweep(rates=RATES[5:] * 4), "peak_lr").fit("power", variables=("num_params",))


def test_unbalanced_seeds_do_not_move_the_best():
    table = make_sweep(sizes=(1e6,), noise=1e-4, seeds=4)
    shifted = table.assign(loss=table["loss"] * np.exp(0.02 * table["seed"]))
    some = shifted[(shifted["seed"] < 2) | (shifted["peak_lr"] > 2e-3)]
    found = find_best_settings(some, "peak_lr", by=())
    assert found.points["best"][0] == pytest.approx(3e-3, rel=0.03)


def test_settings_that_scatter_more_than_seeds_widen_the_interval():
    table = make_sweep(sizes=(1e6,), noise=1e-4)
    bumps = 0.003 * np.random.default_rng(3).standard_normal(len(RATES))  # of a rate, the same for every seed
    rough = table.assign(loss=table["loss"] * np.exp(bumps[np.searchsorted(RATES * 0.99, table["peak_lr"]) - 1]))
    smooth, wide = (find_best_settings(rows, "peak_lr", by=()).points.iloc[0] for rows in (table, rough))
    assert wide["high"] / wide["low"] - 1 > 5 * (smooth["high"] / smooth["low"] - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"setting": "peak_rl"}, "did you mean 'peak_lr'"),
        ({"by": "size"}, "by='size'"),
        ({"target": "los"}, "did you mean 'loss'"),
        ({"profile": "num_params"}, "num_params is named twice"),
        ({"reach": 1.0}, "reach=1 must be above 1"),
        ({"resamples": 1}, "resamples=1"),
    ],
)
def test_bad_calls_are_one_line(options, message):
    words = {"setting": "peak_lr", **options}
    with pytest.raises(AnalysisError, match=message):
        find_best_settings(make_sweep(), words.pop("setting"), **words)
