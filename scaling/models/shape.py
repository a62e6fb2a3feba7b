"""What a model must fit, and a network of one size: what decides every array."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from scaling.models.layers.core import Dims, Layer
from scaling.specs.models import NetworkSpec

Objective = Literal["classify", "regress", "next_token", "masked", "permuted", "none"]


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """What a model must fit.

    Attributes:
      num_features: F numbers, or T tokens, in an example.
      vocab_size: V for tokens; None for numbers.
      num_classes: K; 1 where a number is predicted, V where tokens are.
      image_shape: (H, W, C) where the F numbers are an image.
      objective: `classify` an example, `regress` a number on it, or predict its tokens: the `next_token`, `masked` ones
        (Devlin et al. 2018), or in a `permuted` order (Yang et al. 2019); `none` stops at the features.
      boundary: the token that ends a document, where sequences are packed from documents.
    """

    num_features: int
    vocab_size: int | None
    num_classes: int
    image_shape: tuple[int, int, int] | None = None
    objective: Objective = "classify"
    boundary: int | None = None

    @property
    def dims(self) -> Dims:
        """The dims of one example: (H, W, C), (F,) or (T,)."""
        return self.image_shape or (self.num_features,)

    @property
    def predicts_tokens(self) -> bool:
        """Whether the model predicts tokens: counts are then per token, else per example."""
        return self.objective in ("next_token", "masked", "permuted", "none") and self.vocab_size is not None


def image_task(side: int, num_classes: int, channels: int = 3) -> TaskShape:
    """Returns the task of classifying square images."""
    return TaskShape(side * side * channels, None, num_classes, (side, side, channels))


def token_task(vocab_size: int, num_tokens: int, objective: Objective = "next_token") -> TaskShape:
    """Returns the task of predicting tokens."""
    return TaskShape(num_tokens, vocab_size, vocab_size, None, objective)


@dataclasses.dataclass(frozen=True)
class Shape:
    """A network of one size: what decides every array.

    Attributes:
      spec: the family and its switches; says nothing of the size any more.
      task: inputs and outputs.
      width: the family's unit of width.
      depth: the family's unit of depth.
      layers: the family's function from a shape to its network, before any parametrisation.
    """

    spec: Any  # a NetworkSpec; each family knows its own class
    task: TaskShape
    width: int
    depth: int
    layers: "Callable[[Shape], Layer]" = dataclasses.field(repr=False)


@functools.lru_cache(maxsize=256)
def make_layers(shape: Shape) -> Layer:
    """Returns the network of a shape as data, before any parametrisation."""
    return shape.layers(shape)


class Preset(NamedTuple):
    """A published network: its specification, and the task that it was published for."""

    spec: NetworkSpec
    task: TaskShape


def settle_task(task: TaskShape) -> TaskShape:
    """Returns a task whose number of features or classes follows from the image shape or vocabulary that was set."""
    if task.image_shape is not None:
        task = dataclasses.replace(task, num_features=math.prod(task.image_shape))
    if task.predicts_tokens and task.vocab_size is not None:
        task = dataclasses.replace(task, num_classes=task.vocab_size)
    return task
