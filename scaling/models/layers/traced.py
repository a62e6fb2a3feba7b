"""A user's network as a layer: arrays and FLOPs as its traced program has them, not as arithmetic says."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from scaling.models.layers.core import Dims, Layer, Part, Weight


class Scale(NamedTuple):
    """Factors that a parametrisation puts on one array.

    Attributes:
      init: on its initial values.
      forward: on what the network is given in its place.
    """

    init: float = 1.0
    forward: float = 1.0


@dataclasses.dataclass(frozen=True)
class TracedModule(Layer):
    """The arrays of a module and of those inside it; the outermost one has the FLOPs of the whole, and its functions.

    Attributes:
      arrays: own arrays by name.
      members: modules inside, by name.
      terms: forward FLOPs of one example by term, and those of training.
      scales: of own arrays, where a parametrisation has factors on them.
      definition: `init` and `apply` of the whole.
    """

    arrays: tuple[tuple[str, Weight], ...] = ()
    members: tuple[tuple[str, "TracedModule"], ...] = ()
    terms: tuple[tuple[str, float, float], ...] = ()
    scales: tuple[tuple[str, Scale], ...] = ()
    definition: Any = dataclasses.field(default=None, compare=False, repr=False)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        return dict(self.arrays)

    def flops(self, dims: Dims) -> dict[str, float]:
        return {term: forward for term, forward, _ in self.terms}

    def train_flops(self, dims: Dims) -> dict[str, float]:
        return {term: train for term, _, train in self.terms}

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        return tuple(Part(name, member, dims) for name, member in self.members)

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        inside: Any = parts
        return dataclasses.replace(
            self, members=tuple((name, part) for (name, _), part in zip(self.members, inside, strict=True))
        )


def nest_arrays(weights: dict[tuple[str, ...], Weight], **whole: Any) -> TracedModule:
    """Returns a network from its arrays by path; `whole` are fields of the outermost module."""
    own = tuple((path[0], weight) for path, weight in weights.items() if len(path) == 1)
    inside: dict[str, dict[tuple[str, ...], Weight]] = {}
    for path, weight in weights.items():
        if len(path) > 1:
            inside.setdefault(path[0], {})[path[1:]] = weight
    members = tuple((name, nest_arrays(arrays)) for name, arrays in inside.items())
    return TracedModule(arrays=own, members=members, **whole)
