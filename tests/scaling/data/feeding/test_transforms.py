"""Grain transforms do to batches on the host what augmentation does."""

import numpy as np

from scaling.data.feeding.augment import augment
from scaling.data.feeding.transforms import Crop, Flip
from scaling.specs.data import AugmentationSpec

IMAGES = np.random.default_rng(0).integers(1, 256, (200, 6, 5, 3)).astype(np.uint8)
POSITIONS = np.arange(200, dtype=np.uint32) + np.uint32(7)


def test_grain_transforms_do_the_same_to_rows():
    element = {"inputs": IMAGES.reshape(10, 20, -1), "positions": POSITIONS.reshape(10, 20)}
    for transform in (Crop(IMAGES.shape[1:], 2, seed=3), Flip(IMAGES.shape[1:], seed=3)):
        element = transform.map(element)
    expected = augment(np, AugmentationSpec(crop=2, flip=True), IMAGES, POSITIONS, np.uint32(3))
    assert (element["inputs"] == expected.reshape(10, 20, -1)).all()
