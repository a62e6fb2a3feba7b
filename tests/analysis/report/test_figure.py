"""Claims about the report's figures of performance: hues, shades, names, and what stands against what."""

import pandas as pd
import pytest

from analysis.report.figure import assign_looks
from analysis.report.make import make_report
from analysis.report.performance import study_performance
from analysis.report.subject import ReportOptions
from tests.analysis.report.stores import LAWS
from tests.analysis.report.tables import make_grid


def test_sizes_of_one_family_share_a_hue_and_darken():
    points = pd.DataFrame(
        {"line": ["s", "l", "x"], "label": ["s", "l", "x"], "family": ["mlp", "mlp", "forest"], "size": [10, 1000, 0]}
    )
    looks = assign_looks(points)
    brightness = {label: sum(bytes.fromhex(colour[1:])) for label, (colour, _) in looks.items()}
    assert brightness["s"] > brightness["l"]
    assert looks["s"][1] == looks["l"][1] != looks["x"][1]


def test_a_series_of_several_lines_has_a_hue_of_its_own():
    points = pd.DataFrame(
        {"line": ["a1", "a2", "b1"], "label": ["a", "a", "b"], "family": "mlp", "size": [10, 1000, 10]}
    )
    looks = assign_looks(points)
    assert looks["a1"][1] == looks["a2"][1] != looks["b1"][1]


def test_series_of_one_family_and_size_are_told_apart():
    points = pd.DataFrame({"line": ["a", "b"], "label": ["a", "b"], "family": "mlp", "size": [10, 10]})
    looks = assign_looks(points)
    assert looks["a"][0] != looks["b"][0]


def test_every_series_has_its_points_and_a_fitted_one_its_curve(report):
    (axes,) = report.figure.axes
    assert axes.get_ylabel() == "error rate"
    assert axes.get_xlabel() == "labelled examples m"
    assert {text.get_text() for text in axes.texts} == set(LAWS)
    curves = [line for line in axes.lines if len(line.get_xdata()) == 120]
    assert len(curves) == len(study_performance(report.subject).bootstrap.fits)


def test_a_line_of_people_stands_across_the_figure(store):
    made = make_report(str(store.path), options=ReportOptions(resamples=20, lines={"people": 0.05}))
    (axes,) = made.figure.axes
    assert "people" in {text.get_text() for text in axes.texts}
    assert axes.get_ylim()[0] < 0.05


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "grid.csv"
    make_grid().to_csv(path, index=False)
    return make_report(str(path), options=ReportOptions(resamples=20))


def test_the_same_means_stand_against_what_they_cost(grid):
    picture = next(each for each in grid["performance"].pictures() if each.name == "against")
    labels = [axes.get_xlabel() for axes in picture.figure.axes if axes.get_visible()]
    assert labels == ["model size N", "training compute C (FLOPs)"]
