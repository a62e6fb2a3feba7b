"""Claims about schedules step by step: published ones are rebuilt, and their sums are few and exact enough."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.schedules import Curve, summarise_schedules
from analysis.laws.whole_curves import multi_power, tissue
from tests.analysis.luo import PUBLISHED, TEST, TISSUE, TRAIN, read_curve, read_rates


@pytest.mark.parametrize("size", [25, 100])
@pytest.mark.parametrize("name", TRAIN + TEST)
def test_schedules_are_rebuilt_exactly_at_every_logged_step(size, name):
    run, logged = read_curve(size, name)
    np.testing.assert_allclose(run.rates[run.steps], logged, rtol=1e-12)


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
