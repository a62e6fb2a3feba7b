"""Optima of any law of N and D: published ones to their digits, and others as an independent minimiser finds them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from analysis.decisions.allocation import allocate
from analysis.decisions.optimum import Optimum, estimate, find_optimum, iso_loss, trace_frontier
from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from tests.analysis.decisions.surfaces import BESIROGLU, HOFFMANN, LAW, REFIT, REPEATED, ROUNDED


@pytest.fixture(scope="module")
def fit():
    table = LAW.sample(levels=6, noise=0.003)
    made = fit_law(LAW, table, table["loss"])
    draws = made.vector * np.exp(0.01 * np.random.default_rng(0).standard_normal((200, 5)))
    return made.model_copy(update={"draws": tuple(map(tuple, draws.tolist())), "warnings": (), "status": "ok"})


def publish(fit, params):
    return fit.model_copy(update={"params": dict(zip(LAW.params, params, strict=True)), "draws": ()})


# Recomputed from Besiroglu et al. 2024's reconstruction of the runs, and from Hoffmann et al. 2022's parameters
@pytest.mark.parametrize(
    ("params", "size", "data", "ratio"),
    [
        (REFIT, 7.32e10, 1.312e12, 17.9),
        (BESIROGLU, 7.236e10, 1.327e12, 18.34),
        (HOFFMANN, 4.036e10, 2.379e12, 58.9),
        (ROUNDED, 3.219e10, 2.982e12, 92.6),
    ],
)
def test_the_budget_of_gopher_is_split_as_published(fit, params, size, data, ratio):
    best = find_optimum(publish(fit, params), flops=5.76e23)
    # within the last digit: Besiroglu et al.'s parameters are printed to fewer digits than they used
    assert best["num_params"].value == pytest.approx(size, rel=2e-4)
    assert best["data_seen"].value == pytest.approx(data, rel=4e-4)
    assert best["data_per_param"].value == pytest.approx(ratio, abs=0.06)
    assert best["train_flops"].value == pytest.approx(5.76e23)


def test_inference_shifts_to_smaller_models_as_an_independent_minimiser_says(fit):
    E, A, B, alpha, beta = REFIT
    tokens, goal = 2e12, 2.1

    def total(x):
        N = np.exp(x)
        left = goal - E - A * N**-alpha
        return np.log(6 * N * (B / left) ** (1 / beta) + 2 * N * tokens) if left > 0 else 1e3

    least = minimize_scalar(total, bounds=(np.log(1e9), np.log(1e12)), method="bounded", options={"xatol": 1e-10})
    best = find_optimum(publish(fit, REFIT), loss=goal, inference_tokens=tokens)
    assert best["num_params"].value == pytest.approx(np.exp(least.x), rel=1e-5)
    assert best["total_flops"].value == pytest.approx(np.exp(least.fun), rel=1e-9)
    parts = best["train_flops"].value + best["inference_flops"].value
    assert parts == pytest.approx(best["total_flops"].value, rel=1e-9)
    alone = find_optimum(publish(fit, REFIT), loss=goal)
    assert best["num_params"].value < alone["num_params"].value
    assert best["data_seen"].value > alone["data_seen"].value
    # the same line from its other end: with that budget in all, that loss is the lowest
    dual = find_optimum(publish(fit, REFIT), flops=best["total_flops"].value, inference_tokens=tokens)
    assert dual["loss"].value == pytest.approx(goal, abs=1e-9)


def test_repeated_data_are_allocated_as_muennighoff_et_al_do(fit):
    best = find_optimum(publish(fit, REPEATED), flops=1e22, unique_data=25e9)
    # theirs is the end of a numerical search; ours is at most as high and 0.06 % away
    assert best["data_seen"].value == pytest.approx(237_336_955_477.55, rel=1e-3)
    assert best["num_params"].value == pytest.approx(7_022_364_735.88, rel=1e-3)
    assert best["epochs"].value == pytest.approx(9.4935, rel=1e-3)
    native = get_law("data_constrained")
    published = dict(zip(LAW.params, REPEATED, strict=True)) | {"R_D": 15.387756, "R_N": 5.309743}
    theirs = {"num_params": [7_022_364_735.88], "data_seen": [237_336_955_477.55], "data_unique": [25e9]}
    assert best["loss"].value <= native.predict(published, theirs)[0]
    assert best["loss"].value == pytest.approx(native.predict(published, theirs)[0], abs=1e-8)
    assert "borrowed_repetition" in {notice.code for notice in best.warnings}
    # a law that knows of repeats needs no discount, and gives the same
    vector = np.array([[published[name] for name in native.params]])
    found = allocate(native, vector, flops=1e22, unique_data=25e9)
    assert found.num_params[0] == pytest.approx(best["num_params"].value, rel=1e-6)
    free = allocate(LAW, np.array([REPEATED]), flops=5.76e23)
    assert free.num_params[0] == pytest.approx(69_962_173_313.5, abs=0.1)
    assert free.data_seen[0] == pytest.approx(1_372_170_066_384.2, abs=0.1)


def test_enough_unique_data_change_nothing_and_scarce_ones_raise_the_loss(fit):
    losses = [find_optimum(publish(fit, REFIT), flops=1e22, unique_data=m)["loss"].value for m in (1e13, 2e10, 2e9)]
    assert losses == sorted(losses)
    assert losses[0] == find_optimum(publish(fit, REFIT), flops=1e22)["loss"].value
    assert find_optimum(publish(fit, REFIT), flops=1e22, unique_data=1e13)["epochs"].value == 1.0
    reached = find_optimum(publish(fit, REFIT), loss=losses[1], unique_data=2e10)
    assert reached["train_flops"].value == pytest.approx(1e22, rel=1e-6)


def test_intervals_are_those_of_each_draws_own_optimum(fit):
    best = find_optimum(fit, flops=1e21)
    _, A, B, alpha, beta = fit.replicates.T
    sizes = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (1e21 / 6) ** (beta / (alpha + beta))
    assert (best["num_params"].low, best["num_params"].high) == pytest.approx(
        np.percentile(sizes, [2.5, 97.5], method="weibull")
    )
    assert best["num_params"].low < best["num_params"].value < best["num_params"].high
    assert best.warnings == ()
    bare = find_optimum(fit.model_copy(update={"draws": ()}), flops=1e21)
    assert bare["num_params"].low is None
    assert {notice.code for notice in bare.warnings} == {"no_intervals"}


def test_a_loss_that_some_draws_never_reach_has_an_open_end(fit):
    floor = np.percentile(fit.replicates[:, 0], 80)
    best = find_optimum(fit, loss=float(floor))
    assert best["train_flops"].high == np.inf
    assert np.isfinite(best["train_flops"].value)
    (notice,) = [item for item in best.warnings if item.code == "unreachable"]
    assert "20.0%" in notice.text
    with pytest.raises(AnalysisError, match=r"loss=0\.5 is reached at no budget"):
        find_optimum(fit, loss=0.5)
    assert estimate(1.0, np.array([1.0, np.inf, np.inf])).high == np.inf


def test_dollars_are_flops_over_speed_times_price(fit):
    best = find_optimum(fit, flops=5.76e23, price_per_chip_hour=4.2, peak_flops=459e12, mfu=0.4)
    hours = 5.76e23 / (459e12 * 0.4) / 3600
    assert best["chip_hours"].value == pytest.approx(hours)
    assert best["dollars"].value == pytest.approx(4.2 * hours)
    hours_only = find_optimum(fit, flops=5.76e23, peak_flops=459e12, mfu=0.4)
    with pytest.raises(AnalysisError, match="quantity='dollars' is unknown"):
        hours_only["dollars"]


def test_what_is_far_beyond_the_points_or_has_no_optimum_is_said(fit):
    far = {notice.code for notice in find_optimum(fit, flops=1e28).warnings}
    assert {"extrapolation", "extrapolation_flops"} <= far
    flat = publish(fit, [1.8, 400.0, 0.0, 0.35, 0.35])
    (notice,) = [item for item in find_optimum(flat, flops=1e21).warnings if item.code == "no_interior_optimum"]
    assert notice.is_weak
    weak = find_optimum(fit.model_copy(update={"status": "weak"}), flops=1e21)
    assert "weak_fit" in {item.code for item in weak.warnings}


def test_it_prints_as_a_table_and_goes_through_json(fit):
    best = find_optimum(fit, flops=1e21, inference_tokens=1e12)
    assert str(best).startswith("optimum of chinchilla at flops=1e+21, inference_tokens=1e+12\n")
    assert list(best.to_frame().columns) == ["estimate", "low", "high"]
    assert best.to_frame().loc["total_flops", "estimate"] == pytest.approx(1e21)
    assert Optimum.model_validate_json(best.model_dump_json()) == best
    assert json.loads(best.model_dump_json())["quantities"]["num_params"]["value"] == best["num_params"].value


def test_contours_lie_at_their_loss_and_turn_at_the_optimum(fit):
    sizes = np.geomspace(1e8, 1e12, 400)
    contour = iso_loss(fit, [2.1, 2.4], sizes)
    assert set(contour.loss) == {2.1, 2.4}
    np.testing.assert_allclose(fit.predict(contour), contour.loss, rtol=1e-10)
    least = contour[contour.loss == 2.1].train_flops.min()
    assert least == pytest.approx(find_optimum(fit, loss=2.1)["train_flops"].value, rel=1e-3)
    tiny = iso_loss(fit, [2.1], [1e4, 1e10])
    assert tiny.num_params.tolist() == [1e10]
    frontier = trace_frontier(fit, [1e20, 1e21])
    assert frontier.num_params[1] == find_optimum(fit, flops=1e21)["num_params"].value


def test_other_variables_need_a_value(fit):
    law = get_law("data_constrained").bind(("num_params", "data_seen", "vocabulary"))
    vector = np.array([[law.example[name] for name in law.params]])
    with pytest.raises(AnalysisError, match=r"also depends on vocabulary; give its value with at="):
        allocate(law, vector, flops=1e21)
    found = allocate(law, vector, flops=1e21, at={"vocabulary": 1e9})

    def gap(x):
        N, step = np.exp(x), 1e-4
        ends = [
            {"num_params": [N * f], "data_seen": [1e21 / 6 / N / f], "vocabulary": [1e9]} for f in (1 + step, 1 - step)
        ]
        return float(law.predict(law.example, ends[0])[0] - law.predict(law.example, ends[1])[0])

    assert found.num_params[0] == pytest.approx(np.exp(brentq(gap, np.log(1e8), np.log(1e12))), rel=1e-3)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({}, "give exactly one"),
        ({"flops": 1e21, "loss": 2.0}, "give exactly one"),
        ({"flops": -1.0}, "flops=-1 must be finite and positive"),
        ({"flops": 1e21, "inference_tokens": -5.0}, "inference_tokens=-5"),
        ({"flops": 1e21, "unique_data": 0.0}, "unique_data=0"),
        ({"flops": 1e21, "peak_flops": 1e15, "mfu": 40.0}, "mfu=40 must be at most 1"),
        ({"flops": 1e21, "price_per_chip_hour": 2.0}, "chip-hours need peak_flops and mfu"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(fit, question, words):
    with pytest.raises(AnalysisError, match=words):
        find_optimum(fit, **question)
