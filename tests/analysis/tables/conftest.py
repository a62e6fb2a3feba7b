"""A small table for the tests of tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "cell": ["aa", "bb", "cc"],
            "label": ["mlp", "mlp", "forest"],
            "data_unique": [100, 200, 400],
            "is_final": [True, True, False],
            "status": ["ok", "diverged", "ok"],
            "loss": rng.random(3) / 3,
            "num_params": [10.0, 20.0, np.nan],
        }
    )
