"""Model families: a specification and a task give a shape, and a shape the layers that everything is counted from."""

import dataclasses
import functools
import importlib
from types import ModuleType
from typing import Any, Literal, NamedTuple

from scaling.models.layers import Dims, Layer
from scaling.specs.base import InputError, suggest
from scaling.specs.models import NetworkSpec

# Families trained by gradient descent: a module each, with TASK, PRESETS, `shape` and `layers`, and no JAX in it.
# Families with a solver of their own live in `classical`. To add one: its specification joins `ModelSpec` in specs.py,
# its module joins here.
FAMILIES = ("mlp", "convnet", "resnet", "inception", "xception", "lstm", "transformer", "vit")

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
    """

    spec: Any  # a NetworkSpec; each family knows its own class
    task: TaskShape
    width: int
    depth: int


class Preset(NamedTuple):
    """A published network: its specification, and the task that it was published for."""

    spec: NetworkSpec
    task: TaskShape


def family_of(kind: str) -> ModuleType:
    """Returns the module of a family that is trained by gradient descent."""
    return importlib.import_module(f"scaling.models.{kind}")


def make_shape(spec: NetworkSpec, task: TaskShape) -> Shape:
    """Returns the shape of a specification on a task.

    Raises:
      InputError: the family cannot fit this task, or has no shape of that size.
    """
    return family_of(spec.kind).shape(spec, task)  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=256)
def make_layers(shape: Shape) -> Layer:
    """Returns the network of a shape as data, before any parametrisation."""
    return family_of(shape.spec.kind).layers(shape)


def find_preset(name: str) -> Preset:
    """Returns a published network by name.

    Raises:
      InputError: there is none of that name.
    """
    presets = all_presets()
    if name not in presets:
        raise InputError(f"--preset {name}: there is no such network; {suggest(name, presets)}")
    return presets[name]


@functools.cache
def all_presets() -> dict[str, Preset]:
    """Returns all published networks by name."""
    return {name: preset for kind in FAMILIES for name, preset in family_of(kind).PRESETS.items()}
