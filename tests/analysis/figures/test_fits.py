"""Claims about figures of fits: what stands in them is the fit's, and what cannot be drawn is one line."""

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.figures.fits import plot_fit, usable_rows
from analysis.figures.style import render_svg
from analysis.fitting.fit_law import fit_law, refit
from analysis.laws.law import Law, register
from analysis.laws.registry import LAWS, get_law
from analysis.tables.columns import note


@pytest.fixture(scope="module")
def points():
    return get_law("power_floor").sample(levels=7, seeds=3, noise=0.01)


@pytest.fixture(scope="module")
def one(points):
    fit = fit_law("power_floor", points, points["loss"], target="loss")
    weights = np.random.default_rng(0).multinomial(len(points), np.full(len(points), 1 / len(points)), size=40)
    draws = refit("power_floor", points, points["loss"].to_numpy(), weights.astype(float), start=fit.vector)
    return fit.model_copy(update={"draws": tuple(map(tuple, draws.tolist()))})


@pytest.fixture(scope="module")
def grid():
    return get_law("chinchilla").sample(levels=6, noise=0.002)


@pytest.fixture(scope="module")
def two(grid):
    return fit_law("chinchilla", grid, grid["loss"], target="loss")


def lines(axes):
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]


def test_a_law_of_one_variable_is_its_curve_band_points_and_residuals(one, points):
    top, below = plot_fit(one, points).axes
    (_, dashed), (x, curve), (_, dots) = lines(top)
    assert curve == pytest.approx(one.predict({"data_unique": x}), rel=1e-12)
    assert dashed.min() == curve.min()
    assert sorted(dots) == sorted(points["loss"])
    (band,) = top.collections
    height = np.ptp(band.get_paths()[0].vertices[:, 1])
    assert height >= np.ptp(curve)
    (rest,) = below.collections
    fitted = one.predict({"data_unique": points["data_unique"].to_numpy()})
    assert np.asarray(rest.get_offsets())[:, 1] == pytest.approx(100 * (points["loss"] / fitted - 1), abs=1e-9)
    assert (top.get_xscale(), top.get_yscale()) == ("log", "log")


def test_a_law_of_two_variables_is_a_curve_for_each_level(two, grid):
    top, below, bar = plot_fit(two, grid).axes
    sizes = np.unique(grid["num_params"])
    curves = lines(top)[1::2]
    assert len(curves) == len(sizes)
    for (x, curve), size in zip(curves, sizes, strict=True):
        assert curve == pytest.approx(two.predict({"num_params": np.full(len(x), size), "data_seen": x}), rel=1e-12)
    assert len(top.collections[0].get_offsets()) == len(below.collections[0].get_offsets()) == len(grid)
    assert bar.get_ylabel() == "model size N (parameters)"
    assert top.get_ylabel() == "loss (nats)"


def test_beyond_two_variables_points_stand_against_predictions(grid):
    law = Law(
        name="three_for_plots",
        formula="L = E + A/N^alpha + B/D^beta + F/m^gamma",
        source="this test",
        variables=("num_params", "data_seen", "data_unique"),
        linear=("E", "A", "B", "F"),
        nonlinear={"alpha": (0.1, 1.0)},
        terms=lambda n, d, m, alpha: (1.0, n**-alpha, d**-alpha, m**-alpha),
    )
    register(law)
    try:
        wide = grid.assign(data_unique=np.random.default_rng(0).uniform(1e8, 1e9, len(grid)))
        fit = fit_law(law, wide, wide["loss"], target="loss")
        top, below = plot_fit(fit, wide).axes
        (low, high), (x, y) = lines(top)
        assert low == pytest.approx(high)
        assert x == pytest.approx(fit.predict({name: wide[name].to_numpy() for name in fit.columns}))
        assert y.tolist() == wide["loss"].tolist()
        assert below.get_xlabel() == "predicted loss"
        with pytest.raises(AnalysisError, match="has no curve to draw by itself; give the table"):
            plot_fit(fit)
    finally:
        del LAWS[law.name]


def test_the_curve_goes_on_to_points_that_were_not_fitted(one, points):
    far = pd.concat([points, points.iloc[:1].assign(data_unique=1e8, seed=9, loss=0.1)])
    (x, _), (inside, _), _ = lines(plot_fit(one, far).axes[0])
    assert x.max() == pytest.approx(1e8)
    assert inside.max() <= 1e6 * 1.002


def test_only_rows_of_the_series_that_can_be_shown_are_shown(one, points):
    named = one.model_copy(update={"label": "a"})
    table = points.assign(label=["a", "b", "a"] * 7)
    table.loc[0, "loss"] = np.nan
    table.loc[2, "loss"] = -1.0
    assert len(usable_rows(named, table)) == 14 - 2
    assert len(usable_rows(named, points)) == 21
    assert usable_rows(named, note(table, "x", "y"))["label"].unique().tolist() == ["a"]


def test_a_series_is_found_by_the_column_it_was_made_by(one, points):
    table = points.assign(label=["a", "b", "c"] * 7, family=["mlp", "mlp", "forest"] * 7)
    assert len(usable_rows(one.model_copy(update={"label": "forest"}), table)) == 7
    assert len(usable_rows(one.model_copy(update={"label": "all"}), points)) == 21
    with pytest.raises(AnalysisError, match="no row to show beside the fit \\(21 where loss is NaN\\)"):
        plot_fit(one, points.assign(loss=np.nan))


def test_a_weak_fit_says_so_in_its_figure(points):
    few = points[points["data_unique"] < 500]
    fit = fit_law("power_floor", few, few["loss"], target="loss")
    assert fit.status == "weak"
    title = plot_fit(fit, few).axes[0].get_title(loc="left")
    assert "weak: " in title
    assert "few_points" in title


def test_equal_fits_give_equal_figures(one, points):
    assert render_svg(plot_fit(one, points)) == render_svg(plot_fit(one, points))
