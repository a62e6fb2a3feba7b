"""A small source that several tests of data read."""

import numpy as np
import pytest

from tests.scaling.data.written_idx import write_idx


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of idx files: training plain, evaluation gzipped."""
    generator = np.random.default_rng(0)
    for kind, count, ending in (("train", 50, ""), ("t10k", 20, ".gz")):
        write_idx(tmp_path / f"{kind}-images-idx3-ubyte{ending}", generator.integers(0, 256, (count, 4, 3)))
        write_idx(tmp_path / f"{kind}-labels-idx1-ubyte{ending}", np.arange(count) % 5)
    return tmp_path
