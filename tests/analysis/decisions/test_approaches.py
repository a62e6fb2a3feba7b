"""The three approaches stand beside each other with their disagreement; one that a table does not allow says why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.allocation import allocate
from analysis.decisions.approaches import NAMES, compare_approaches
from analysis.errors import AnalysisError
from analysis.fit_table import fit as fit_table
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from tests.places import TABLES

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
VECTOR = np.array([list(TRUTH.values())])


def make_runs(noise=0.002, seed=0, spread=8.0, truth=TRUTH):
    """Six budgets of nine sizes around the optimum, with ten evaluations of each run."""
    rng, parts = np.random.default_rng(seed), []
    for flops in np.geomspace(1e18, 1e21, 6):
        middle = allocate("chinchilla", np.array([list(truth.values())]), flops=flops).num_params[0]
        for N in middle * np.geomspace(1 / spread, spread, 9):
            D = flops / 6 / N * np.geomspace(0.02, 1, 10)
            run = {"cell": f"c{len(parts)}", "num_params": N, "data_seen": D, "train_flops": 6 * N * D}
            part = pd.DataFrame(run).assign(step=range(10), is_final=[False] * 9 + [True], status="ok")
            clean = get_law("chinchilla").predict(truth, part)
            parts.append(part.assign(loss=clean * np.exp(noise * rng.standard_normal())))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def runs():
    return make_runs()


@pytest.fixture(scope="module")
def found(runs):
    return compare_approaches(runs, flops=1e22, resamples=400)


def test_all_approaches_recover_the_surface_that_made_the_runs(found):
    assert tuple(item.name for item in found.found) == NAMES
    assert not found.missing
    for item in found.found:
        assert item.size_exponent.value == pytest.approx(0.28 / 0.62, abs=0.025)
        assert item.size_exponent.value + item.data_exponent.value == pytest.approx(1, abs=0.01)
        assert item.size_exponent.low < item.size_exponent.value < item.size_exponent.high
    best = allocate("chinchilla", VECTOR, flops=1e22).num_params[0]
    assert found["parametric"].num_params.value == pytest.approx(best, rel=0.05)
    assert found["envelope"].num_params.value == pytest.approx(best, rel=0.25)


def test_their_disagreement_is_shown(found):
    frame = found.to_frame()
    assert found.exponent_gap == pytest.approx(frame.a.max() - frame.a.min())
    assert found.size_ratio == pytest.approx(frame.num_params.max() / frame.num_params.min())
    assert f"disagreement: {found.exponent_gap:.3g} in a, {found.size_ratio:.4g} times in N*" in str(found)


def test_a_parabola_on_wide_grids_disagrees_with_the_fitted_law_and_a_notice_says_so():
    truth = TRUTH | {"alpha": 0.465, "beta": 0.155}
    wide = make_runs(noise=2e-4, spread=16.0, truth=truth)
    found = compare_approaches(wide[wide.is_final], flops=1e20, resamples=200)
    notices = [item for item in found.warnings if item.code == "approaches_disagree"]
    assert any("isoflop_parabola" in item.text and "parametric" in item.text for item in notices)


def test_an_approach_that_the_table_does_not_allow_says_why(runs):
    found = compare_approaches(runs[runs.is_final], resamples=0)
    assert set(found.missing) == {"envelope"}
    assert "needs evaluations during training" in found.missing["envelope"]
    with pytest.raises(AnalysisError, match="approach='envelope' is not possible on this table"):
        found["envelope"]
    assert found.flops == pytest.approx(1e21)
    scattered = runs[runs.is_final].copy()
    scattered["train_flops"] = np.random.default_rng(0).permutation(np.geomspace(1e18, 1e22, len(scattered)))
    scattered["data_seen"] = scattered.train_flops / 6 / scattered.num_params
    scattered["loss"] = get_law("chinchilla").predict(TRUTH, scattered)
    found = compare_approaches(scattered, resamples=0)
    assert found["parametric"].size_exponent.value == pytest.approx(0.28 / 0.62, abs=1e-4)
    assert set(found.missing) == {"envelope", "isoflop_cubic", "isoflop_parabola"}


def test_a_far_budget_is_called_an_extrapolation(runs):
    found = compare_approaches(runs[runs.is_final], flops=1e24, resamples=0)
    assert {"isoflop_cubic", "isoflop_parabola", "parametric"} == set(
        next(names for names, notice in found.told if notice.code == "extrapolation")
    )
    near = compare_approaches(runs[runs.is_final], flops=2e21, resamples=0)
    assert "extrapolation" not in {item.code for item in near.warnings}


def test_a_fit_that_is_given_is_used_with_its_own_draws(runs):
    final = runs[runs.is_final]
    fit = fit_law("chinchilla", final, final["loss"].to_numpy())
    draws = fit.vector * np.exp(0.01 * np.random.default_rng(0).standard_normal((50, 5)))
    fit = fit.model_copy(update={"draws": tuple(map(tuple, draws.tolist()))})
    item = compare_approaches(final, fit=fit, resamples=0)["parametric"]
    exponents = draws[:, 4] / (draws[:, 3] + draws[:, 4])
    assert item.size_exponent.value == pytest.approx(fit.derived["a"], abs=1e-9)
    assert item.size_exponent.low == pytest.approx(np.percentile(exponents, 2.5, method="weibull"), abs=1e-6)


def test_chinchillas_own_runs_give_the_published_refit_and_profiles_near_it():
    if not TABLES.is_dir():
        pytest.skip("needs the real data beside the project")
    names = {"Model Size": "num_params", "Training FLOP": "train_flops"}
    table = pd.read_csv(TABLES / "chinchilla_epoch.csv").rename(columns=names)
    table = table.assign(data_seen=table.train_flops / 6 / table.num_params, cell=range(len(table)))
    found = compare_approaches(table[table.loss < 3.44], flops=5.76e23, resamples=0)
    assert found["parametric"].size_exponent.value == pytest.approx(0.5139, abs=1e-4)
    assert found["parametric"].num_params.value == pytest.approx(7.32e10, rel=1e-3)
    assert found["isoflop_parabola"].size_exponent.value == pytest.approx(0.5, abs=0.04)


def test_wrong_tables_and_budgets_are_errors(runs):
    with pytest.raises(AnalysisError, match="flops=-1 must be finite and positive"):
        compare_approaches(runs, flops=-1.0)
    with pytest.raises(AnalysisError, match="no usable rows"):
        compare_approaches(runs.assign(status="failed"))
    with pytest.raises(AnalysisError, match="loss"):
        compare_approaches(runs.drop(columns="loss"))
    one = runs[runs.is_final].head(1)
    found = compare_approaches(one, resamples=0)
    assert set(found.missing) == {"envelope", "isoflop_cubic", "isoflop_parabola"}
    with pytest.raises(AnalysisError, match="law='power_flor' is unknown"):
        compare_approaches(runs, law="power_flor")
    with pytest.raises(AnalysisError, match="an optimum needs a law of num_params and data_seen"):
        compare_approaches(runs, law="power_floor")
    with pytest.raises(AnalysisError, match="target='accuracy' is better when higher"):
        compare_approaches(runs.assign(accuracy=0.5), target="accuracy")
    with pytest.raises(AnalysisError, match="chip-hours need peak_flops and mfu"):
        compare_approaches(runs, price_per_chip_hour=2.0)
    nameless = compare_approaches(runs[runs.is_final].drop(columns="cell"), resamples=0)
    assert "no column names each row's run" in nameless.missing["envelope"]


@pytest.fixture(scope="module")
def weak():
    """Two near budgets of five sizes, much noise, one of them with uneven FLOPs, and the notices of every step."""
    table = make_runs(noise=0.0, spread=6.0)
    table = table[table.train_flops <= 1.01 * table.train_flops.min() * 50 * 4]
    final = table[table.is_final].sort_values("train_flops").head(18)
    rng = np.random.default_rng(5)
    final = final.assign(loss=final.loss * np.exp(0.02 * rng.standard_normal(len(final))))
    uneven = np.where(np.arange(len(final)) % 2, 1.0, 1.06)
    return final.assign(train_flops=final.train_flops * uneven)


def test_every_notice_of_every_step_is_told_with_its_approach(weak):
    found = compare_approaches(weak, flops=1e28, resamples=200)
    told = [(set(names), notice) for names, notice in found.told]
    assert len({(notice.code, notice.text) for _, notice in told}) == len(told)  # once
    for name, profiles in found.isoflops.items():
        assert profiles.warnings
        for notice in profiles.warnings:
            assert any(name in names and other == notice for names, other in told)
    fit = fit_table(weak, "chinchilla", "loss", bootstrap=200)
    assert fit.warnings
    for notice in fit.warnings:
        assert any("parametric" in names and other.code == notice.code for names, other in told)
    codes = {notice.code for _, notice in told}
    assert {"uneven_budget", "few_budgets", "extrapolation"} <= codes
    for names, notice in found.told:
        line = f"{', '.join(names)}: {notice}" if names else str(notice)
        assert line in str(found).splitlines()
    assert str(found).splitlines()[: len(found.summarise().splitlines())] == found.summarise().splitlines()


def test_two_budgets_are_weak_and_what_means_nothing_is_said_in_words(weak):
    found = compare_approaches(weak, flops=1e28, resamples=200)
    for item in found.found:
        assert item.status == found.to_frame().loc[item.name, "status"]
    profile = found["isoflop_parabola"]
    assert profile.status == "weak"
    assert "unidentified" in {notice.code for notice in profile.notices}
    assert "not identified" in profile.show()
    assert profile.size_exponent.low < profile.size_exponent.high  # programs keep the interval
    (line,) = [line for line in found.summarise().splitlines() if line.lstrip().startswith("isoflop_parabola")]
    assert line.endswith("weak")
    assert "not identified" in line


def test_points_that_cannot_tell_exponents_show_none_however_narrow_the_interval():
    one = make_runs(noise=0.0)
    four = one[one.is_final].head(9).iloc[::2].head(4)
    found = compare_approaches(four, resamples=20)
    item = found["parametric"]
    assert item.show() == ("not identified",) * 4
    assert item.status == "weak"
    (notice,) = [notice for notice in item.notices if notice.code == "unidentified"]
    assert "few_points" in notice.text
    assert found.exponent_gap is None
    assert "disagreement" not in str(found)


def test_a_weak_fit_far_away_gives_no_raw_warning():
    # numpy's warnings are errors here: this table's resamples have optima that leave all numbers
    rng, rows = np.random.default_rng(2), []
    for flops in (1e11, 3e11, 1e12):
        for N in (8_000.0, 12_000.0):
            D = flops / 6 / N
            loss = (1.2 + 30 * N**-0.4 + 20 * D**-0.25) * np.exp(0.02 * rng.standard_normal())
            rows.append({"num_params": N, "data_seen": D, "train_flops": flops, "loss": loss})
    found = compare_approaches(pd.DataFrame(rows), flops=1e28, resamples=100)
    assert found["parametric"].status == "weak"


def test_a_budget_has_chip_hours_and_dollars_without_a_fit(runs):
    final = runs[runs.is_final]
    found = compare_approaches(final, flops=1e22, price_per_chip_hour=2.0, peak_flops=989e12, mfu=0.4, resamples=0)
    hours = 1e22 / (989e12 * 0.4 * 3600)
    assert found.cost == {"chip_hours": pytest.approx(hours), "dollars": pytest.approx(2 * hours)}
    assert f"{2 * hours:,.4g} dollars" in str(found).splitlines()[0]


def test_what_it_rests_on_is_counted_and_what_it_was_read_from_is_kept(runs, found):
    assert found.n == 54
    assert found.left_out == {"not the final row": 486}
    assert "from 54 runs; left out: 486 not the final row" in str(found)
    assert found["envelope"].size_exponent == found.envelope.size.exponent
    assert found["isoflop_cubic"].size_exponent == found.isoflops["isoflop_cubic"].size.exponent
    assert found.fit.n == 54


@pytest.mark.parametrize(
    ("columns", "is_told"),
    [
        ({"family": ["mlp", "cnn"]}, True),
        ({"family": ["mlp"]}, False),
        ({"label": ["c4", "web"]}, True),
        ({"label": None}, False),  # one for each budget: a part of the design
    ],
)
def test_rows_of_several_series_are_not_pooled_in_silence(runs, columns, is_told):
    final = runs[runs.is_final].drop(columns="cell")
    for name, values in columns.items():
        named = (
            [values[i % len(values)] for i in range(len(final))]
            if values
            else final["train_flops"].map("{:.2g}".format)
        )
        final = final.assign(**{name: named})
    notices = [item for item in compare_approaches(final, resamples=0).warnings if item.code == "pooled_series"]
    assert bool(notices) == is_told
    for notice in notices:
        assert "27" in notice.text
        assert "--label" in notice.text


def test_a_cell_under_two_labels_counts_once(runs):
    final = runs[runs.is_final]
    both = pd.concat([final.assign(label="a"), final.assign(label="b")])
    found = compare_approaches(both, resamples=0)
    assert found.n == 54
    assert found.left_out == {"the same cell under another label": 54}
    assert "pooled_series" not in {item.code for item in found.warnings}


def test_profiles_without_a_line_are_kept_and_told_once(runs):
    final = runs[runs.is_final]
    edges = final[final.num_params > 1.3 * final.groupby(final.train_flops.round(-12)).num_params.transform("median")]
    found = compare_approaches(edges, resamples=20)
    assert {"isoflop_cubic", "isoflop_parabola"} <= set(found.missing)
    assert not found.isoflops
    for name in ("isoflop_cubic", "isoflop_parabola"):
        assert [item.skip.code for item in found.valleys[name]] == ["isoflop_edge"] * 6
        assert "on the edge" in found.missing[name]
    assert "isoflop_edge" not in {notice.code for notice in found.warnings}


def test_a_column_may_name_the_budgets(runs):
    final = runs[runs.is_final]
    named = final.assign(rung=final.train_flops.map("{:.2g}".format))
    spread = np.where(np.arange(len(final)) % 2, 1.0, 3.0)  # no tolerance joins these
    wide = named.assign(train_flops=named.train_flops * spread, data_seen=named.data_seen * spread)
    wide = wide.assign(loss=get_law("chinchilla").predict(TRUTH, wide))
    assert len(compare_approaches(wide, resamples=0).valleys["isoflop_cubic"]) > 6
    found = compare_approaches(wide, budget="rung", resamples=0)
    assert [len(item.sizes) for item in found.valleys["isoflop_cubic"]] == [9] * 6
    assert found["isoflop_cubic"].size_exponent.value == pytest.approx(0.28 / 0.62, abs=0.02)
    with pytest.raises(AnalysisError, match="budget='rang' is unknown; did you mean 'rung'"):
        compare_approaches(wide, budget="rang")
