"""Random crops and flips of images: the same code, and the same draws, on the host and in the compiled step.

Dims: B images, H rows, W columns, C channels.
"""

from types import ModuleType

from scaling.data.permutation import Array, mix
from scaling.specs.data import AugmentationSpec

# What a draw is used for: each is a hash of its own.
ROW, COLUMN, MIRROR = 0xA0, 0xA1, 0xA2


def crop(xp: ModuleType, images: Array, positions: Array, seed: Array, padding: int) -> Array:
    """Returns images moved by up to `padding` pixels either way, zeros moving in: a crop of the padded image.

    Args:
      xp: numpy or jax.numpy.
      images: [B, H, W, C] of any dtype.
      positions: [B] uint32, where in the whole run each image is seen; decides the draw with the seed.
      seed: the seed of the run, uint32.
      padding: pixels.
    """
    height, width = images.shape[1:3]
    down, right = (_draw(xp, seed, use, positions, 2 * padding + 1) - padding for use in (ROW, COLUMN))  # [B]
    rows = xp.arange(height)[None] + down[:, None]  # [B, H]
    columns = xp.arange(width)[None] + right[:, None]  # [B, W]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]  # [B, H, W]
    rows, columns = xp.clip(rows, 0, height - 1), xp.clip(columns, 0, width - 1)
    moved = images[xp.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
    return xp.where(inside[..., None], moved, xp.zeros((), images.dtype))


def flip(xp: ModuleType, images: Array, positions: Array, seed: Array) -> Array:
    """Returns images, [B, H, W, C], of which each is mirrored left to right or not, by a draw of its own."""
    mirrored = _draw(xp, seed, MIRROR, positions, 2) == 1
    return xp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def augment(xp: ModuleType, spec: AugmentationSpec, images: Array, positions: Array, seed: Array) -> Array:
    """Returns images, [B, H, W, C], changed as a specification says."""
    if spec.crop:
        images = crop(xp, images, positions, seed, spec.crop)
    return flip(xp, images, positions, seed) if spec.flip else images


def _draw(xp: ModuleType, seed: Array, use: int, positions: Array, below: int) -> Array:
    """Returns integers in 0 … below - 1, [B] int32, from (seed, use, position)."""
    key = mix(xp, xp.asarray(seed, xp.uint32), xp.uint32(use))
    return ((mix(xp, key, positions) >> xp.uint32(8)) % xp.uint32(below)).astype(xp.int32)
