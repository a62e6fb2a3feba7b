"""Scaling: by what a learner's own subset shows, and undone to the labels' own unit."""

import numpy as np
import pytest

from scaling.data.feeding import standard
from scaling.data.feeding.standard import standard_of, undo_labels
from scaling.data.order.subsets import Subset
from scaling.data.source import Source
from scaling.specs.data import DataSpec, DigitsSource

NUMBERS = np.random.default_rng(0).normal(5.0, [1.0, 10.0, 0.0], size=(40, 3)).astype(np.float32)
ORDER = np.arange(10, 20)  # of forty examples, a subset of ten


def subset_of(inputs=NUMBERS, labels=None, **fields) -> Subset:
    labels = np.arange(40, dtype=np.int32) % 2 if labels is None else labels
    source = Source("some", inputs, labels, inputs[:1], labels[:1], 2, **fields)
    return Subset(source, inputs, labels, ORDER, 10)


def spec(**fields) -> DataSpec:
    return DataSpec(source=DigitsSource(), size=10, **fields)


def test_columns_are_scaled_by_the_subset_alone_and_constant_ones_are_zero():
    found = standard_of(spec(), subset_of(scaling="standardize"))
    scaled = (NUMBERS[ORDER] - found.shift) * found.scale
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), [1.0, 1.0, 0.0], rtol=1e-5)
    assert found.scale[2] == 0.0
    assert (found.shift.dtype, found.scale.dtype) == (np.float32, np.float32)


def test_what_has_a_unit_is_scaled_by_it_alone():
    found = standard_of(spec(), subset_of(unit=1 / 255))
    assert found.shift.tolist() == [0.0] * 3
    assert found.scale.tolist() == [np.float32(1 / 255)] * 3


def test_channels_of_images_are_scaled_over_all_places():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 2, 2, 3)).astype(np.uint8)
    found = standard_of(spec(normalize=True), subset_of(pixels.reshape(40, 12), image_shape=(2, 2, 3)))
    channels = pixels[ORDER].reshape(-1, 3)
    np.testing.assert_allclose(found.shift, np.tile(channels.mean(axis=0), 4), rtol=1e-6)
    np.testing.assert_allclose(found.scale, np.tile(1 / channels.std(axis=0), 4), rtol=1e-6)


def test_the_statistics_of_a_large_subset_are_those_of_its_beginning(monkeypatch):
    monkeypatch.setattr(standard, "STATISTICS_EXAMPLES", 4)
    found = standard_of(spec(), subset_of(scaling="standardize"))
    np.testing.assert_allclose(found.shift, NUMBERS[ORDER[:4]].mean(axis=0), rtol=1e-6)


def test_tokens_are_not_scaled():
    found = standard_of(spec(), subset_of(np.zeros((40, 3), np.int32), vocab_size=9))
    assert (found.shift.shape, found.scale.shape) == ((0,), (0,))


def test_numbers_as_labels_are_scaled_and_come_back_and_classes_stay():
    labels = np.random.default_rng(2).normal(100.0, 7.0, 40).astype(np.float32)
    found = standard_of(spec(), subset_of(labels=labels, objective="regress"))
    scaled = (labels[ORDER] - found.label_shift) * found.label_scale
    assert (scaled.mean(), scaled.std()) == (pytest.approx(0.0, abs=1e-5), pytest.approx(1.0, rel=1e-5))
    np.testing.assert_allclose(undo_labels(scaled, found), labels[ORDER], rtol=1e-5)
    classes = standard_of(spec(), subset_of())
    assert (classes.label_shift, classes.label_scale) == (0.0, 1.0)
    same = standard_of(spec(), subset_of(labels=np.full(40, 3, np.float32), objective="regress"))
    assert same.label_scale == 1.0  # nothing to divide by
