"""Claims about laws of downstream errors: published values."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.registry import get_law


def test_gadres_error_at_a_published_point():
    law = get_law("gadre_error")
    expected = 0.8497 - 2.0789 * np.exp(-0.7561 * 3.0)
    assert law.predict(law.example, {"loss": [3.0]})[0] == pytest.approx(expected)
