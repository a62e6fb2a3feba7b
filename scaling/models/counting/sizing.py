"""From a parameter count to a shape: the nearest one on a family's ladder of shapes, found without making an array."""

import functools
import math
import sys
from collections.abc import Callable
from typing import Literal, assert_never

from scaling.models.counting.params import count_by_convention
from scaling.models.layers.core import Layer
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.models import Aspect, NetworkSpec
from scaling.specs.task import TaskShape

# A request that no shape meets within this factor is refused, not rounded.
MAX_MISS = 1.5

# (smallest width, multiple): widths that accelerators like, from where keeping to them costs under 2 %. At one depth N
# follows the square of the width, so a multiple g moves N by g / width at most; where depth is free it makes up for
# most of that, and multiples may start earlier.
MULTIPLES_AT_ONE_DEPTH = ((6400, 128), (3200, 64))
MULTIPLES_WITH_FREE_DEPTH = ((4096, 128), (2048, 64))

# Where neighbouring shapes that follow the aspect rule differ by more than this, shapes of other depths fill in: the
# nearest to the rule first, further ones only where a gap is left.
FINE_STEP = 1.04
DEPTH_FACTORS = ((1.0,), (0.9, 1.1), (0.8, 1.25), (0.65, 1.5))

MAX_WIDTH, MAX_DEPTH = 2**31, 2**16


def find_shape(
    spec: NetworkSpec,
    task: TaskShape,
    layers: Callable[[Shape], Layer],
    *,
    admits: Callable[[int], bool] = lambda width: True,
    published: tuple[int, int] = (64, 4),
) -> Shape:
    """Returns the shape that a specification asks for.

    All shapes of one specification form a fixed ladder: every admitted width with the depth that the aspect rule gives
    it, and other depths where that alone would be coarse. The nearest rung to the request is taken, so a larger request
    never gets a smaller network.

    Args:
      spec: with `width` (taken as it is) or `num_params` and the aspect rule.
      task: what the network must fit.
      layers: the family's function from a shape to its network.
      admits: whether the family can have this width (heads must divide it, say).
      published: width and depth where the `compound` rule starts.

    Raises:
      InputError: the width is not admitted, or the nearest network is more than MAX_MISS from the request.
    """
    bare = spec.model_copy(update={"num_params": None, "width": None})
    own_depth: int | None = getattr(spec, "depth", None)
    aspect: Aspect = getattr(spec, "aspect", "fixed_depth")
    if spec.width is not None and not admits(spec.width):
        near = [width for width in range(max(1, spec.width // 2), spec.width * 2) if admits(width)]
        nearest = min(near, key=lambda width: abs(width - spec.width)) if near else "none near it"  # type: ignore[operator]
        raise InputError(f"model.width={spec.width}: a {_kind(spec)} cannot have it; the nearest it can is {nearest}")
    if spec.num_params is None:
        assert spec.width is not None  # noqa: S101  (NetworkSpec requires one of the two)
        return Shape(bare, task, spec.width, 1 if own_depth is None else own_depth, layers)
    request = spec.num_params

    @functools.cache
    def count(width: int, depth: int) -> int:
        return count_by_convention(Shape(bare, task, width, depth, layers), spec.convention)

    def rungs(depth_of: Callable[[int], int]) -> list[tuple[int, int]]:
        found = around(lambda w: count(w, depth_of(w)), request, lambda w: is_preferred(w, multiples) and admits(w))
        return [(width, depth_of(width)) for width in found]

    multiples = MULTIPLES_AT_ONE_DEPTH if aspect == "fixed_depth" else MULTIPLES_WITH_FREE_DEPTH
    if aspect == "fixed_width":
        width = spec.width
        assert width is not None  # noqa: S101  (NetworkSpec requires it)
        depths = around(lambda depth: count(width, depth), request, lambda depth: True, MAX_DEPTH)
        candidates = [(width, depth) for depth in depths]
    elif aspect == "fixed_depth":
        candidates = rungs(lambda width: own_depth)  # type: ignore[arg-type,return-value]
    else:
        ideal = _ideal_depth(spec, aspect, published)
        candidates, low, high = [], 0, sys.maxsize
        for factors in DEPTH_FACTORS:
            for factor in factors:
                found = rungs(lambda width, f=factor: max(1, round(f * ideal(width))))  # type: ignore[misc]
                candidates += [rung for rung in found if low <= count(*rung) <= high]
            low = max((count(*rung) for rung in candidates if count(*rung) <= request), default=0)
            high = min((count(*rung) for rung in candidates if count(*rung) >= request), default=sys.maxsize)
            if high <= FINE_STEP * low:
                break
    best = min(candidates, key=lambda rung: abs(count(*rung) - request))
    nearest_count = count(*best)
    if max(nearest_count / request, request / nearest_count) > MAX_MISS:
        which = "smallest" if all(count(*rung) > request for rung in candidates) else "nearest"
        raise InputError(
            f"model.num_params={request}: the {which} {_kind(spec)} for this task has {nearest_count} parameters "
            f"({spec.convention}); ask for about that, or change depth, aspect or task"
        )
    return Shape(bare, task, *best, layers)


def _kind(spec: NetworkSpec) -> str:
    return str(getattr(spec, "kind", "network"))


def is_preferred(width: int, multiples: tuple[tuple[int, int], ...] = MULTIPLES_AT_ONE_DEPTH) -> bool:
    """Returns whether accelerators like a width.

    >>> [is_preferred(width) for width in (100, 3250, 3264, 6464, 6528)]
    [True, False, True, False, True]
    """
    return all(width < start or width % multiple == 0 for start, multiple in multiples)


def _ideal_depth(
    spec: NetworkSpec, aspect: Literal["kaplan", "levine", "compound"], published: tuple[int, int]
) -> Callable[[int], float]:
    """Returns the aspect rule as a function from width to depth."""
    match aspect:
        case "kaplan":
            ratio: float = spec.aspect_ratio  # type: ignore[attr-defined]
            return lambda width: width / ratio
        case "levine":  # ln D = 5.039 + 0.0555 L (Levine et al. 2020, eq. 11); below e^5.039 there is one layer
            return lambda width: (math.log(width) - 5.039) / 0.0555
        case "compound":  # depth grows as 1.2^φ while width grows as 1.1^φ (Tan & Le 2019)
            return lambda width: published[1] * (width / published[0]) ** (math.log(1.2) / math.log(1.1))
        case _:
            assert_never(aspect)


def around(
    count: Callable[[int], int], request: int, admits: Callable[[int], bool], largest: int = MAX_WIDTH
) -> list[int]:
    """Returns the largest admitted value that counts at most the request and the next one; count must not fall."""

    def down(value: int) -> int | None:
        return next((v for v in range(value, 0, -1) if admits(v)), None)

    def up(value: int) -> int:
        return next(v for v in range(value, 4 * largest) if admits(v))

    low, high = 0, up(1)
    while count(high) <= request and high < largest:
        # N grows with a power of the width between 1 and 2; aim a little beyond where the steeper one would arrive.
        grown = int(high * max(1.05 * math.sqrt(request / count(high)), 1.05)) + 1
        low, high = high, up(min(grown, largest))
    while True:  # low counts at most the request, or is 0; high counts more
        middle = down((low + high) // 2)
        if middle is None or middle <= low:
            middle = up(low + 1)
            if middle >= high:
                break
        low, high = (middle, high) if count(middle) <= request else (low, middle)
    return [value for value in (low, high) if value]
