"""Claims about what a law is: what it holds, what it refuses, and bounds in the units of its columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.laws.law import Range, register
from analysis.laws.registry import LAWS, get_law


def test_the_only_coefficient_can_be_held():
    held = get_law("power").hold({"A": 5.0})
    np.testing.assert_allclose(held.predict({"alpha": 0.5}, {"data_unique": [4.0, 16.0]}), [2.5, 1.25])


def test_a_bad_column_is_refused_by_name():
    law = get_law("power")
    with pytest.raises(AnalysisError, match=r"data_unique=0\.0 must be finite and positive"):
        law.read({"data_unique": [1.0, 0.0]})
    with pytest.raises(AnalysisError, match="did you mean 'data_uniqu'"):
        law.read({"data_uniqu": [1.0]})
    with pytest.raises(AnalysisError, match="has 2 columns but law power takes 1"):
        law.bind(["a", "b"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "chinchilla"}, "is already registered; choose another name"),
        ({"nonlinear": {"alpha": (1.0, 0.5)}}, r"bad\.alpha has bounds \(1\.0, 0\.5\); the lower must be below"),
        ({"nonlinear": {"alpha": Range(0.0, 0.5, log=True)}}, r"bad\.alpha is searched in logarithms from 0\.0"),
        ({"link": np.exp}, "has one of link and unlink; give both or neither"),
    ],
)
def test_a_bad_registration_is_refused(changes, message):
    before = dict(LAWS)
    with pytest.raises(AnalysisError, match=message):
        register(dataclasses.replace(get_law("power"), **{"name": "bad", **changes}))
    assert before == LAWS


def test_a_parameter_that_does_not_exist_cannot_be_held():
    with pytest.raises(AnalysisError, match=r"did you mean 'alpha'\?"):
        get_law("power").hold({"alhpa": 1.0})


def test_a_sample_without_parameters_says_which_are_needed():
    law = dataclasses.replace(get_law("power"), example={})
    with pytest.raises(AnalysisError, match=r"has no example; give params of \('A', 'alpha'\)"):
        law.sample()


def test_bounds_in_units_follow_the_column_the_law_is_bound_to():
    law = get_law("regions").bind(["data_seen"])
    assert law.ranges["m0"].of == "data_seen"
    assert law.ranges["m0"].resolve({"data_seen": np.array([10.0, 1e4])}) == (3.0, 1e4)
