"""Tasks of scikit-learn's own data, and estimators that are fitted to them, for several tests."""

import functools

import numpy as np
from sklearn.datasets import load_diabetes, load_digits

from scaling.models.families import classical
from scaling.specs.task import TaskShape

NUMBERS = TaskShape(num_features=64, vocab_size=None, num_classes=10)
TOKENS = TaskShape(num_features=64, vocab_size=6, num_classes=10)  # four grey levels are in use
BINARY = TaskShape(num_features=64, vocab_size=None, num_classes=2)


def draw(task: TaskShape, size: int = 600) -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    inputs = (images // 5).astype(np.uint8) if task.vocab_size else (images / 16).astype(np.float32)
    return inputs[:size], (labels if task.num_classes == 10 else labels % 2)[:size]


@functools.cache
def fit(spec, task: TaskShape, size: int = 400, seed: int = 0):
    inputs, labels = draw(task, size)
    estimator = classical.build(spec, task, seed)
    return estimator.fit(classical.encode_inputs(spec, inputs, task), labels)


REGRESSION = TaskShape(num_features=10, vocab_size=None, num_classes=1, objective="regress")


def draw_numbers(task: TaskShape = REGRESSION) -> tuple[np.ndarray, np.ndarray]:
    """Returns 442 patients, as numbers of unit variance or as grades 0 … 6, and the labels in their deviations."""
    inputs, labels = load_diabetes(return_X_y=True)
    inputs = (inputs * np.sqrt(len(inputs))).astype(np.float32)
    if task.vocab_size:
        inputs = np.clip(np.round(2 * inputs) + 3, 0, 6).astype(np.uint8)
    return inputs, ((labels - 100) / labels.std()).astype(np.float32)


@functools.cache
def fit_numbers(spec, task: TaskShape = REGRESSION, size: int = 300, seed: int = 0):
    inputs, labels = draw_numbers(task)
    estimator = classical.build(spec, task, seed)
    return estimator.fit(classical.encode_inputs(spec, inputs[:size], task), labels[:size])
