"""The solver of the fits: exact coefficients, descents that never lose, and weights that mean what they say."""

import csv

import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.fitting.fit_law import fit_law, refit
from analysis.fitting.objective import make_objective
from analysis.fitting.solver import Problem
from analysis.laws.law import Law, Range
from analysis.laws.registry import get_law
from tests.places import TABLES

TABLE = TABLES / "chinchilla_epoch.csv"
X = np.geomspace(100.0, 1e5, 12)


def make_points(seed=0, noise=0.01, floor=0.3):
    return (floor + 5 * X**-0.4) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(X)))


def solve(law, columns, y, objective="huber", **changes):
    """The best end of every start, and the problem."""
    problem = Problem(law, columns, y, make_objective(objective, **changes))
    starts = problem.scan(y, np.ones(len(y)))
    ends = problem.refine(starts, y, np.ones(len(y)))
    return problem, starts, ends


@pytest.fixture(scope="module")
def chinchilla():
    if not TABLE.exists():
        pytest.skip("the shared tables are not here")
    with TABLE.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))[:-5]
    size, flops, loss = (np.array([float(row[of]) for row in rows]) for of in ("Model Size", "Training FLOP", "loss"))
    return {"num_params": size, "data_seen": flops / (6 * size)}, loss


@pytest.mark.parametrize("objective", ["huber", "lad", "asymmetric", "log_mse", "mse"])
def test_a_refinement_is_never_worse_than_its_start(objective):
    y = make_points(noise=0.1)
    problem, starts, ends = solve(get_law("power_floor"), [X], y, objective)
    # A continuation may leave a kink for a worse one; from where it ended, nothing may be lost.
    again = problem.refine(ends.z, y, np.ones(len(y)), first=0.0)
    assert (again.value <= ends.value * (1 + 1e-12) + 1e-30).all()
    direct = problem.refine(starts, y, np.ones(len(y)), first=0.0)
    assert (direct.value <= problem.measure(starts, y, np.ones(len(y))) * (1 + 1e-12)).all()


@pytest.mark.parametrize(("objective", "best"), [("huber", 0.0010182740178), ("lad", 1.1294947), ("mse", 0.083204)])
def test_chinchillas_points_have_their_global_optimum(chinchilla, objective, best):
    columns, loss = chinchilla
    assert fit_law("chinchilla", columns, loss, objective=objective).objective.value == pytest.approx(best, rel=1e-5)


def test_slopes_and_curvatures_are_those_of_the_objective(chinchilla):
    columns, loss = chinchilla
    problem = Problem(get_law("chinchilla"), list(columns.values()), loss, make_objective("log_mse"))
    z = problem.rescale(np.array([[1.7, 400.0, 1500.0, 0.33, 0.35]]))
    goal, w = np.log(loss / problem.scale)[None], np.ones((1, len(loss)))
    value, slope, hessian, _ = problem._derive(z, goal, w, np.full((1, 1), np.inf))
    assert value[0] == pytest.approx(problem.measure(z, loss, w[0])[0], rel=1e-12)
    for i in range(5):
        step = 1e-4 * np.eye(5)[i]
        ahead, behind = (problem._derive(z + sign * step, goal, w, np.full((1, 1), np.inf)) for sign in (1, -1))
        assert slope[0, i] == pytest.approx((ahead[0] - behind[0])[0] / 2e-4, rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(hessian[0, i], (ahead[1] - behind[1])[0] / 2e-4, rtol=1e-4, atol=1e-3)


def test_parameters_of_different_terms_share_a_difference():
    problem = Problem(get_law("chinchilla"), [X * 1e6, X * 1e8], make_points(), make_objective("huber"))
    assert problem.owners == [[1], [2]]
    assert problem.groups == [[0, 1]]
    shifted = Law(
        name="shifted", formula="", source="", variables=("x",), linear=("E", "A"),
        nonlinear={"m0": Range(1.0, 1e5, log=True), "c": (0.05, 2.0)}, terms=lambda x, m0, c: (1.0, (1 + x / m0) ** -c),
    )  # fmt: skip
    problem = Problem(shifted, [X], make_points(), make_objective("huber"))
    assert problem.pairs == [(0, 1)]
    assert problem.groups == [[0], [1]]


def test_weight_0_leaves_a_point_out():
    y, w = make_points(), np.ones(len(X))
    w[3] = w[7] = 0
    kept = w > 0
    some = fit_law("power_floor", {"data_unique": X[kept]}, y[kept])
    none = fit_law("power_floor", {"data_unique": X}, y, weights=w)
    np.testing.assert_allclose(none.vector, some.vector, rtol=1e-7)
    many = refit("power_floor", {"data_unique": X}, y, w, start=fit_law("power_floor", {"data_unique": X}, y).vector)
    np.testing.assert_allclose(many[0], some.vector, rtol=1e-6)


def test_integer_weights_repeat_points():
    y, w = make_points(1), np.random.default_rng(2).integers(1, 4, len(X))
    weighed = fit_law("power_floor", {"data_unique": X}, y, weights=w)
    repeated = fit_law("power_floor", {"data_unique": np.repeat(X, w)}, np.repeat(y, w))
    np.testing.assert_allclose(weighed.vector, repeated.vector, rtol=1e-7)
    assert weighed.objective.value == pytest.approx(repeated.objective.value, rel=1e-12)


def test_parameters_in_logarithms_are_found_over_decades():
    law = Law(
        name="bend", formula="", source="", variables=("x",), linear=("E", "A"),
        nonlinear={"place": Range(0.1, 10.0, log=True, of="x"), "c": (0.05, 2.0)},
        terms=lambda x, place, c: (1.0, (1 + x / place) ** -c),
    )  # fmt: skip
    truth = {"E": 0.2, "A": 0.8, "place": 3000.0, "c": 0.7}
    y = law.predict(truth, {"x": X})
    fit = fit_law(law, {"x": X}, y, objective="log_mse")
    np.testing.assert_allclose(fit.vector, list(truth.values()), rtol=1e-4)


LINKED = Law(
    name="linked", formula="y = (A/N + B/D^b)^g", source="", variables=("N", "D"), linear=("A", "B"),
    nonlinear={"b": (0.1, 2.0), "g": (0.05, 1.0)}, terms=lambda N, D, b, g: (1e6 / N, (D / 1e8) ** -b),
    link=lambda total, b, g: total**g, unlink=lambda y, b, g: y ** (1 / g),
)  # fmt: skip


def test_a_law_with_a_link_is_recovered():
    grid = np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e7, 1e10, 5))
    columns = {"N": grid[0].ravel(), "D": grid[1].ravel()}
    truth = np.array([2.0, 3.0, 1.2, 0.3])
    fit = fit_law(LINKED, columns, LINKED.predict_many(truth[None], columns)[0], objective="log_mse")
    np.testing.assert_allclose(fit.vector, truth, rtol=1e-4)


def test_curvatures_through_a_link_are_those_of_the_slopes():
    grid = np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e7, 1e10, 4))
    columns = [axis.ravel() for axis in grid]
    y = LINKED.evaluate(columns, [2.0, 3.0, 1.2, 0.3]) * np.exp(0.05 * np.random.default_rng(0).standard_normal(16))
    problem = Problem(LINKED, columns, y, make_objective("log_mse"))
    z, w, wide = np.array([[1.5, 2.5, 1.1, 0.35]]), np.ones((1, 16)), np.full((1, 1), np.inf)
    hessian = problem._derive(z, np.log(y)[None], w, wide)[2][0]
    for i in range(4):
        step = 1e-4 * np.eye(4)[i]
        ahead, behind = (problem._derive(z + sign * step, np.log(y)[None], w, wide) for sign in (1, -1))
        np.testing.assert_allclose(hessian[i], (ahead[1] - behind[1])[0] / 2e-4, rtol=1e-3, atol=1e-3)


def test_held_parameters_stay_and_the_rest_is_optimal():
    y = make_points(3)
    held = fit_law("power_floor", {"data_unique": X}, y, hold={"E": 0.25}, objective="log_mse")
    assert held.held == {"E": 0.25}

    def charge(params):
        return (np.log(0.25 + params[0] * X ** -params[1]) - np.log(y)) @ (
            np.log(0.25 + params[0] * X ** -params[1]) - np.log(y)
        )

    theirs = minimize(charge, [5.0, 0.4], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-16})
    assert held.objective.value <= theirs.fun * (1 + 1e-9)


def test_bounds_hold_where_the_optimum_lies_beyond_them():
    law = Law(
        name="steep", formula="", source="", variables=("x",), linear=("E", "A"), nonlinear={"alpha": (0.5, 3.0)},
        terms=lambda x, alpha: (1.0, x**-alpha),
    )  # fmt: skip
    fit = fit_law(law, {"x": X}, 0.3 + 5 * X**-0.2)
    assert fit.params["alpha"] == 0.5


def test_a_coefficient_without_use_ends_at_0():
    fit = fit_law("power_floor", {"data_unique": X}, 5 * X**-0.4)
    assert fit.params["E"] == 0
    assert fit.params["alpha"] == pytest.approx(0.4, rel=1e-6)


def test_a_signed_coefficient_may_be_negative():
    law = Law(
        name="climb", formula="", source="", variables=("x",), linear=("E", "A"), nonlinear={"alpha": (0.05, 2.0)},
        terms=lambda x, alpha: (1.0, x**-alpha), signed=("A",),
    )  # fmt: skip
    fit = fit_law(law, {"x": X}, 0.9 - 2 * X**-0.5, objective="mse")
    np.testing.assert_allclose(fit.vector, [0.9, -2.0, 0.5], rtol=1e-5)


def test_the_asymmetric_objective_finds_a_quantile():
    y = make_points(5, noise=0.2)
    law = Law(
        name="level", formula="", source="", variables=("x",), linear=("E",), nonlinear={"unused": (0.1, 1.0)},
        terms=lambda x, unused: (1.0,),
    )  # fmt: skip
    low = fit_law(law, {"x": X}, y, objective="asymmetric", tilt=0.9).params["E"]
    high = fit_law(law, {"x": X}, y, objective="asymmetric", tilt=0.1).params["E"]
    # A tenth of 12 points is 1.2, so that the optimum lies on the second point from either end.
    assert [low, high] == pytest.approx(np.sort(y)[[1, -2]], rel=1e-6)


def test_refits_of_chinchillas_points_lose_nothing_to_scipy(chinchilla):
    columns, loss = chinchilla
    fit = fit_law("chinchilla", columns, loss)
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), 60).astype(float)
    goal, form, scale = make_objective("huber"), fit.form, np.array([1, 1, 1, 0.1, 0.1])
    ours = refit("chinchilla", columns, loss, weights, start=fit.vector)
    middle = [np.log(columns[name]).mean() for name in columns]
    centre = np.r_[np.log(fit.vector[:3]) - [0, fit.vector[3] * middle[0], fit.vector[4] * middle[1]], fit.vector[3:]]
    for params, w in zip(ours, weights, strict=True):

        def charge(at, w=w):
            at = centre + at * scale
            coefs = np.exp(at[:3] + np.array([0, at[3] * middle[0], at[4] * middle[1]]))
            return 1e3 * goal.measure(form.evaluate(list(columns.values()), [*coefs, *at[3:]]), loss, w)

        mine = goal.measure(form.predict_many(params[None], columns)[0], loss, w)
        theirs = minimize(charge, np.zeros(5), method="BFGS", options={"gtol": 1e-6})
        assert mine <= theirs.fun / 1e3 + 1e-9


@pytest.mark.parametrize(
    ("seed", "points", "floor", "noise"), [(0, 5, 0.0, 0.05), (1, 8, 1e-4, 0.2), (2, 11, 1.0, 0.2), (3, 10, 1.0, 0.01)]
)
def test_refits_of_few_noisy_points_lose_nothing_to_scipy_from_the_same_start(seed, points, floor, noise):
    rng = np.random.default_rng(seed)
    x = np.geomspace(100, 1e5, points)
    y = (floor + 5 * x**-0.5) * np.exp(noise * rng.standard_normal(points))
    weights = rng.multinomial(points, np.full(points, 1 / points), 8).astype(float)
    fit, goal = fit_law("power_floor", {"data_unique": x}, y), make_objective("huber")
    ours = refit("power_floor", {"data_unique": x}, y, weights, start=fit.vector)
    middle = np.log(x).mean()
    start = [fit.params["E"], fit.params["A"] * np.exp(-fit.params["alpha"] * middle), fit.params["alpha"]]
    for params, w in zip(ours, weights, strict=True):

        def charge(at, w=w):
            return 1e3 * goal.measure(at[0] + at[1] * np.exp(-at[2] * (np.log(x) - middle)), y, w)

        mine = goal.measure(fit.form.predict_many(params[None], {"data_unique": x})[0], y, w)
        bounds = [(0, None), (0, None), (1e-3, 3)]
        with np.errstate(all="ignore"):  # SciPy tries values beyond the range of floats
            theirs = minimize(charge, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "maxfun": 600})
        assert mine <= theirs.fun / 1e3 + 1e-9
        # Between kinks of so few points a global fit of the resample may still find a little less.
        best = fit_law("power_floor", {"data_unique": x}, y, weights=w).objective.value
        assert mine <= best * (1 + 1e-3) + 1e-9
