"""A made-up source of seven uneven classes, and orders drawn from it."""

import numpy as np

from scaling.data.order.subsets import draw_order
from scaling.data.source import Source

LABELS = np.random.default_rng(0).choice(7, size=3000, p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.015, 0.005])
GROUPS = np.random.default_rng(1).integers(0, 200, size=3000)


def source_of(labels: np.ndarray = LABELS, num_classes: int = 7, groups: np.ndarray | None = None) -> Source:
    labels = labels.astype(np.int32)
    inputs = np.arange(len(labels))[:, None]
    held_out = np.array([[-1], [-2]])
    return Source("some", inputs, labels, held_out, labels[:2], num_classes, groups=groups)


def draw(order: str, size: int, seed: int = 0, labels: np.ndarray = LABELS, num_classes: int = 7) -> np.ndarray:
    groups = GROUPS if order == "grouped" else None
    return draw_order(source_of(labels, num_classes, groups), order, seed, size)[:]
