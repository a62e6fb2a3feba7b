"""Claims about laws of the whole loss curve: published numbers, recovery, what compression costs, other schedules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_curves import SHAPE, fit_curves, predict_curve, score_curve
from analysis.fitting.fit_law import refit
from analysis.fitting.objective import make_objective
from analysis.laws import schedules
from analysis.laws.schedules import Curve, make_rates, summarise_schedules
from analysis.laws.whole_curves import multi_power, tissue
from tests.places import TABLES

FOLDER = TABLES / "multi_power"
WARMUP, PEAK, END = 2160, 3e-4, 3e-5
TRAIN = ("cosine_24000", "constant_24000", "wsdcon_9")
TEST = ("constant_72000", "cosine_72000", "wsdcon_3", "wsdcon_18", "wsd_20000_24000", "wsdld_20000_24000")
PUBLISHED = {  # Luo et al. 2025, by millions of parameters
    25: {"L0": 3.0405, "A": 0.5247, "B": 363.79, "alpha": 0.5079, "C": 2.0656, "beta": 0.5828, "gamma": 0.6414},
    100: {"L0": 2.6514, "A": 0.6012, "B": 437.95, "alpha": 0.4530, "C": 2.1325, "beta": 0.5979, "gamma": 0.6552},
}
TISSUE = {"L0": 2.9, "A": 0.6, "C": 0.5, "alpha": 0.5, "forget": 1e-3}


def read_rates(name):
    kind, *numbers = name.split("_")
    numbers = [int(item) for item in numbers]
    decay, steps, end, stable = {
        "constant": ("constant", numbers[-1], 0.0, None),
        "cosine": ("cosine", numbers[-1], END, None),
        "wsd": ("exponential", numbers[-1], END, numbers[0]),
        "wsdld": ("linear", numbers[-1], END, numbers[0]),
        "wsdcon": ("step", 16_000, numbers[0] * 1e-5, 8_000),
    }[kind]
    return make_rates(decay, steps, peak=PEAK, end=end, warmup_steps=WARMUP, stable_steps=stable)


def read_curve(size, name):
    path = FOLDER / str(size) / f"{name}.csv"
    if not path.exists():
        pytest.skip("the curves of Luo et al. are not here")
    table = pd.read_csv(path)
    return Curve(read_rates(name), table["step"].to_numpy(), table["loss"].to_numpy(), name), table["lr"].to_numpy()


def score_tests(fit_or_params, size):
    params = fit_or_params.params | fit_or_params.held if isinstance(fit_or_params, Fit) else fit_or_params
    law = tissue if "forget" in params else multi_power
    runs = [read_curve(size, name)[0] for name in TEST]
    return {run.name: score_curve(law.predict(params, {"schedule": run}), run.loss)["r2"] for run in runs}


@pytest.mark.parametrize("size", [25, 100])
@pytest.mark.parametrize("name", TRAIN + TEST)
def test_schedules_are_rebuilt_exactly_at_every_logged_step(size, name):
    run, logged = read_curve(size, name)
    np.testing.assert_allclose(run.rates[run.steps], logged, rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "name", "r2"),
    [
        (25, "constant_72000", 0.9998),
        (25, "cosine_72000", 0.9966),  # .996658 prints as .9967; the reference has .9966
        (25, "cosine_24000", 0.9985),
        (100, "constant_72000", 0.9980),
        (100, "cosine_72000", 0.9970),
        (100, "cosine_24000", 0.9993),
    ],
)
def test_published_parameters_give_the_published_r2(size, name, r2):
    run, _ = read_curve(size, name)
    fitted = multi_power.predict(PUBLISHED[size], {"schedule": run})
    assert score_curve(fitted, run.loss)["r2"] == pytest.approx(r2, abs=1e-4)


@pytest.mark.parametrize(("size", "r2"), [(25, 0.9988), (100, 0.9983)])
def test_published_parameters_give_the_published_mean_over_the_six_test_schedules(size, r2):
    assert np.mean(list(score_tests(PUBLISHED[size], size).values())) == pytest.approx(r2, abs=5e-5)


@pytest.mark.parametrize("size", [25, 100])
def test_leaving_out_the_warm_ups_rises_shifts_every_point(size):
    run, _ = read_curve(size, "constant_72000")
    late = np.r_[np.full(WARMUP, PEAK), run.rates[WARMUP:]]  # no rise anywhere; its area is put right below
    at, flat = summarise_schedules([run]), summarise_schedules([Curve(late, run.steps)])
    moved = schedules.Progress(at.area, flat.first, flat.drop, flat.log_rate, flat.log_area, flat.age)
    shift = multi_power.predict(PUBLISHED[size], {"schedule": at}) - multi_power.predict(
        PUBLISHED[size], {"schedule": moved}
    )
    assert shift.min() > 0.09
    assert shift.max() < 0.14
    assert np.ptp(shift[len(shift) // 2 :]) < 0.01  # hardly more than a constant late in the run


@pytest.mark.parametrize(("law", "params"), [(multi_power, PUBLISHED[25]), (tissue, TISSUE)])
@pytest.mark.parametrize("name", TRAIN + TEST)
def test_compression_moves_no_point_by_a_printed_digit(law, params, name):
    rates = read_rates(name)
    steps = np.r_[2160, 2176, 2304, 2500, np.arange(3000, min(len(rates), 24_000), 1111), len(rates) - 1]
    exact = law.predict(params, {"schedule": summarise_schedules([Curve(rates, steps)], fineness=0)})
    brief = law.predict(params, {"schedule": Curve(rates, steps)})
    assert np.abs(brief - exact).max() < 1e-4


def test_nodes_are_few_and_keep_the_sum_of_drops():
    rates = read_rates("cosine_72000")
    at = summarise_schedules([Curve(rates, np.array([30_000, 71_999]))])
    assert len(at.drop) < 160  # of 72,000 and 30,000 steps
    drops = np.add.reduceat(at.drop, at.first)
    np.testing.assert_allclose(drops, rates[0] - rates[[30_000, 71_999]], rtol=1e-9)


def test_the_sums_are_those_of_the_papers_written_out():
    rates = make_rates("linear", 40, peak=1e-2, end=1e-3, warmup_steps=8, stable_steps=20)
    params, t = PUBLISHED[25], 33
    drop = rates[:-1] - rates[1:]  # of step k + 1
    ahead = np.array([rates[k : t + 1].sum() for k in range(1, t + 1)])
    grown = 1 - (params["C"] * rates[1 : t + 1] ** -params["gamma"] * ahead + 1) ** -params["beta"]
    area = rates[: t + 1].sum()
    loss = params["L0"] + params["A"] * area ** -params["alpha"] - params["B"] * (drop[:t] * grown).sum()
    at = summarise_schedules([Curve(rates, np.array([t]))], fineness=0)
    assert multi_power.predict(params, {"schedule": at})[0] == pytest.approx(loss, rel=1e-12)
    lam = 1 - TISSUE["forget"]
    memory = sum(drop[k - 1] * lam ** (i - k) for i in range(1, t + 1) for k in range(1, i + 1))
    loss = TISSUE["L0"] + TISSUE["A"] * area ** -TISSUE["alpha"] - TISSUE["C"] * memory
    assert tissue.predict(TISSUE, {"schedule": at})[0] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize(
    ("law", "params", "hold"), [("tissue", TISSUE, {}), ("multi_power", PUBLISHED[25], {"beta": 0.5828})]
)
def test_a_curve_law_is_recovered_from_its_own_curves(law, params, hold):
    form = {"tissue": tissue, "multi_power": multi_power}[law]
    blank = [Curve(read_rates(name), np.arange(2200, 14_000, 400), None, name) for name in TRAIN]
    runs = [Curve(run.rates, run.steps, form.predict(params, {"schedule": run}), run.name) for run in blank]
    fit = fit_curves(runs, law, hold=hold)
    assert fit.params == pytest.approx({k: v for k, v in params.items() if k not in hold}, rel=1e-4)
    other = read_rates("wsd_20000_24000")
    want = form.predict(params, {"schedule": Curve(other, np.array([23_999]))})
    assert predict_curve(fit, other) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(("size", "objective"), [(25, 1.5354348e-4), (100, 5.8432353e-5)])
def test_three_schedules_predict_six_others_with_the_shape_held(size, objective):
    fit = fit_curves([read_curve(size, name)[0] for name in TRAIN], hold=SHAPE)
    scores = score_tests(fit, size)
    assert fit.objective.value <= objective * (1 + 1e-7)
    assert np.mean(list(scores.values())) > 0.9982  # published .9988 and .9983
    assert min(scores.values()) > 0.992
    again = Fit.model_validate_json(fit.model_dump_json())
    run, _ = read_curve(size, TEST[0])
    assert again.predict({"schedule": run}).tobytes() == fit.predict({"schedule": run}).tobytes()


@pytest.mark.parametrize(("size", "r2"), [(25, 0.9980), (100, 0.9986)])
def test_tissues_law_predicts_the_six_others_too(size, r2):
    fit = fit_curves([read_curve(size, name)[0] for name in TRAIN], "tissue")
    assert np.mean(list(score_tests(fit, size).values())) > r2
    assert fit.status == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(("size", "ours", "share"), [(25, 1.3834452e-4, 0.48), (100, 2.2743198e-5, 0.09)])
def test_the_free_optimum_fits_better_than_the_published_parameters_and_predicts_worse(size, ours, share):
    runs = [read_curve(size, name)[0] for name in TRAIN]
    fit = fit_curves(runs)
    y = np.concatenate([run.loss for run in runs])
    published = make_objective("huber", 1e-3).measure(multi_power.predict(PUBLISHED[size], {"schedule": runs}), y)
    assert fit.objective.value <= ours * (1 + 1e-7)
    assert fit.objective.value < share * published
    assert fit.status == "weak"  # and says so: an interval reaches 0, or a parameter is at its bound
    mean = np.mean(list(score_tests(fit, size).values()))
    assert 0.997 < mean < np.mean(list(score_tests(PUBLISHED[size], size).values()))


def test_resamples_of_curves_are_refitted_in_a_batch():
    runs = [read_curve(25, name)[0] for name in TRAIN]
    few = [Curve(run.rates, run.steps[::10], run.loss[::10]) for run in runs]
    y = np.concatenate([run.loss for run in few])
    fit = fit_curves(few, hold=SHAPE)
    at = {"schedule": summarise_schedules(few)}
    weights = np.ones((3, len(y)))
    weights[1:, :5] = 0
    batch = refit(multi_power.hold(SHAPE), at, y, weights, start=fit.vector)
    assert batch[0] == pytest.approx(fit.vector, rel=1e-4)
    assert batch[1] == pytest.approx(batch[2], rel=1e-9)
    assert not np.allclose(batch[0], batch[1], rtol=1e-4)


def test_bad_curves_are_refused_with_a_remedy():
    rates = make_rates("cosine", 100, peak=1e-3, warmup_steps=10)
    with pytest.raises(AnalysisError, match=r"steps must lie in \[0, 100\)"):
        Curve(rates, np.array([100]))
    with pytest.raises(AnalysisError, match="the rate is 0 up to step 0"):
        Curve(rates, np.array([0, 50]))
    with pytest.raises(AnalysisError, match="one finite rate, 0 or more"):
        Curve(np.r_[rates, np.nan], np.array([50]))
    with pytest.raises(AnalysisError, match="give one loss a step"):
        Curve(rates, np.array([50, 60]), np.array([3.0]))
    with pytest.raises(AnalysisError, match="run: loss is missing"):
        fit_curves([Curve(rates, np.array([50]), name="run")])
    with pytest.raises(AnalysisError, match="choose multi_power or tissue"):
        fit_curves([Curve(rates, np.array([50]), np.array([3.0]))], "chinchilla")
    with pytest.raises(AnalysisError, match="needs whole schedules"):
        multi_power.predict(PUBLISHED[25], {"schedule": rates})
    with pytest.raises(AnalysisError, match=r"schedule is missing: .* use analysis\.fit_curves"):
        multi_power.predict(PUBLISHED[25], {"step": rates})
    with pytest.raises(AnalysisError, match="did you mean 'cosine'"):
        make_rates("cosin", 10, peak=1.0)
    with pytest.raises(AnalysisError, match="must be in that order"):
        make_rates("linear", 10, peak=1.0, warmup_steps=5, stable_steps=3)
