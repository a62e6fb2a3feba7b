"""A user's network as a layer: arrays by path, and FLOPs of the whole."""

from scaling.models.layers.core import Weight, walk
from scaling.models.layers.traced import nest_arrays


def test_arrays_are_visited_under_their_paths_and_flops_once():
    weights = {("first", "kernel"): Weight((4, 8), "hidden"), ("scale",): Weight((8,), "norm")}
    root = nest_arrays(weights, terms=(("first", 64.0, 128.0),))
    visits = list(walk(root, (4,), expand=True))
    paths = {
        (*visit.path, name): weight for visit in visits for name, weight in visit.layer.weights(visit.dims).items()
    }
    assert paths == weights
    assert [visit.layer.flops(visit.dims) for visit in visits if visit.layer.flops(visit.dims)] == [{"first": 64.0}]
    assert root.train_flops((4,)) == {"first": 128.0}
    assert root.with_parts([part.layer for part in root.parts((4,))]) == root
