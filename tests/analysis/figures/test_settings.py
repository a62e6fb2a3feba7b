"""Claims about the figure of best settings: every sweep, its parabola, the best of each and the trend are there."""

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.settings import find_best_settings
from analysis.figures.settings import plot_best_settings

RATES = 3e-4 * 2.0 ** np.arange(7)


@pytest.fixture(scope="module")
def table():
    """Four sizes over seven rates in two seeds; the largest size ran at the upper rates alone."""
    N, rate, seed = (axis.ravel() for axis in np.meshgrid([1e6, 4e6, 16e6, 64e6], RATES, [0, 1], indexing="ij"))
    off = np.log(rate / (3e-3 * (N / 1e6) ** -0.25))
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(N))
    rows = pd.DataFrame({"num_params": N, "peak_lr": rate, "seed": seed, "loss": np.exp(1 + 0.01 * off**2 + noise)})
    return rows[(N < 6e7) | (rate > 2e-3)]


def test_sweeps_have_parabolas_and_edges_are_hollow(table):
    found = find_best_settings(table, "peak_lr", resamples=100)
    left, right = plot_best_settings(found, table).axes
    stars = [line for line in left.lines if line.get_marker() == "*"]
    assert [float(star.get_xdata()[0]) for star in stars] == pytest.approx(found.points["best"].tolist())
    assert [star.get_markerfacecolor() == "none" for star in stars] == [False, False, False, True]
    parabolas = [line for line in left.lines if len(line.get_xdata()) == 60]
    assert len(parabolas) == 3
    for line, best in zip(parabolas, found.points["best"], strict=False):
        lowest = line.get_xdata()[np.argmin(line.get_ydata())]
        assert lowest == pytest.approx(best, rel=0.06)
    (trend,) = (line for line in right.lines if len(line.get_xdata()) == 40)
    size = float(trend.get_xdata()[7])
    assert trend.get_ydata()[7] == pytest.approx(found.trend.at(num_params=size).value)
    assert max(trend.get_xdata()) == pytest.approx(16e6)  # not beyond the optima that it goes through
    assert str(found.trend).split()[0] in right.get_title(loc="left")


def test_groups_that_are_no_sizes_stand_side_by_side(table):
    labels = table[table["num_params"] < 3e6].assign(label="mlp")
    both = pd.concat([labels, labels.assign(label="cnn", seed=labels["seed"] + 2)])
    found = find_best_settings(both, "peak_lr", by="label", resamples=0)
    _, right = plot_best_settings(found).axes
    assert [text.get_text() for text in right.get_xticklabels()] == ["cnn", "mlp"]
