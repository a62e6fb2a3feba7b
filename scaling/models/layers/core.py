"""What networks are made of, as data: every layer knows its output's shape, its arrays and its FLOPs, by arithmetic.

A network is a tree of these descriptions. Counting walks the tree without making an array; `modules` turns the same
tree into Flax modules. Layers of images are in `image_layers`, of sequences in `sequence_layers`.

Dims (of one example, without the batch): H, W, C image height, width and channels; T tokens; D features; K classes.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Self

Dims = tuple[int, ...]  # (H, W, C), (T, D), (D,), or (T,) for tokens
Role = Literal["input", "hidden", "output", "vector"]
# How an array is divided among devices: `scaling.devices.sharding` has which axes each means.
Division = Literal[
    "columns", "rows", "embedding", "positions", "conv", "expert_columns", "expert_rows", "router", "gates", "vector"
]


class Weight(NamedTuple):
    """One trainable array.

    Attributes:
      shape: the shape of the array.
      group: a name to count it under (`hidden`, `conv`, `norm`, `embedding`, `head` …).
      role: `input` (from fixed size to width: embeddings, first layers), `hidden` (width to width), `output` (width to
        fixed size) or `vector` (biases, gains).
      fan_in, fan_out: inputs of one output, outputs of one input.
      is_matmul: whether activations are multiplied by it, unlike lookup tables and vectors.
      active: share that one example uses; below 1 for routed experts.
      division: how it is divided among devices.
    """

    shape: Dims
    group: str
    role: Role = "vector"
    fan_in: int = 1
    fan_out: int = 1
    is_matmul: bool = False
    active: float = 1.0
    division: Division = "vector"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Initializer:
    """How a matrix starts.

    Attributes:
      kind: `he` normal of variance 2 / fan_in, `lecun` normal of 1 / fan_in, `glorot` uniform of 2 / (fan_in +
        fan_out), `uniform` in ±1 / √fan_in (the rule before 2010), `normal` of standard deviation 1, `zeros`.
      scale: factor on it.
    """

    kind: Literal["he", "lecun", "glorot", "uniform", "normal", "zeros"]
    scale: float = 1.0


class Part(NamedTuple):
    """A layer inside another, with the dims that reach it; `copies` of it follow each other, each with own arrays."""

    name: str
    layer: "Layer"
    dims: Dims
    copies: int = 1


@dataclasses.dataclass(frozen=True)
class Layer:
    """A function of one example; containers have parts, the others may have weights and FLOPs."""

    def output(self, dims: Dims) -> Dims:
        """Returns the output's dims."""
        return dims

    def weights(self, dims: Dims) -> dict[str, Weight]:
        """Returns its own arrays by name, without those of its parts."""
        return {}

    def flops(self, dims: Dims) -> dict[str, float]:
        """Returns forward FLOPs of one example by term, a multiply-add being 2, without those of its parts."""
        return {}

    def train_flops(self, dims: Dims) -> dict[str, float] | None:
        """Returns FLOPs of training by term; None where they are three times forward, less an unneeded gradient."""
        return None

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        """Returns the layers inside it, in forward order."""
        return ()

    def with_parts(self, parts: Sequence["Layer"]) -> Self:
        """Returns a container with other layers in the places of its parts."""
        return self


# --- containers -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sequential(Layer):
    """Named layers, one after the other."""

    members: tuple[tuple[str, Layer], ...]

    def output(self, dims: Dims) -> Dims:
        for _, layer in self.members:
            dims = layer.output(dims)
        return dims

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        found = []
        for name, layer in self.members:
            found.append(Part(name, layer, dims))
            dims = layer.output(dims)
        return tuple(found)

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        return dataclasses.replace(self, members=_renamed(self.members, parts))


def sequential(**members: Layer | None) -> Sequential:
    """Returns the layers that are not None, in order, under their keywords."""
    return Sequential(tuple((name, layer) for name, layer in members.items() if layer is not None))


@dataclasses.dataclass(frozen=True)
class Repeat(Layer):
    """Several copies of one layer, which keeps the dims, each with its own arrays; named NAME_0, and so on."""

    name: str
    member: Layer
    copies: int

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        return (Part(self.name, self.member, dims, self.copies),) if self.copies else ()

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        return dataclasses.replace(self, member=parts[0]) if self.copies else self


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """shortcut(x) + scale · branch(x); the shortcut is the identity where it is None.

    `pad_shortcut`: a shortcut without parameters, which subsamples and fills new channels with zeros (He et al. 2015,
    option A).
    """

    branch: Layer
    shortcut: Layer | None = None
    pad_shortcut: bool = False
    scale: float = 1.0

    def output(self, dims: Dims) -> Dims:
        return self.branch.output(dims)

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        own = Part("branch", self.branch, dims)
        return (own, Part("shortcut", self.shortcut, dims)) if self.shortcut is not None else (own,)

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        shortcut = parts[1] if self.shortcut is not None else None
        return dataclasses.replace(self, branch=parts[0], shortcut=shortcut)


@dataclasses.dataclass(frozen=True)
class Branches(Layer):
    """Named layers side by side on one input; their outputs are joined along the channels."""

    members: tuple[tuple[str, Layer], ...]

    def output(self, dims: Dims) -> Dims:
        outputs = [layer.output(dims) for _, layer in self.members]
        if len({found[:-1] for found in outputs}) != 1:
            raise ValueError(f"branches on {dims} end in {outputs}, which cannot be joined")
        return (*outputs[0][:-1], sum(found[-1] for found in outputs))

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        return tuple(Part(name, layer, dims) for name, layer in self.members)

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        return dataclasses.replace(self, members=_renamed(self.members, parts))


@dataclasses.dataclass(frozen=True)
class Auxiliary(Layer):
    """A second classifier inside a network, trained with its own weight in the loss and not used afterwards.

    Its arrays are parameters, but its FLOPs are not part of the network's forward pass.
    """

    head: Layer
    loss_weight: float

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        return (Part("head", self.head, dims),)

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        return dataclasses.replace(self, head=parts[0])


def _renamed(members: tuple[tuple[str, Layer], ...], parts: Sequence[Layer]) -> tuple[tuple[str, Layer], ...]:
    return tuple((name, part) for (name, _), part in zip(members, parts, strict=True))


# --- layers with arrays ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """scale · x W + b along the last axis."""

    width: int
    bias: bool = True
    role: Role = "hidden"
    init: Initializer = Initializer("lecun")
    group: str = "hidden"
    term: str = "hidden"
    scale: float = 1.0
    division: Division = "columns"

    def output(self, dims: Dims) -> Dims:
        return (*dims[:-1], self.width)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        kernel = Weight(
            (dims[-1], self.width), self.group, self.role, dims[-1], self.width, True, division=self.division
        )
        return {"kernel": kernel} | ({"bias": Weight((self.width,), self.group)} if self.bias else {})

    def flops(self, dims: Dims) -> dict[str, float]:
        return {self.term: 2.0 * math.prod(dims) * self.width}


@dataclasses.dataclass(frozen=True)
class Norm(Layer):
    """Normalisation with a gain, and a bias except for `rms`.

    `batch` over examples and places, `layer` and `rms` over channels, `group` over places and groups of channels.
    """

    kind: Literal["batch", "layer", "group", "rms"]
    epsilon: float = 1e-5
    num_groups: int = 32
    use_gain: bool = True
    group: str = "norm"

    def weights(self, dims: Dims) -> dict[str, Weight]:
        vector = Weight((dims[-1],), self.group)
        gain = {"scale": vector} if self.use_gain else {}
        return gain | ({} if self.kind == "rms" else {"bias": vector})

    def groups_of(self, channels: int) -> int:
        """Returns the largest divisor of the channels that is at most `num_groups`."""
        return next(count for count in range(min(self.num_groups, channels), 0, -1) if channels % count == 0)

    def flops(self, dims: Dims) -> dict[str, float]:
        """Returns 7 an element (mean, difference, square, variance, division, gain, bias), 4 for `rms`."""
        return {"norm": (4.0 if self.kind == "rms" else 7.0) * math.prod(dims)}


# --- layers without arrays ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """An element-wise nonlinearity."""

    kind: str


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Zeroes a share of the elements in training, and scales the rest up."""

    rate: float


@dataclasses.dataclass(frozen=True)
class GlobalPool(Layer):
    """Mean over all places: [H, W, C] or [T, D] → [C]; `first` takes the first token instead, `last` the last."""

    kind: Literal["mean", "first", "last"] = "mean"

    def output(self, dims: Dims) -> Dims:
        return dims[-1:]


@dataclasses.dataclass(frozen=True)
class Flatten(Layer):
    """All dims as one."""

    def output(self, dims: Dims) -> Dims:
        return (math.prod(dims),)


# --- walking --------------------------------------------------------------------------------------------------------


class Visit(NamedTuple):
    """A layer with arrays or FLOPs of its own, met on a walk through a network.

    Attributes:
      path: names from the root; a repeated layer's is NAME_0 for the first copy.
      layer, dims: what it is, and the dims that reach it.
      copies: how many there are.
      in_branch: whether it lies in the branch of a residual layer.
      in_auxiliary: whether it belongs to an auxiliary classifier.
    """

    path: tuple[str, ...]
    layer: Layer
    dims: Dims
    copies: int
    in_branch: bool
    in_auxiliary: bool


def walk(root: Layer, dims: Dims, *, expand: bool = False) -> Iterator[Visit]:
    """Yields the layers with arrays or FLOPs of their own in forward order; with `expand`, every copy of one."""
    yield from _walk(Visit((), root, dims, 1, in_branch=False, in_auxiliary=False), expand)


def _walk(at: Visit, expand: bool) -> Iterator[Visit]:
    for part in at.layer.parts(at.dims):
        inside = at._replace(
            layer=part.layer,
            dims=part.dims,
            in_branch=at.in_branch or (isinstance(at.layer, Residual) and part.name == "branch"),
            in_auxiliary=at.in_auxiliary or isinstance(at.layer, Auxiliary),
        )
        repeated = isinstance(at.layer, Repeat)
        for copy in range(part.copies if expand else 1):
            name = f"{part.name}_{copy}" if repeated else part.name
            copies = at.copies if expand else at.copies * part.copies
            yield from _walk(inside._replace(path=(*at.path, name), copies=copies), expand)
    if at.layer.weights(at.dims) or at.layer.flops(at.dims):
        yield at
