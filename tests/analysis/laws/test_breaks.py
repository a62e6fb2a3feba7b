"""Claims about broken laws: slopes on both sides of a break, and where a power law meets its floor."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.breaks import make_bnsl
from analysis.laws.registry import get_law


def test_one_break_from_a_plateau_to_a_floor_is_regions():
    p, x = get_law("regions").example, np.geomspace(10, 1e6, 9)
    same = {"a": p["gamma"], "b": p["eps0"] - p["gamma"], "c0": 0.0, "c1": p["c"], "d1": p["m0"], "f1": p["f"]}
    expected = get_law("regions").predict(p, {"data_unique": x})
    np.testing.assert_allclose(get_law("bnsl").predict(same, {"data_unique": x}), expected, rtol=1e-12)


def test_regions_say_where_the_power_law_meets_its_floor():
    law = get_law("regions")
    at = law.derived({**law.example, "f": 0.01})["m_inf"]
    y = law.predict({**law.example, "f": 0.05}, {"data_unique": [at]})[0]
    assert y == pytest.approx(2 * law.example["gamma"], rel=1e-3)


def test_breaks_change_the_slope_as_their_formula_says():
    p = {"a": 0.0, "b": 1.0, "c0": 0.1, "c1": 0.4, "d1": 1e4, "f1": 0.1, "c2": -0.3, "d2": 1e8, "f2": 0.1}
    x = np.array([[1e1, 1e2], [1e5, 1e6], [1e10, 1e11]])
    y = get_law("bnsl2").predict(p, {"data_unique": x.ravel()}).reshape(3, 2)
    np.testing.assert_allclose(np.diff(np.log10(y))[:, 0], [-0.1, -0.5, -0.2], atol=1e-9)
    assert len(make_bnsl(4, "any", {}).params) == 3 * 4 + 3
