"""Two classes are found where a cell sees them, at every size, order and seed, and where they begin."""

import numpy as np
import pytest

from scaling.data.order import classes
from scaling.data.order.classes import holds_two_classes, size_of_two_classes
from scaling.data.order.subsets import draw_subset
from scaling.data.source import Source
from scaling.specs.data import DataSpec, DigitsSource

NUM_EXAMPLES = 600


def source_of(labels: np.ndarray, objective: str = "classify") -> Source:
    inputs = np.arange(len(labels), dtype=np.float32)[:, None]
    return Source("few", inputs, labels, inputs[:5], labels[:5], 2, objective, groups=np.arange(len(labels)) // 10)


def rare(count: int) -> Source:
    """Returns a source of which so many examples are of the second class."""
    return source_of((np.arange(NUM_EXAMPLES) < count).astype(np.int32))


def data(size: int, **changes: object) -> DataSpec:
    return DataSpec(source=DigitsSource(), size=size, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"order": order} for order in ("independent", "stratified", "balanced", "grouped")]
    + [{"label_noise": 0.02}, {"duplication": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_the_answer_is_what_the_labels_of_the_subset_say(changes, seed):
    source = rare(40 if changes.get("order") == "balanced" else 3)
    sizes = (2, 3, 70, 31, 80, 5) if changes.get("order") == "balanced" else (1, 3, 400, 63, 64, 65, 256, 257, 600, 2)
    for size in sizes:  # in no order: what was seen of one size answers for others
        drawn = draw_subset(data(size, **changes), source, seed)
        expected = len(np.unique(drawn.labels[drawn.order[:]])) == 2
        assert holds_two_classes(data(size, **changes), source, seed) == expected, size


def test_the_size_from_which_on_there_are_two_is_the_least():
    source = rare(3)
    for seed in range(5):
        least = size_of_two_classes(data(1), source, seed)
        assert holds_two_classes(data(least), source, seed)
        assert not holds_two_classes(data(least - 1), source, seed)
    assert size_of_two_classes(data(1), rare(0), 0) is None
    assert size_of_two_classes(data(1), rare(NUM_EXAMPLES), 0) is None


def test_what_has_no_classes_lacks_none():
    assert holds_two_classes(data(1), source_of(np.zeros(9, np.float32), "regress"), 0)


def test_only_first_examples_are_drawn_and_subsets_of_one_seed_once(monkeypatch):
    drawn = []

    def draw(data, source, seed):
        drawn.append((data.size, seed))
        return draw_subset(data, source, seed)

    monkeypatch.setattr(classes, "draw_subset", draw)
    source = rare(300)
    for size in (600, 100, 300):
        for seed in (0, 1):
            assert holds_two_classes(data(size), source, seed)
    assert drawn == [(64, 0), (64, 1)]
