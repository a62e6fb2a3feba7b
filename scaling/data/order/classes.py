"""Whether a subset holds two classes to tell apart, by the labels of its first examples alone."""

import weakref
from typing import Any

from scaling.data.order.subsets import draw_subset
from scaling.data.source import Source
from scaling.specs.data import DataSpec

FIRST = 64  # examples that are looked at first; then four times as many, until there are two classes

# Of each source, by how its examples are drawn: how many were looked at, and the size from which on there are two.
_seen: weakref.WeakKeyDictionary[Source, dict[Any, tuple[int, int | None]]] = weakref.WeakKeyDictionary()


def holds_two_classes(data: DataSpec, source: Source, seed: int) -> bool:
    """Returns whether the subset of a cell holds two classes, as they are labelled; so it is where there are none.

    Subsets nest, so that what was seen of one answers for those of other sizes.

    Args:
      data: checked by `check_data`.
      source: the source of the examples.
      seed: the seed of the cell.
    """
    if source.objective != "classify" or source.labels is None:
        return True
    least = _find(data, source, seed, data.size)
    return least is not None and least <= data.size


def size_of_two_classes(data: DataSpec, source: Source, seed: int) -> int | None:
    """Returns the least m, in the cell's own order, whose subset holds two classes; None where no subset does."""
    return _find(data, source, seed, data.size if data.order == "balanced" else source.size)


def _find(data: DataSpec, source: Source, seed: int, most: int) -> int | None:
    """Returns the least m up to `most`, or more where that is known, whose subset holds two classes; None for none."""
    kept, key = _seen.setdefault(source, {}), (data.order, data.label_noise, data.duplication, seed)
    looked, least = kept.get(key, (0, None))
    while least is None and looked < most:
        looked = min(max(FIRST, 4 * looked), most)
        drawn = draw_subset(data.model_copy(update={"size": looked}), source, seed)
        assert drawn.labels is not None  # noqa: S101  (the source has classes)
        labels = drawn.labels[drawn.order[:]]
        differs = labels != labels[0]
        least = int(differs.argmax()) + 1 if differs.any() else None
        kept[key] = looked, least
    return least
