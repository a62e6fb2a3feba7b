"""Xception networks: the published count to the last parameter, any image that they can take, and sizes by request."""

import dataclasses

import numpy as np
import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_params
from scaling.models.families import xception
from scaling.models.layers.core import Norm, Residual, Sequential, walk
from scaling.models.layers.image import Conv, Pool
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.models import XceptionSpec
from scaling.specs.task import image_task, token_task


def num_params(shape: Shape) -> int:
    return sum(count_params(shape).values())


def published() -> Shape:
    return xception.shape(*xception.PRESETS["xception"])


def make(**fields) -> Shape:
    return xception.shape(XceptionSpec(**{"width": 2048} | fields), xception.TASK)


def visits(shape: Shape, kind: type) -> list:
    return [visit for visit in walk(make_layers(shape), shape.task.dims) if isinstance(visit.layer, kind)]


def residuals(layer, dims) -> list:
    """Returns the residual layers of a tree, each with the dims that reach it."""
    found = [(layer, dims)] if isinstance(layer, Residual) else []
    return found + [inside for part in layer.parts(dims) for inside in residuals(part.layer, part.dims)]


def test_the_published_network_has_its_published_parameters_and_macs():
    assert num_params(published()) == 22_855_952
    assert sum(count_flops(published()).forward.values()) / 2 == 8_357_403_496


def test_the_published_network_has_kerass_arrays_and_grids():
    tree, dims = make_layers(published()), (299, 299, 3)
    grids = {part.name: part.layer.output(part.dims) for part in tree.parts(dims)}
    assert grids["stem"] == (147, 147, 64)
    assert grids["entry"] == grids["middle"] == (19, 19, 728)
    assert grids["exit"] == (10, 10, 2048)
    # Keras lists 34 separable, 2 stem and 4 shortcut convolutions; one norm for each.
    assert sum(visit.copies for visit in visits(published(), Norm)) == 34 + 2 + 4
    assert {visit.layer.epsilon for visit in visits(published(), Norm)} == {1e-3}


def test_every_image_from_the_smallest_on_fits():
    for side in (*range(xception.SMALLEST_SIDE, 80), 299):
        task = dataclasses.replace(image_task(side, 10), image_shape=(side, side + 5, 1))
        assert num_params(xception.shape(XceptionSpec(width=256), task)) > 0


def test_too_small_an_image_is_refused_with_the_smallest_side():
    with pytest.raises(InputError, match=r"kind=xception needs images of side 7 or more, but these have 6; choose"):
        xception.shape(XceptionSpec(width=2048), image_task(6, 10))
    bare = Shape(
        XceptionSpec(width=2048), image_task(6, 10), 2048, 8, xception.layers
    )  # and rightly so: the stem does not fit
    with pytest.raises(InputError, match="smaller than the window"):
        count_params(bare)


def test_examples_that_are_no_images_are_refused():
    with pytest.raises(InputError, match="kind=xception needs images, but these examples are tokens"):
        xception.shape(XceptionSpec(width=2048), token_task(50, 16))


def test_sizes_meet_the_request_and_grow_with_it():
    found = []
    for request in np.geomspace(1e4, 1e11, 29):
        shape = make(width=None, num_params=int(request))
        found.append(num_params(shape))
        others = [num_params(dataclasses.replace(shape, width=shape.width + step)) for step in (-1, 1)]
        assert all(abs(found[-1] - request) <= abs(other - request) for other in others) or shape.width > 3200
        assert found[-1] == pytest.approx(request, rel=0.03)
    assert found == sorted(found)


def test_parameters_grow_with_every_channel_of_width():
    counts = [num_params(make(width=width)) for width in range(1, 2100, 7)]
    assert all(np.diff(counts) >= 0)
    assert counts[-1] > 100 * counts[0]


def test_finding_a_size_builds_few_networks():
    for request in (100_000, 10**7, 10**9, 10**11):
        make_layers.cache_clear()
        make(width=None, num_params=request)
        assert make_layers.cache_info().misses <= 30


def test_depth_is_the_modules_of_the_middle_flow():
    counts = [num_params(make(depth=depth)) for depth in (1, 2, 3, 1003)]
    module = 3 * (9 * 728 + 728 * 728 + 2 * 728)
    assert list(np.diff(counts)) == [module, module, 1000 * module]


def test_compound_scaling_starts_at_the_published_network():
    spec = XceptionSpec(num_params=22_855_952, aspect="compound", dropout=0.5)
    found = xception.shape(spec, image_task(299, 1000))
    assert (found.width, found.depth) == (2048, 8)
    assert make(width=None, num_params=10**9, aspect="compound").depth > 30


def test_shortcuts_are_projections_where_the_size_changes_and_identities_in_the_middle():
    found = residuals(make_layers(make()), xception.TASK.dims)
    assert len(found) == 5  # the eight alike of the middle flow are one
    for layer, dims in found:
        changes = layer.branch.output(dims) != dims
        assert (layer.shortcut is not None) == changes
        assert layer.shortcut is None or layer.shortcut.output(dims) == layer.branch.output(dims)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group", "rms"])
def test_branches_end_in_a_norm_a_convolution_or_a_pool(normalization):
    for layer, _ in residuals(make_layers(make(normalization=normalization)), xception.TASK.dims):
        last = layer.branch
        while isinstance(last, Sequential):
            last = last.members[-1][1]
        assert isinstance(last, Norm | Conv | Pool)


def test_without_residuals_the_modules_stay_and_the_shortcuts_go():
    with_, without = make(), make(residual=False)
    assert residuals(make_layers(without), xception.TASK.dims) == []
    projections = ((64, 128), (128, 256), (256, 728), (728, 1024))
    assert num_params(with_) - num_params(without) == sum(into * out + 2 * out for into, out in projections)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group", "rms"])
def test_convolutions_have_biases_only_where_nothing_normalizes(normalization):
    convs = [visit.layer for visit in visits(make(normalization=normalization), Conv)]
    norms = [visit.layer for visit in visits(make(normalization=normalization), Norm)]
    assert {conv.bias for conv in convs if not conv.depthwise} == {normalization == "none"}
    assert not any(conv.bias for conv in convs if conv.depthwise)  # the pointwise one has it for both
    assert {norm.kind for norm in norms} == {normalization} - {"none"}


def test_switches_reach_the_layers():
    convs = visits(make(initializer="glorot"), Conv)
    assert {visit.layer.init.kind for visit in convs} == {"glorot"}
    inits = {visit.path[-1]: visit.layer.init.kind for visit in visits(make(), Conv)}
    assert inits == {"conv": "he", "depthwise": "he", "pointwise": "lecun"}
    members = dict(make_layers(make(activation="tanh", dropout=0.25)).members)
    assert members["dropout"].rate == 0.25
    assert dict(members["stem"].members)["activation_1"].kind == "tanh"
    assert "dropout" not in dict(make_layers(make()).members)


def test_the_first_matrix_is_an_input_and_the_last_an_output():
    roles = [
        (weight.role, weight.group)
        for visit in walk(make_layers(make()), xception.TASK.dims)
        for weight in visit.layer.weights(visit.dims).values()
        if weight.is_matmul
    ]
    assert roles[0] == ("input", "conv")
    assert set(roles[1:-1]) == {("hidden", "conv"), ("input", "conv")}  # depthwise kernels are no hidden matrices
    assert roles[-1] == ("output", "head")
