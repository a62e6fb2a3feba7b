"""Claims about intervals that cannot be: of one cluster, of as few as parameters, of draws that are all the same."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.compare import find_crossings
from analysis.decisions.gain import compare_series
from analysis.decisions.optimum import find_optimum
from analysis.figures.fits import plot_fit
from analysis.fit_table import fit
from analysis.fitting.fit import Fit
from analysis.laws.registry import get_law
from analysis.uncertainty.bootstrap import attach_intervals, bootstrap_series
from analysis.uncertainty.predictions import predict_interval
from analysis.uncertainty.refusals import find_refusal, withhold_intervals
from analysis.validation.frozen import freeze, score

AT = {"num_params": [1e9], "data_seen": [2e10]}


def make(groups=1):
    table = get_law("chinchilla").sample(levels=5, noise=0.003).drop(columns="seed")
    return table.assign(project=[f"p{place % groups}" for place in range(len(table))])


def has_no_interval(found: Fit) -> bool:
    ends = set(found.ci95.values()) == {(None, None)} and set(found.stderr.values()) == {None}
    return ends and not found.draws and found.status == "weak" and {*found.ci95} == {*found.params, *found.derived}


def codes(found: Fit) -> set[str]:
    return {notice.code for notice in found.warnings}


@pytest.mark.parametrize("scheme", ["pairs", "wild", "residual", "auto", "seed"])
@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_one_cluster_gives_the_estimate_alone_by_every_scheme(scheme, interval):
    table = make()
    found = fit(table, "chinchilla", bootstrap=20, scheme=scheme, clusters=["project"], interval=interval)
    assert has_no_interval(found)
    assert "one_cluster" in codes(found)
    assert "by project" in found.warnings[-1].text
    assert found.params == fit(table, "chinchilla").params
    assert Fit.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("scheme", ["pairs", "wild", "residual"])
def test_clusters_must_be_more_than_parameters(scheme):
    for groups, refused in ((2, True), (5, True), (6, False)):
        found = fit(make(groups), "chinchilla", bootstrap=20, scheme=scheme, clusters=["project"])
        assert has_no_interval(found) == refused
        assert ("too_few_clusters" in codes(found)) == refused


def test_one_of_several_clusterings_that_is_constant_joins_all():
    table = make(8).assign(same=1)
    assert has_no_interval(fit(table, "chinchilla", bootstrap=20, scheme="wild", clusters=["project", "same"]))
    both = fit(table, "chinchilla", bootstrap=20, scheme="wild", clusters=["project+same"])
    assert "8 clusters" in both.conventions["uncertainty"]


def test_as_many_points_as_parameters_give_no_interval_with_or_without_a_bootstrap():
    table = make().iloc[[0, 6, 12, 18, 24]]
    for resamples in (0, 20):
        found = fit(table, "chinchilla", bootstrap=resamples)
        assert has_no_interval(found)
        assert "too_few_points" in codes(found)
    assert fit(make(), "chinchilla").ci95["alpha"][0] is not None


def test_seeds_that_cross_sizes_need_no_other_clusters():
    table = get_law("power_floor").sample(levels=6, seeds=3, noise=0.01)
    assert fit(table, "power_floor", bootstrap=20, clusters=["seed"]).ci95["alpha"][0] is not None
    assert has_no_interval(fit(table, "power_floor", bootstrap=20, scheme="residual", clusters=["seed"]))
    assert has_no_interval(fit(table.assign(run=0), "power_floor", bootstrap=20, scheme="seed", clusters=["run"]))


def test_a_fit_without_a_bootstrap_can_be_refused_its_intervals():
    table = make()
    plain = fit(table, "chinchilla")
    assert not find_refusal(plain, table)
    assert withhold_intervals(plain, []) is plain
    assert has_no_interval(withhold_intervals(plain, find_refusal(plain, table, ["project"])))
    none = np.arange(len(table)) < 5
    assert find_refusal(plain, table, weights=none)[0].code == "too_few_points"


def test_draws_that_are_all_the_same_give_no_interval_and_one_parameter_that_is_has_none():
    plain = fit(make(), "chinchilla")
    same = np.tile(plain.vector, (10, 1))
    found = attach_intervals(plain, plain.form, same, seed=0, method="draws")
    assert has_no_interval(found)
    assert "equal_draws" in codes(found)
    varied = same * np.r_[1.0, np.ones(4)][None]
    varied[:, 1:] *= 1 + 0.01 * np.random.default_rng(0).standard_normal((10, 4))
    some = attach_intervals(plain, plain.form, varied, seed=0, method="draws")
    assert (some.ci95["E"], some.stderr["E"]) == ((None, None), None)
    assert some.ci95["A"][0] < some.ci95["A"][1]


def test_a_series_of_few_points_has_no_interval_and_does_not_stop_the_others():
    law = get_law("power_floor")
    many, few = law.sample(levels=8, seeds=3, noise=0.01), law.sample(levels=3, noise=0.0)
    few = few.assign(label="few", loss=few["loss"] * [0.9, 1.0, 1.1])
    table = pd.concat([many.assign(label="many"), few, many.assign(label=None, loss=1.02 * many["loss"])])
    found = bootstrap_series(table, law, "loss", resamples=40)
    assert set(found.fits) == {"many", "few", "(no label)"}
    assert has_no_interval(found.fits["few"])
    assert found.replicates["few"].shape == (0, 3)
    assert found.fits["(no label)"].n == len(many)
    assert found.fits["(no label)"].ci95["alpha"][0] is not None
    value, low, high = found.predict("few", {"data_unique": [1e4]})
    assert np.isfinite(value).all()
    assert np.isnan([low, high]).all()
    crossings = find_crossings(found)
    assert crossings
    assert all(np.isnan([one.low, one.high, one.share]).all() for one in crossings if "few" in (one.first, one.second))
    gain = compare_series(found, "many", "few")
    assert "no_draws" in {notice.code for notice in gain.notices}
    assert gain.verdict == "unknown"
    plot_fit(found.fits["(no label)"], table)


def test_what_follows_from_such_a_fit_has_no_interval_either(tmp_path):
    found = fit(make(), "chinchilla", bootstrap=20, clusters=["project"])
    for new_run in (False, True):
        ends = predict_interval(found, AT, new_run=new_run)
        assert np.isfinite(ends["estimate"]).all()
        assert ends[["low", "high"]].isna().all(axis=None)
    best = find_optimum(found, flops=1e21)
    assert all(item.low is None and item.high is None for item in best.quantities.values())
    assert "one cluster" in next(notice.text for notice in best.warnings if notice.code == "no_intervals")
    plot_fit(found, make())
    path = str(tmp_path / "frozen.json")
    freeze(found, AT, path)
    json.loads((tmp_path / "frozen.json").read_text(), parse_constant=pytest.fail)
    verdict = score(path, pd.DataFrame({**AT, "loss": [2.5]}))
    assert np.isnan(verdict.coverage)
    assert "predicted without an interval" in str(verdict)


def test_draws_of_hardly_more_clusters_than_parameters_are_called_rough():
    found = fit(make(7), "chinchilla", bootstrap=20, scheme="pairs", clusters=["project"])
    assert "few_clusters" in codes(found)
    assert "few_clusters" not in codes(fit(make(12), "chinchilla", bootstrap=20, scheme="pairs", clusters=["project"]))
