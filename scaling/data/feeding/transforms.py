"""Crop and flip as Grain transforms, for batches that are made on the host; devices normalise.

An element is a dict: `inputs` [..., F] holds images row by row, and `positions` [...] where in the run each is seen.
"""

import dataclasses
from typing import Any

import grain
import numpy as np

from scaling.data.feeding.augment import crop, flip


@dataclasses.dataclass(frozen=True)
class Crop(grain.transforms.Map):
    """Moves images by up to `padding` pixels either way; see `crop`."""

    image_shape: tuple[int, int, int]
    padding: int
    seed: int

    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        """Returns the element with its images moved."""
        images = element["inputs"].reshape(-1, *self.image_shape)
        moved = crop(np, images, element["positions"].reshape(-1), np.uint32(self.seed), self.padding)
        return {**element, "inputs": moved.reshape(element["inputs"].shape)}


@dataclasses.dataclass(frozen=True)
class Flip(grain.transforms.Map):
    """Mirrors half of the images left to right; see `flip`."""

    image_shape: tuple[int, int, int]
    seed: int

    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        """Returns the element with its images mirrored or not."""
        images = element["inputs"].reshape(-1, *self.image_shape)
        mirrored = flip(np, images, element["positions"].reshape(-1), np.uint32(self.seed))
        return {**element, "inputs": mirrored.reshape(element["inputs"].shape)}
