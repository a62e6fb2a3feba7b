"""A small source that several tests of data read, and folders that may not be read."""

import os
from pathlib import Path

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


@pytest.fixture
def close_folders(monkeypatch):
    """Has folders of a name be none that may be read, for root too."""

    def close(name):
        look = os.scandir

        def scan(folder):
            if Path(folder).name == name:
                raise PermissionError(13, "Permission denied", str(folder))
            return look(folder)

        monkeypatch.setattr(os, "scandir", scan)

    return close
