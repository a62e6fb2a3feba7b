"""What a model must fit: where data and models meet."""

import dataclasses
import math
from typing import Literal

Objective = Literal["classify", "regress", "next_token", "masked", "permuted", "none"]


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """What a model must fit.

    Attributes:
      num_features: F numbers, or T tokens, in an example.
      vocab_size: V for tokens; None for numbers.
      num_classes: K; M where M numbers are predicted, V where tokens are.
      image_shape: (H, W, C) where the F numbers are an image.
      objective: `classify` an example, `regress` numbers on it, or predict its tokens: the `next_token`, `masked` ones
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
    def dims(self) -> tuple[int, ...]:
        """The dims of one example: (H, W, C), (F,) or (T,)."""
        return self.image_shape or (self.num_features,)

    @property
    def label_dims(self) -> tuple[int, ...]:
        """The dims of one label: (M,) of several numbers, else none; tokens are their own labels."""
        return (self.num_classes,) if self.objective == "regress" and self.num_classes > 1 else ()

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


def settle_task(task: TaskShape) -> TaskShape:
    """Returns a task whose number of features or classes follows from the image shape or vocabulary that was set."""
    if task.image_shape is not None:
        task = dataclasses.replace(task, num_features=math.prod(task.image_shape))
    if task.predicts_tokens and task.vocab_size is not None:
        task = dataclasses.replace(task, num_classes=task.vocab_size)
    return task
