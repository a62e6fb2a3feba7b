"""Claims about the figure of a gain: whole where both were observed, and in the words of what was varied."""

import numpy as np
import pytest

from analysis.decisions.gain import measure_gain
from analysis.figures.gain import plot_gain
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law


def compare(column, unit=None):
    law, fits = get_law("power_floor").bind((column,)), []
    for label, factor, reach in (("old", 800.0, 1e20), ("new", 600.0, 1e21)):
        x = np.geomspace(1e17, reach, 8)
        fits.append(fit_law(law, {column: x}, 1.5 + factor * x**-0.15, target="loss", label=label))
    return measure_gain(*fits, unit=unit)


def test_the_gain_is_drawn_whole_where_both_were_observed():
    gain = compare("train_flops")
    (axes,) = plot_gain(gain).axes
    _, dashed, whole, point = axes.lines
    assert dashed.get_ydata().tolist() == gain.table["gain"].tolist()
    assert len(whole.get_xdata()) == int(gain.table["observed"].sum()) < len(gain.table)
    assert point.get_ydata()[0] == gain.offset.estimate == pytest.approx((800 / 600) ** (1 / 0.15), rel=1e-3)


def test_axes_and_title_name_what_was_varied():
    (axes,) = plot_gain(compare("data_unique", "examples")).axes
    assert axes.get_xlabel() == "labelled data m (examples) of new"
    assert axes.get_ylabel().startswith("labelled data that old needs")
    assert "times less labelled data than old at m = " in axes.get_title(loc="left")
    (axes,) = plot_gain(compare("num_params")).axes
    assert axes.get_xlabel() == "parameters N of new"
    assert "times fewer parameters than old at N = " in axes.get_title(loc="left")
    (axes,) = plot_gain(compare("train_flops")).axes
    assert axes.get_ylabel().startswith("compute that old needs")
