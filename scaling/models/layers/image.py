"""Layers of images, as data: convolutions, pools, and what early networks had beside them.

Dims (of one example): H, W, C image height, width and channels; K classes.
"""

import dataclasses
import math
from typing import Literal

from scaling.models.layers.core import Dims, Division, Initializer, Layer, Role, Weight
from scaling.specs.base import InputError

Padding = str | int  # "SAME", "VALID", zeros on each side, or for pools "CEIL": the last window may stick out


@dataclasses.dataclass(frozen=True)
class Conv(Layer):
    """A 2-D convolution of [H, W, C]; `width` None keeps the channels, `depthwise` gives each its own kernel.

    `connections` lists for each output map the input maps that it sees (LeCun et al. 1998, table I); None sees all.
    """

    width: int | None
    kernel: tuple[int, int]
    stride: int = 1
    padding: Padding = "SAME"
    groups: int = 1
    depthwise: bool = False
    bias: bool = True
    role: Role = "hidden"
    init: Initializer = Initializer("he")
    group: str = "conv"
    connections: tuple[tuple[int, ...], ...] | None = None

    def output(self, dims: Dims) -> Dims:
        height, width, channels = dims
        rows = windows(height, self.kernel[0], self.stride, self.padding)
        columns = windows(width, self.kernel[1], self.stride, self.padding)
        return rows, columns, self.width or channels

    def num_groups(self, dims: Dims) -> int:
        """Returns how many parts the channels are split into."""
        return dims[-1] if self.depthwise else self.groups

    def weights(self, dims: Dims) -> dict[str, Weight]:
        out, groups, area = self.width or dims[-1], self.num_groups(dims), math.prod(self.kernel)
        if dims[-1] % groups or out % groups:
            raise InputError(f"groups={groups} divides neither {dims[-1]} nor {out} channels evenly; choose a divisor")
        fan_in, fan_out = dims[-1] // groups * area, out // groups * area
        shape: Dims = (*self.kernel, dims[-1] // groups, out)
        if self.connections is not None:
            shape = (sum(map(len, self.connections)), *self.kernel)
            fan_in = shape[0] // out * area
        # A kernel for each channel, or a table of them, is no matrix from width to width.
        role: Role = "input" if self.depthwise or self.connections is not None else self.role
        division: Division = "conv" if len(shape) == 4 else "vector"
        kernel = Weight(shape, self.group, role, fan_in, fan_out, True, division=division)
        return {"kernel": kernel} | ({"bias": Weight((out,), self.group)} if self.bias else {})

    def flops(self, dims: Dims) -> dict[str, float]:
        rows, columns, _ = self.output(dims)
        return {"conv": 2.0 * self.weights(dims)["kernel"].size * rows * columns}


@dataclasses.dataclass(frozen=True)
class Affine(Layer):
    """gain · x + bias: by channel, or a bias alone of its own for every place (`by_place`, LeCun et al. 1989)."""

    by_place: bool = False
    group: str = "hidden"

    def weights(self, dims: Dims) -> dict[str, Weight]:
        if self.by_place:
            return {"bias": Weight(dims, self.group)}
        vector = Weight((dims[-1],), self.group)
        return {"scale": vector, "bias": vector}


@dataclasses.dataclass(frozen=True)
class Pool(Layer):
    """Maximum, mean or sum over windows; padded places never win a maximum, and count in a mean if `count_padding`."""

    kind: Literal["max", "mean", "sum"]
    window: int
    stride: int
    padding: Padding = "VALID"
    count_padding: bool = True

    def output(self, dims: Dims) -> Dims:
        height, width, channels = dims
        return (
            windows(height, self.window, self.stride, self.padding),
            windows(width, self.window, self.stride, self.padding),
            channels,
        )


@dataclasses.dataclass(frozen=True)
class AdaptivePool(Layer):
    """Mean over a grid of `size` × `size` windows that cover the image (as in torchvision's AlexNet and VGG)."""

    size: int

    def output(self, dims: Dims) -> Dims:
        return self.size, self.size, dims[-1]


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """x / (k + α/size · Σ x²)^β over `size` neighbouring channels (Krizhevsky et al. 2012)."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0


@dataclasses.dataclass(frozen=True)
class RadialReadout(Layer):
    """scale · negative squared distances to K fixed ±1 codes: LeNet-5's output (LeCun et al. 1998), not learnt."""

    num_classes: int
    scale: float = 1.0

    def output(self, dims: Dims) -> Dims:
        return (self.num_classes,)


def windows(size: int, window: int, stride: int, padding: Padding) -> int:
    """Returns how many windows fit along one side.

    >>> windows(224, 7, 2, 3), windows(224, 7, 2, "SAME"), windows(112, 3, 2, "CEIL"), windows(5, 5, 1, "VALID")
    (112, 112, 56, 1)
    """
    match padding:
        case "SAME":
            return -(-size // stride)
        case "CEIL":
            return max(0, -(-(size - window) // stride)) + 1
        case "VALID":
            found = (size - window) // stride + 1
        case int():
            found = (size + 2 * padding - window) // stride + 1
        case _:
            raise ValueError(f"padding={padding!r} is unknown; choose 'SAME', 'VALID', 'CEIL' or a number")
    if found < 1:
        raise InputError(f"an input of side {size} is smaller than the window of {window}; use larger images")
    return found
