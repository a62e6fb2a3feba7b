"""Claims about laws of learning rate and batch size: published values."""

from __future__ import annotations

import pytest

from analysis.laws.registry import get_law


def test_step_law_gives_the_published_learning_rate_and_batch():
    lr, batch = get_law("step_law_lr"), get_law("step_law_batch")
    at = {"num_params": [7e9], "data_seen": [1.4e12]}
    assert lr.predict(lr.example, at)[0] == pytest.approx(9.35e-4, rel=5e-4)
    assert batch.predict(batch.example, at)[0] == pytest.approx(5.00e6, rel=2e-3)
