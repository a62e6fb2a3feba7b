"""Tables that tests write and load, and how one is refused."""

import re

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED
from scaling.data.sources.tables import load_table
from scaling.specs.base import InputError
from scaling.specs.data import TableSource


def load(path, evaluation_size=10, **fields):
    return load_table(TableSource(path=str(path), **fields), evaluation_size)


def refuses(message, path, evaluation_size=10, **fields):
    """Checks that a table is refused by one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load(path, evaluation_size, **fields)
    assert "\n" not in str(caught.value)


def write(path, rows, delimiter=","):
    path.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in rows))
    return path


def split(num_rows, evaluation_size=10):
    """Returns the indices of pool and evaluation set, as `hold_out` draws them."""
    order = shuffled(num_rows, SPLIT_SEED)
    return np.sort(order[evaluation_size:]), np.sort(order[:evaluation_size])
