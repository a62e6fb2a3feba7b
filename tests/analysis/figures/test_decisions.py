"""Claims about figures for decisions: they show the optimum, the budgets that count, the gain and the ranking."""

import numpy as np
import pytest

from analysis.decisions.gain import measure_gain
from analysis.decisions.isoflop import fit_isoflops
from analysis.decisions.optimum import trace_frontier
from analysis.errors import AnalysisError
from analysis.figures.decisions import plot_contours, plot_gain, plot_isoflops, plot_tournament
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from analysis.validation.validate import run_tournament

BUDGETS = np.geomspace(1e18, 1e21, 5)


@pytest.fixture(scope="module")
def profiles():
    """Seven sizes around the optimum of each of five budgets, and a sixth budget that only has sizes below it."""
    law = get_law("chinchilla")
    spread, best = np.geomspace(0.25, 4, 7), 0.09 * (BUDGETS / 6) ** 0.514
    sizes = np.r_[np.outer(best, spread).ravel(), 0.1 * best[-1] * spread]
    flops = np.r_[np.repeat(BUDGETS, 7), np.full(7, 1e22)]
    table = law.sample(columns={"num_params": sizes, "data_seen": flops / (6 * sizes)}, noise=0.0005)
    return table.assign(train_flops=flops)


@pytest.fixture(scope="module")
def fit(profiles):
    return fit_law("chinchilla", profiles, profiles["loss"], target="loss")


def test_contours_turn_where_the_frontier_runs(fit, profiles):
    (axes,) = plot_contours(fit, profiles).axes
    runs, dashed, frontier = axes.lines
    assert len(runs.get_xdata()) == len(profiles)
    best = trace_frontier(fit, np.asarray(dashed.get_xdata()))
    assert np.asarray(dashed.get_ydata()) == pytest.approx(best["num_params"].to_numpy(), rel=1e-6)
    assert frontier.get_xdata().min() >= 0.999e18
    turns = 0
    for paths in axes.collections[0].get_paths():
        at = paths.vertices[paths.vertices[:, 0].argmin()]
        if at[1] < 0.9 * axes.get_ylim()[1]:
            wanted = float(np.interp(np.log(at[0]), np.log(best["train_flops"]), np.log(best["num_params"])))
            assert np.log(at[1]) == pytest.approx(wanted, abs=0.15)  # flat there: the grid is 6 % apart
            turns += 1
    assert turns >= 5


def test_contours_reach_as_far_as_asked_and_need_two_sizes(fit, profiles):
    (axes,) = plot_contours(fit, flops=(1e18, 1e25)).axes
    assert max(axes.lines[0].get_xdata()) == pytest.approx(1e25)
    other = fit_law(get_law("power_floor").bind(("num_params",)), profiles, profiles["loss"])
    with pytest.raises(AnalysisError, match="contours need num_params and data_seen"):
        plot_contours(other)


def test_isoflop_profiles_show_every_budget_and_the_ones_that_count(profiles):
    found = fit_isoflops(profiles, resamples=50)
    left, right = plot_isoflops(found, profiles).axes
    *curves, stars = left.lines
    assert len(curves) == 6
    assert [line.get_color() == "#BBBBBB" for line in curves] == [False] * 5 + [True]
    assert stars.get_xdata().tolist() == found.points["num_params"].tolist()
    grid, line = np.asarray(right.lines[0].get_xdata()), np.asarray(right.lines[0].get_ydata())
    assert line == pytest.approx([found.size.at(float(flops)).value for flops in grid], rel=1e-12)
    assert right.get_title(loc="left") == f"N* ~ C^{found.size.exponent}"


def test_the_gain_is_drawn_whole_where_both_were_observed():
    law = get_law("power_floor").bind(("train_flops",))
    fits = []
    for label, factor, reach in (("old", 800.0, 1e20), ("new", 600.0, 1e21)):
        x = np.geomspace(1e17, reach, 8)
        y = 1.5 + factor * x**-0.15
        fits.append(fit_law(law, {"train_flops": x}, y, target="loss", label=label))
    gain = measure_gain(*fits)
    (axes,) = plot_gain(gain).axes
    _, dashed, whole, point = axes.lines
    assert dashed.get_ydata().tolist() == gain.table["gain"].tolist()
    assert len(whole.get_xdata()) == int(gain.table["observed"].sum()) < len(gain.table)
    assert point.get_ydata()[0] == gain.offset.estimate == pytest.approx((800 / 600) ** (1 / 0.15), rel=1e-3)


def test_the_ranking_has_a_mark_for_each_law_that_was_fitted(profiles):
    power = get_law("power_floor").bind(("train_flops",))
    ranking = run_tournament(profiles, ["chinchilla", power, "power_floor"], windows=2)
    (axes,) = plot_tournament(ranking).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["chinchilla (5)", "power_floor (3)"]
    assert list(axes.lines[0].get_xdata()) == pytest.approx((100 * ranking["rmse"].dropna()).tolist())
    with pytest.raises(AnalysisError, match="none with a rank"):
        plot_tournament(ranking[ranking["rank"].isna()])
