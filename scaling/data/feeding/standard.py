"""What a learner sees of numbers: inputs and labels shifted and scaled by what its own subset shows."""

import numpy as np

from scaling.data.feeding.placement import Standard
from scaling.data.order.subsets import Subset
from scaling.specs.data import DataSpec

# Examples that the mean and the deviation of inputs are taken over, at most.
STATISTICS_EXAMPLES = 100_000


def standard_of(data: DataSpec, subset: Subset) -> Standard:
    """Returns the shifts and scales of a subset's inputs, [F] float32, and of its labels, float32, or [M]."""
    return Standard(*_of_inputs(data, subset), *_of_labels(subset))


def undo_labels(predictions: np.ndarray, standard: Standard) -> np.ndarray:
    """Returns predictions in the labels' own unit."""
    return predictions / standard.label_scale + standard.label_shift


def _of_inputs(data: DataSpec, subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shift and scale of numeric inputs; empty for tokens.

    The statistics of a large subset are those of its first STATISTICS_EXAMPLES.
    """
    source = subset.source
    if source.vocab_size is not None:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    num_features = source.inputs.shape[1]
    if source.scaling == "unit" and not data.normalize:
        return np.zeros(num_features, np.float32), np.full(num_features, source.unit, np.float32)
    seen = subset.read(slice(0, min(subset.size, STATISTICS_EXAMPLES)))[0].astype(np.float64)
    if data.normalize:
        assert source.image_shape is not None  # noqa: S101  (check_data)
        channels = seen.reshape(-1, source.image_shape[-1])
        places = num_features // source.image_shape[-1]
        mean, deviation = np.tile(channels.mean(axis=0), places), np.tile(channels.std(axis=0), places)
    else:
        mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros(num_features), where=deviation > 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _of_labels(subset: Subset) -> tuple[np.ndarray | np.float32, np.ndarray | np.float32]:
    """Returns the shift and scale of labels that are numbers, each number its own; classes stay what they are."""
    if subset.source.objective != "regress" or subset.labels is None:
        return np.float32(0.0), np.float32(1.0)
    seen = subset.labels[subset.order[:]].astype(np.float64)
    deviation = seen.std(axis=0)  # a scalar, or [M]
    scale = 1.0 / np.where(deviation > 0, deviation, 1.0)
    return np.float32(seen.mean(axis=0)), np.float32(scale)
