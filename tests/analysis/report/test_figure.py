"""Claims about the report's figure: hues by family, shades by size."""

import pandas as pd

from analysis.report.figure import assign_looks
from analysis.report.page import draw_figure
from tests.analysis.report.stores import LAWS


def test_sizes_of_one_family_share_a_hue_and_darken():
    points = pd.DataFrame(
        {"label": ["s", "l", "x"], "family": ["mlp", "mlp", "forest"], "num_params": [10, 1000, None], "m": 1}
    )
    looks = assign_looks(points)
    brightness = {label: sum(bytes.fromhex(colour[1:])) for label, (colour, _) in looks.items()}
    assert brightness["s"] > brightness["l"]
    assert looks["s"][1] == looks["l"][1] != looks["x"][1]


def test_every_series_has_its_points_and_a_fitted_one_its_curve(findings):
    figure = draw_figure(findings)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "error rate"
    assert axes.get_xlabel() == "labelled examples m"
    names = {text.get_text() for text in axes.texts}
    assert names == set(LAWS)
    curves = [line for line in axes.lines if len(line.get_xdata()) == 120]
    assert len(curves) == len(findings.bootstrap.fits)
