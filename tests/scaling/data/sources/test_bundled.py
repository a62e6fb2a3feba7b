"""Bundled sources: scikit-learn's sets and the standard library, split once for everyone."""

import subprocess

import numpy as np
import pytest

from scaling.data.loading import load_source
from scaling.data.sources import bundled
from scaling.data.sources.bundled import load_digits
from scaling.specs.data import DataSpec, DigitsSource


def rows(inputs: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(inputs)}


def test_digits_split_into_disjoint_pool_and_evaluation_set():
    source = load_digits(DigitsSource(), 500)
    assert (source.size, len(source.eval_labels), source.num_classes) == (1297, 500, 10)
    assert not rows(source.inputs) & rows(source.eval_inputs)
    assert 0.9 <= (source.inputs * source.unit).max() <= 1.0


@pytest.mark.parametrize("name", sorted(bundled.TABLES))
def test_files_are_read_as_their_library_reads_them(name, monkeypatch):
    read = bundled._bundled(name)
    monkeypatch.setattr(bundled, "_find_table", lambda name: None)
    for ours, theirs in zip(read, bundled._bundled(name), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_digits_need_no_scikit_learn(python):
    script = "import sys; from scaling.data.sources.bundled import _bundled; _bundled('digits'); print(*sys.modules)"
    loaded = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "scaling.data.sources.bundled" in loaded
    assert not {"sklearn", "scipy"} & set(loaded)


def test_the_evaluation_set_is_the_same_for_every_size_and_seed():
    one, other = (load_source(DataSpec(source=DigitsSource(), size=size, evaluation_size=500)) for size in (10, 100))
    assert one.eval_sha256 == other.eval_sha256
