"""Claims about laws of routed models: recovery of the truth behind a sample."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law


@pytest.mark.parametrize(("noise", "close"), [(0.0, 1e-6), (5e-4, 0.15)])
def test_clarks_law_of_routed_models_is_recovered(noise, close):
    law = get_law("moe")
    table = law.sample(noise=noise, seeds=2 if noise else 1)
    fit = fit_law(law, table, table["loss"])
    assert fit.params == pytest.approx(dict(law.example), rel=close)
    far = {"num_params": np.array([1e10]), "num_experts": np.array([64.0])}
    assert fit.predict(far) == pytest.approx(law.predict(law.example, far), rel=max(close, 0.02) / 10)
