"""Claims about figures of the frontier: the hull lies on its curves, and every approach stands beside the others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.approaches import compare_approaches
from analysis.decisions.optimum import trace_frontier
from analysis.errors import AnalysisError
from analysis.figures.frontier import plot_approaches, plot_envelope
from analysis.laws.registry import get_law

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


@pytest.fixture(scope="module")
def runs():
    """Five budgets of seven sizes with six evaluations of each run."""
    parts = []
    for flops in np.geomspace(1e18, 1e21, 5):
        for N in 1.2 * (flops / 6) ** 0.4516 * np.geomspace(1 / 6, 6, 7):
            D = flops / 6 / N * np.geomspace(0.1, 1, 6)
            part = pd.DataFrame({"cell": f"{flops:g}/{N:g}", "num_params": N, "data_seen": D, "train_flops": 6 * N * D})
            parts.append(part.assign(is_final=[False] * 5 + [True], loss=get_law("chinchilla").predict(TRUTH, part)))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def found(runs):
    return compare_approaches(runs, flops=1e22, resamples=50)


def test_the_envelope_lies_on_its_training_curves(runs, found):
    left, right = plot_envelope(found.envelope, runs).axes
    *curves, hull, inner, edge = left.lines
    assert len(curves) == runs["cell"].nunique()
    points = found.envelope.points
    assert hull.get_ydata().tolist() == points["loss"].tolist()
    assert len(inner.get_xdata()) + len(edge.get_xdata()) == len(points)
    assert edge.get_markerfacecolor() == "white"
    on = set(zip(runs["train_flops"].round(-10), runs["loss"].round(9), strict=True))
    assert {(round(x, -10), round(y, 9)) for x, y in zip(*hull.get_data(), strict=True)} <= on
    grid = np.asarray(right.lines[0].get_xdata())
    wanted = [found.envelope.size.at(float(one)).value for one in grid]
    assert np.asarray(right.lines[0].get_ydata()) == pytest.approx(wanted)
    with pytest.raises(AnalysisError, match="by='cel' is unknown; did you mean 'cell'"):
        plot_envelope(found.envelope, runs, by="cel")


def test_every_approach_has_its_line_its_points_and_its_interval_at_the_budget(found):
    figure = plot_approaches(found)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [f"{item.name}: a {item.show()[0]}" for item in found.found]
    for axes, quantity in zip(figure.axes, ("num_params", "data_seen"), strict=True):
        drawn = [line.get_xydata() for line in axes.lines if len(line.get_xdata())]
        for item in found.found:
            level = getattr(item, quantity)
            assert any(len(line) == 2 and line[:, 1].tolist() == [level.low, level.high] for line in drawn)
        lines = [line for line in drawn if len(line) == 60]
        assert len(lines) == 4
        law = trace_frontier(found.fit, lines[-1][:, 0])[quantity]
        assert lines[-1][:, 1] == pytest.approx(law.to_numpy())
        points = found.isoflops["isoflop_cubic"].points[quantity].tolist()
        assert any(line[:, 1].tolist() == points for line in drawn)


def test_an_approach_that_knows_no_exponent_has_points_and_no_line(found):
    lost = tuple(
        replace(item, size_exponent=item.size_exponent.model_copy(update={"low": -2.0})) for item in found.found
    )
    figure = plot_approaches(replace(found, found=lost))
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 60]
    assert drawn == []
    assert all("a not identified" in text.get_text() for text in figure.legends[0].get_texts())
