"""What a model must fit, and a network of one size: what decides every array."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from scaling.models.layers.core import Layer
from scaling.specs.models import NetworkSpec
from scaling.specs.task import TaskShape


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
