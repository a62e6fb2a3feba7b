"""Claims about Kaplan's laws: published losses and constants, and the limits of the joint law."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.registry import get_law


def test_kaplan_predicts_the_published_losses_and_returns_the_published_constants():
    law = get_law("kaplan_n")
    losses = law.predict(law.example, {"num_params": [1e8, 1e9, 1e10]})
    assert losses.round(3).tolist() == [2.830, 2.376, 1.994]
    assert law.derived(law.example)["N_c"] == pytest.approx(8.8e13)
    assert get_law("kaplan_d").derived(get_law("kaplan_d").example)["D_c"] == pytest.approx(5.4e13)


def test_kaplans_joint_law_has_the_separate_ones_as_limits():
    law, size, data = (get_law(name) for name in ("kaplan_nd", "kaplan_n", "kaplan_d"))
    many, few = 1e40, 1e8
    at = {"num_params": [few, many], "data_unique": [many, few]}
    expected = [
        size.predict(size.example, {"num_params": [few]})[0],
        data.predict(data.example, {"data_unique": [few]})[0],
    ]
    np.testing.assert_allclose(law.predict(law.example, at), expected, rtol=1e-6)
