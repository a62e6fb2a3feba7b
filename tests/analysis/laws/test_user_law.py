"""A user's own law, in a dozen lines, gets everything that the built-in ones get."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting.fit_law import Fit, fit_law, refit
from analysis.laws.law import Law, register
from analysis.laws.registry import LAWS, get_law


@pytest.fixture
def law():
    made = register(
        Law(
            name="mine",
            formula="y = E + A / (1 + m/m0)^c",
            source="a test",
            variables=("data_unique",),
            linear=("E", "A"),
            nonlinear={"m0": (1.0, 1e5), "c": (0.05, 2.0)},
            terms=lambda m, m0, c: (1.0, (1 + m / m0) ** -c),
        )
    )
    yield made
    del LAWS["mine"]


def test_it_is_fitted_globally_from_no_starting_values(law):
    columns, truth = {"data_unique": np.geomspace(10, 1e6, 24)}, {"E": 0.1, "A": 0.8, "m0": 300.0, "c": 0.6}
    y = law.predict(truth, columns)
    fit = fit_law("mine", columns, y)
    assert fit.params == pytest.approx(truth, rel=1e-4)
    assert fit.status == "ok"


def test_it_is_resampled_saved_held_and_read_back(law):
    columns, truth = {"data_unique": np.geomspace(10, 1e6, 24)}, {"E": 0.1, "A": 0.8, "m0": 300.0, "c": 0.6}
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal((50, 24)))
    draws = refit("mine", columns, law.predict(truth, columns) * noise, start=np.array(list(truth.values())))
    assert np.median(draws[:, 3]) == pytest.approx(0.6, rel=0.05)
    assert draws[:, 3].std() > 0
    fit = fit_law("mine", columns, law.predict(truth, columns), hold={"m0": 300.0})
    assert fit.params["c"] == pytest.approx(0.6, rel=1e-6)
    again = Fit.model_validate_json(fit.model_dump_json())
    assert again.predict(columns).tobytes() == fit.predict(columns).tobytes()
    assert get_law("mine") is law
