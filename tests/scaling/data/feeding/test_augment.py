"""Augmentation: crops and flips that are what they claim, the same on host and device, and as Grain transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data.feeding.augment import augment, crop, flip
from scaling.specs.data import AugmentationSpec

IMAGES = np.random.default_rng(0).integers(1, 256, (200, 6, 5, 3)).astype(np.uint8)
POSITIONS = np.arange(200, dtype=np.uint32) + np.uint32(7)


def shifted(image: np.ndarray, down: int, right: int, padding: int) -> np.ndarray:
    """Returns the crop of a padded image, written the plain way."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return padded[padding + down :, padding + right :][: image.shape[0], : image.shape[1]]


def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_occur():
    seen = set()
    for image, moved in zip(IMAGES, crop(np, IMAGES, POSITIONS, np.uint32(1), 1), strict=True):
        matches = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if (shifted(image, down, right, 1) == moved).all()
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 9


def test_half_of_the_images_are_mirrored_whole():
    mirrored = flip(np, IMAGES, POSITIONS, np.uint32(1))
    is_same = (mirrored == IMAGES).all(axis=(1, 2, 3))
    is_mirrored = (mirrored == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (is_same ^ is_mirrored).all()
    assert 0.4 < is_mirrored.mean() < 0.6


@pytest.mark.parametrize("spec", [AugmentationSpec(crop=2, flip=True), AugmentationSpec(flip=True), AugmentationSpec()])
def test_host_and_device_agree_to_the_bit(spec):
    host = augment(np, spec, IMAGES, POSITIONS, np.uint32(3))
    on_device = jax.jit(lambda x, p, s: augment(jnp, spec, x, p, s))
    device = on_device(jnp.asarray(IMAGES), jnp.asarray(POSITIONS), jnp.uint32(3))
    assert device.dtype == host.dtype == np.uint8
    assert (np.asarray(device) == host).all()


def test_draws_depend_on_seed_and_position_alone():
    spec = AugmentationSpec(crop=2, flip=True)
    whole = augment(np, spec, IMAGES, POSITIONS, np.uint32(3))
    assert (augment(np, spec, IMAGES[50:60], POSITIONS[50:60], np.uint32(3)) == whole[50:60]).all()
    assert (augment(np, spec, IMAGES, POSITIONS, np.uint32(4)) != whole).any()
    assert (augment(np, spec, IMAGES, POSITIONS + np.uint32(200), np.uint32(3)) != whole).any()
