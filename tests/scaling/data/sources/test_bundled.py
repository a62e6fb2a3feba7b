"""Bundled sources: scikit-learn's sets and the standard library, split once for everyone."""

import numpy as np

from scaling.data.loading import load_source
from scaling.data.sources.bundled import load_digits
from scaling.specs.data import DataSpec, DigitsSource


def rows(inputs: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(inputs)}


def test_digits_split_into_disjoint_pool_and_evaluation_set():
    source = load_digits(DigitsSource(), 500)
    assert (source.size, len(source.eval_labels), source.num_classes) == (1297, 500, 10)
    assert not rows(source.inputs) & rows(source.eval_inputs)
    assert 0.9 <= (source.inputs * source.unit).max() <= 1.0


def test_the_evaluation_set_is_the_same_for_every_size_and_seed():
    one, other = (load_source(DataSpec(source=DigitsSource(), size=size, evaluation_size=500)) for size in (10, 100))
    assert one.eval_sha256 == other.eval_sha256
