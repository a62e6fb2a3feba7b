"""Claims about LCDB's forms: those written otherwise than there are the same curves as there."""

import numpy as np

from analysis.laws.registry import get_law

X = np.geomspace(10.0, 1e5, 9)


def predict(form, params):
    return get_law(f"lcdb_{form}").predict(params, {"data_unique": X})


def test_mmf_is_lcdbs_fraction():
    law = get_law("lcdb_mmf4")
    a, c, d = (law.example[name] for name in ("a", "c", "d"))
    b = law.derived(law.example)["b"]
    np.testing.assert_allclose(predict("mmf4", law.example), (a * b + c * X**d) / (b + X**d))


def test_the_weibull_curve_has_lcdbs_a():
    law = get_law("lcdb_wbl4")
    b, c, d = (law.example[name] for name in ("b", "c", "d"))
    a = law.derived(law.example)["a"]
    np.testing.assert_allclose(predict("wbl4", law.example), c - b * np.exp(-a * X**d))


def test_the_exponential_of_four_is_lcdbs_with_its_derived_constants():
    law = get_law("lcdb_exp4")
    own = law.derived(law.example)
    a, b, c = (own[name] for name in ("a", "b", "c"))
    np.testing.assert_allclose(predict("exp4", law.example), c - np.exp(-a * X ** law.example["d"] + b))


def test_vapor_pressure_is_exact_through_its_link():
    p = get_law("lcdb_vap3").example
    np.testing.assert_allclose(predict("vap3", p), np.exp(p["a"] + p["b"] / X + p["c"] * np.log(X)))
