"""Claims about figures for decisions: they show the optimum, the budgets that count and the ranking."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.isoflop import find_valleys, fit_isoflops
from analysis.decisions.optimum import trace_frontier
from analysis.errors import AnalysisError
from analysis.figures.decisions import plot_contours, plot_isoflops, plot_tournament
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


def test_isoflop_profiles_show_every_budget_with_its_curve_bracket_and_minimum(profiles):
    seeds = pd.concat([profiles.assign(seed=seed, loss=profiles["loss"] * (1 + 0.002 * seed)) for seed in (-1, 1)])
    found = fit_isoflops(seeds, resamples=50)
    figure = plot_isoflops(found, seeds)
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.lines if line.get_label() == "runs"] == [len(seeds)]
    for item, minimum in zip(found.valleys, [*found.points.itertuples(), None], strict=True):
        drawn = [line for line in left.lines if np.array_equal(line.get_xdata(), item.sizes)]
        curve = [line for line in left.lines if np.array_equal(line.get_xdata(), item.grid)]
        assert np.asarray(drawn[0].get_ydata()) == pytest.approx(item.losses)  # means over seeds
        assert curve[0].get_ydata().tolist() == item.curve.tolist()
        assert (drawn[0].get_color() == curve[0].get_color() == "#BBBBBB") == (minimum is None)
        if minimum is not None:
            xs = [list(line.get_xdata()) for line in left.lines]
            assert [minimum.num_params] in xs
            assert [minimum.low, minimum.high] in xs
            assert list(item.bracket) in xs
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    grey = ["do not count: 1 isoflop_edge", "sizes run; the best is beyond"]
    assert legend == ["runs", "minimum, 95 %", "sizes around it", *grey]
    grid, line = np.asarray(right.lines[0].get_xdata()), np.asarray(right.lines[0].get_ydata())
    assert line == pytest.approx([found.size.at(float(flops)).value for flops in grid], rel=1e-12)
    assert right.get_title(loc="left") == f"N* ~ C^a, a {found.size.exponent}"
    assert left.get_title(loc="left") == "cubic through 5 of 6 budgets"


def test_a_line_that_means_nothing_is_not_drawn(profiles):
    found = fit_isoflops(profiles, resamples=50)
    wild = found.size.exponent.model_copy(update={"low": -3.0})
    _, right = plot_isoflops(replace(found, size=replace(found.size, exponent=wild))).axes
    assert not any(len(line.get_xdata()) > 2 for line in right.lines)
    assert right.get_title(loc="left").startswith("N* ~ C^a, a not identified")


@pytest.mark.parametrize("counting", [0, 1])
def test_valleys_without_a_line_are_drawn_and_the_title_says_why(profiles, counting):
    rows = profiles.groupby("train_flops").head(4)
    rows = profiles[(profiles["train_flops"] == BUDGETS[0]) | profiles.index.isin(rows.index)] if counting else rows
    valleys = find_valleys(rows, resamples=30)
    left, right = plot_isoflops(valleys, rows).axes
    for item in valleys:
        (curve,) = [line for line in left.lines if np.array_equal(line.get_xdata(), item.grid)]
        assert (curve.get_color() == "#BBBBBB") == (item.skip is not None)
    assert left.get_title(loc="left") == f"cubic through {counting} of 6 budgets"
    title = f"no line, which needs 2 minima inside the sizes: {counting} of 6 budgets"
    assert right.get_title(loc="left") == title
    arrows = [line for line in right.lines if line.get_marker() == "^"]
    assert [line.get_ydata()[0] for line in arrows] == [item.sizes[-1] for item in valleys if item.skip is not None]
    large = find_valleys(profiles.assign(loss=profiles["num_params"] ** 0.1), resamples=0)
    down = [line for line in plot_isoflops(large).axes[1].lines if line.get_marker() == "v"]
    assert [line.get_ydata()[0] for line in down] == [item.sizes[0] for item in large]
    with pytest.raises(AnalysisError, match="no valleys"):
        plot_isoflops(())


def test_losses_that_were_moved_are_said_to_be(profiles):
    factor = np.tile(np.geomspace(1.25, 1, 7), 6)
    uneven = profiles.assign(train_flops=profiles["train_flops"] * factor)
    seeds = pd.concat([uneven.assign(seed=seed) for seed in (0, 1)])
    figure = plot_isoflops(fit_isoflops(seeds, resamples=0), seeds)
    assert figure.axes[0].get_title(loc="left").endswith("of 6 budgets; losses of 6 at their mean FLOPs")
    assert figure.legends[0].get_texts()[0].get_text() == "runs, at their own FLOPs"


def test_the_ranking_has_a_mark_for_each_law_that_was_fitted(profiles):
    power = get_law("power_floor").bind(("train_flops",))
    ranking = run_tournament(profiles, ["chinchilla", power, "power_floor"], windows=2)
    (axes,) = plot_tournament(ranking).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["chinchilla (5)", "power_floor (3)"]
    assert list(axes.lines[0].get_xdata()) == pytest.approx((100 * ranking["rmse"].dropna()).tolist())
    with pytest.raises(AnalysisError, match="none with a rank"):
        plot_tournament(ranking[ranking["rank"].isna()])
