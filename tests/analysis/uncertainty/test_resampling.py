"""Resampling schemes: corrected residuals have the noise's spread, and dependent rows move together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fit_table import fit
from analysis.laws.registry import get_law
from analysis.uncertainty.resampling import (
    Points,
    correct_residuals,
    draw_pairs,
    draw_residuals,
    draw_wild,
    find_spread,
    number_clusters,
    settle_seeds,
)


def line(n=12, seed=0, clusters=None, scale=1.0):
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, n)
    design = np.c_[np.ones(n), x, x**2]
    y = rng.standard_normal(n) * scale
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    clusters = np.arange(n) if clusters is None else clusters
    return Points(y, fitted, design, np.ones(n), clusters, x[:, None])


def test_corrected_residuals_have_the_variance_of_the_noise():
    squares = [np.mean(correct_residuals(line(seed=seed))[0] ** 2) for seed in range(400)]
    assert np.mean(squares) == pytest.approx(1.0, abs=0.05)
    raw = [np.mean((points.y - points.fitted) ** 2) for points in (line(seed=seed) for seed in range(400))]
    assert np.mean(raw) == pytest.approx(9 / 12, abs=0.05)  # uncorrected ones are too small
    assert correct_residuals(line())[1] == 9


def test_a_fit_through_some_points_still_has_residuals_there():
    points = line()
    through = Points(points.y, points.y.copy(), points.jacobian, points.weights, points.clusters, points.sizes)
    through.fitted[3:] = points.fitted[3:]
    assert (np.abs(correct_residuals(through)[0][:3]) > 0).all()


def test_wild_draws_flip_whole_clusters():
    clusters = np.repeat(np.arange(4), 3)
    points = line(clusters=clusters)
    drawn = draw_wild(points, 50, np.random.default_rng(0)) - points.fitted
    residual, _ = correct_residuals(points)
    signs = np.sign(drawn * residual)
    for cluster in range(4):
        assert (signs[:, clusters == cluster] == signs[:, clusters == cluster][:, :1]).all()


def test_pairs_draw_whole_clusters_and_keep_their_number():
    clusters = np.repeat(np.arange(4), 3)
    weights = draw_pairs(line(clusters=clusters), 100, np.random.default_rng(0))
    assert (weights.reshape(100, 4, 3) == weights.reshape(100, 4, 3)[:, :, :1]).all()
    assert (weights.sum(axis=1) == 12).all()


def test_residual_draws_follow_a_spread_that_changes_with_size():
    x = np.linspace(-1, 1, 80)
    points = line(80, scale=np.exp(-1.5 * x))
    drawn = draw_residuals(points, 500, np.random.default_rng(0)) - points.fitted
    ratio = drawn[:, :20].std() / drawn[:, -20:].std()
    assert ratio == pytest.approx(np.exp(1.5 * 1.5), rel=0.5)


def test_a_trend_of_the_spread_is_shrunk_by_what_chance_would_explain():
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, 20)
    sizes = x[:, None] * np.log(10)

    def slopes(true):
        found = []
        for _ in range(400):
            residual = np.exp(true * x) * rng.standard_normal(20)
            points = Points(residual, np.zeros(20), np.ones((20, 1)), np.ones(20), np.arange(20), sizes)
            spread = np.log(find_spread(points, residual))
            assert spread.mean() == pytest.approx(0.0, abs=1e-12)
            found.append((spread[-1] - spread[0]) / 2)
        return np.array(found)

    none, strong = slopes(0.0), slopes(1.5)
    assert (none == 0).mean() > 0.5  # most even noise has no trend at all
    assert np.sqrt((none**2).mean()) < 0.4  # a slope by least squares has a standard error of 0.42
    assert strong.mean() == pytest.approx(1.5, rel=0.15)


def test_noise_of_points_that_cannot_tell_a_trend_is_even():
    points = line(3)
    assert (find_spread(points, np.array([1.0, 2.0, 3.0])) == 1).all()
    same = Points(points.y, points.fitted, points.jacobian, points.weights, points.clusters, np.ones((3, 1)))
    assert (find_spread(same, np.array([1.0, 2.0, 3.0])) == 1).all()
    assert (find_spread(line(9), np.zeros(9)) == 1).all()


def test_rows_of_one_cell_or_one_trunk_are_one_cluster():
    rows = pd.DataFrame({"cell": ["a", "a", "b", "c", "d"], "trunk": [None, None, "t", "t", None]})
    assert number_clusters(rows, ["cell", "trunk"]).tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(AnalysisError, match="did you mean 'trunk'"):
        number_clusters(rows, ["trunks"])


@pytest.mark.parametrize("scheme", ["residual", "wild", "pairs", "seed"])
@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_every_scheme_gives_an_interval_around_the_truth(scheme, interval):
    table = get_law("power_floor").sample(levels=14, seeds=3, noise=0.01, seed=5)
    found = fit(table, "power_floor", bootstrap=200, scheme=scheme, interval=interval)
    low, high = found.ci95["alpha"]
    assert low < 0.5 < high
    assert high - low < 0.2
    assert ("BCa" in found.conventions["uncertainty"]) == (interval == "bca")


def test_branches_of_one_trunk_widen_the_intervals():
    rng, law = np.random.default_rng(0), get_law("chinchilla")
    table = law.sample(levels=6, noise=0.0)
    trunks = table["num_params"].rank(method="dense").astype(int)
    table["loss"] *= np.exp(0.01 * rng.standard_normal(7)[trunks] + 0.001 * rng.standard_normal(len(table)))
    alone = fit(table.drop(columns="seed"), law, bootstrap=200)
    together = fit(table.drop(columns="seed").assign(trunk=trunks), law, bootstrap=200)
    width = [np.diff(one.ci95["alpha"])[0] for one in (alone, together)]
    assert width[1] > 1.3 * width[0]


def test_unknown_schemes_and_too_few_resamples_are_refused():
    table = get_law("power_floor").sample(levels=8)
    with pytest.raises(AnalysisError, match="did you mean 'wild'"):
        fit(table, bootstrap=10, scheme="wildd")
    with pytest.raises(AnalysisError, match="at least 2"):
        fit(table, bootstrap=1)
    with pytest.raises(AnalysisError, match="seeds that repeat"):
        fit(table, bootstrap=10, scheme="seed")


def test_a_combination_of_columns_is_one_cluster_where_all_of_them_agree():
    rows = pd.DataFrame({"a": [1, 1, 2, 2, 2, 1], "b": ["x", "y", "x", "x", None, "x"], "a+b": [0, 0, 0, 1, 1, 1]})
    assert number_clusters(rows.drop(columns="a+b"), ["a+b"]).tolist() == [0, 1, 2, 2, 3, 0]
    assert number_clusters(rows.drop(columns="a+b"), ["a", "b"]).tolist() == [0, 0, 0, 0, 0, 0]
    assert number_clusters(rows, ["a+b"]).tolist() == [0, 0, 0, 1, 1, 1]  # a column of that very name
    assert number_clusters(rows, ["a+b+b"]).tolist() == [0, 1, 0, 2, 3, 2]
    assert number_clusters(rows, ["a", "b"]).max() == 0
    with pytest.raises(AnalysisError, match="cluster='c' is unknown"):
        number_clusters(rows, ["a+c"])


def test_rows_without_a_value_are_clusters_by_themselves():
    rows = pd.DataFrame({"run": ["a", None, "a", "", " ", np.nan]})
    assert number_clusters(rows, ["run"]).tolist() == [0, 1, 0, 2, 3, 4]
    assert number_clusters(rows, []).tolist() == [0, 1, 2, 3, 4, 5]


def test_seeds_that_are_missing_or_of_mixed_kinds_are_numbered():
    assert settle_seeds(pd.Series([3, 1, 3])).tolist() == [3, 1, 3]
    assert settle_seeds(pd.Series([3, np.nan, 3, np.nan])).tolist() == [0, 1, 0, 2]
    assert settle_seeds(pd.Series([3, "x", 3, None])).tolist() == [0, 1, 0, 2]


def test_missing_seeds_do_not_stop_a_fit():
    table = get_law("power_floor").sample(levels=8, seeds=3, noise=0.01)
    table["seed"] = table["seed"].where(np.arange(len(table)) % 5 > 0)
    assert fit(table, "power_floor", bootstrap=30).ci95["alpha"][0] is not None
    by_seed = fit(table, "power_floor", bootstrap=30, scheme="wild", clusters=["seed"])
    assert "8 clusters" in by_seed.conventions["uncertainty"]  # 3 seeds, and 5 runs without one
