"""Core layers count by arithmetic: outputs, arrays and FLOPs are those computed by hand, and a walk meets them all."""

import pytest

from scaling.models.layers import core
from scaling.models.layers.core import (
    Auxiliary,
    Branches,
    Dense,
    Flatten,
    Norm,
    Repeat,
    Residual,
    sequential,
    walk,
)
from tests.scaling.models.layer_examples import CORE, counted_arrays, counted_flops, kinds_in


def test_every_layer_has_an_example():
    assert {type(example.layer) for example in CORE.values()} == set(kinds_in(core))


@pytest.mark.parametrize("name", CORE)
def test_outputs_arrays_and_flops_are_those_computed_by_hand(name):
    layer, dims, output, arrays, flops = CORE[name]
    assert layer.output(dims) == output
    assert counted_arrays(layer, dims) == arrays
    assert counted_flops(layer, dims) == flops


@pytest.mark.parametrize("name", CORE)
def test_a_container_with_its_own_parts_is_itself(name):
    layer, dims, *_ = CORE[name]
    assert layer.with_parts([part.layer for part in layer.parts(dims)]) == layer


def test_other_parts_take_the_places_of_the_old_ones():
    layer = Residual(Dense(4), Dense(4, bias=False)).with_parts([Dense(8), Dense(8)])
    assert [part.name for part in layer.parts((4,))] == ["branch", "shortcut"]
    assert layer.output((4,)) == (8,)
    with pytest.raises(ValueError, match="shorter"):
        sequential(first=Dense(1), second=Dense(2)).with_parts([Dense(3)])


def test_a_matrix_knows_its_fans_and_a_vector_has_none():
    weights = Dense(5, role="input", group="first").weights((3, 4))
    assert weights["kernel"] == ((4, 5), "first", "input", 4, 5, True, 1.0, "columns")
    assert weights["bias"] == ((5,), "first", "vector", 1, 1, False, 1.0, "vector")
    assert weights["kernel"].size == 20


def test_branches_that_cannot_be_joined_are_refused():
    with pytest.raises(ValueError, match=r"end in \[\(24,\), \(2, 3, 5\)\], which cannot be joined"):
        Branches((("a", Flatten()), ("b", Dense(5)))).output((2, 3, 4))


def test_a_norm_takes_the_most_groups_that_divide_the_channels():
    assert [Norm("group").groups_of(channels) for channels in (64, 48, 17, 33)] == [32, 24, 17, 11]


def test_a_walk_knows_copies_branches_and_auxiliary_classifiers():
    network = sequential(
        blocks=Repeat("block", Residual(sequential(inner=Dense(4))), 3), side=Auxiliary(Dense(2), 0.3), head=Dense(5)
    )
    visits = {"/".join(visit.path): visit for visit in walk(network, (4,))}
    assert {path: visit.copies for path, visit in visits.items()} == {
        "blocks/block_0/branch/inner": 3,
        "side/head": 1,
        "head": 1,
    }
    assert [visit.in_branch for visit in visits.values()] == [True, False, False]
    assert [visit.in_auxiliary for visit in visits.values()] == [False, True, False]
    each = ["/".join(visit.path) for visit in walk(network, (4,), expand=True)]
    assert each[:3] == [f"blocks/block_{copy}/branch/inner" for copy in range(3)]


def test_repeats_inside_repeats_multiply():
    network = Repeat("outer", Repeat("inner", Dense(4), 3), 2)
    (visit,) = walk(network, (4,))
    assert visit.copies == 6
    assert len({visit.path for visit in walk(network, (4,), expand=True)}) == 6
