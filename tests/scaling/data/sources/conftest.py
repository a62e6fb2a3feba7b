"""A table of numbers as a file."""

import numpy as np
import pytest

from tests.scaling.data.sources.written_tables import write


@pytest.fixture
def numbers(tmp_path):
    values = np.random.default_rng(0).normal(size=(60, 3)) * [1e-3, 1.0, 1e6]
    return write(tmp_path / "numbers.csv", [(*row, "cab"[i % 3]) for i, row in enumerate(values.tolist())])
