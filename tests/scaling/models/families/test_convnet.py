"""Convolutional nets: the published ones are counted exactly, and each is one point of a family of any size."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_params
from scaling.models.families import convnet
from scaling.models.layers.core import Dense, Dropout, Layer, Norm, walk
from scaling.models.layers.image import Affine, Conv, Pool
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.models import ConvNetSpec
from scaling.specs.task import TaskShape, image_task
from tests.scaling.models.families.convnets import PUBLISHED, preset_shape, total

FORMS = tuple(convnet.PUBLISHED_WIDTHS)
DENSE_WIDTHS = [(form, 0) for form in FORMS] + [(form, 4096) for form in ("alexnet", "alexnet_torchvision", "vgg")]
LARGE = image_task(96, 10)


def size_at(shape: Shape, width: int, depth: int = 1) -> int:
    return total(Shape(shape.spec, shape.task, width, depth, shape.layers))


def everything(layer: Layer, dims, found=None) -> list[tuple[Layer, tuple[int, ...]]]:
    """Returns all layers, with and without arrays, in forward order."""
    found = [] if found is None else found
    for part in layer.parts(dims):
        found.append((part.layer, part.dims))
        everything(part.layer, part.dims, found)
    return found


def layers_of(shape: Shape, kind: type[Layer]) -> list[Layer]:
    return [layer for layer, _ in everything(make_layers(shape), shape.task.dims) if isinstance(layer, kind)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_net_is_what_its_family_has_at_that_size(name):
    spec, task = convnet.PRESETS[name]
    asked = spec.model_copy(update={"width": None, "num_params": PUBLISHED[name][0]})
    assert convnet.shape(asked, task).width == spec.width


def test_the_net_of_1989_has_its_published_layers():
    # LeCun et al. 1989: H1 has 1,068 and H2 2,592 free parameters; 64,660 connections count its 1,000 biases too.
    shape = preset_shape("lenet_1989")
    sizes: Counter[str] = Counter()
    for visit in walk(make_layers(shape), shape.task.dims):
        sizes[visit.path[0]] += sum(weight.size for weight in visit.layer.weights(visit.dims).values())
    assert sizes == {"h1": 1_068, "h2": 2_592, "classifier": 30 * 192 + 30 + 10 * 30 + 10}
    assert sum(count_flops(shape).forward.values()) / 2 == 64_660 - 1_000


def test_lenet5_has_its_published_layers():
    # LeCun et al. 1998, section II.B.
    shape = preset_shape("lenet5")
    sizes: Counter[str] = Counter()
    for visit in walk(make_layers(shape), shape.task.dims):
        sizes[visit.path[0]] += sum(weight.size for weight in visit.layer.weights(visit.dims).values())
    assert sizes == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "classifier": 10_164}
    assert "head" not in count_params(shape)  # its codes are fixed


def test_lenet5_has_the_same_arrays_on_the_digits_before_and_after_padding():
    spec, _ = convnet.PRESETS["lenet5_dense"]
    padded = convnet.shape(spec, image_task(28, 10, channels=1))
    assert total(padded) == 61_706
    assert sum(count_flops(padded).forward.values()) / 2 == 416_520


@pytest.mark.parametrize(("table", "num_listed"), [(convnet.C3_TABLE, 6), (convnet.H2_TABLE, 12)])
def test_a_table_of_connections_keeps_its_density_at_other_widths(table, num_listed):
    density = sum(map(len, table)) / (num_listed * len(table))
    assert convnet.connect(table, num_listed, num_listed, len(table)) == table
    for factor in (2, 7):
        grown = convnet.connect(table, num_listed, factor * num_listed, factor * len(table))
        assert sum(map(len, grown)) / (factor**2 * num_listed * len(table)) == density
    for few in range(1, num_listed):
        shrunk = convnet.connect(table, num_listed, few, len(table))
        assert all(row == tuple(sorted(set(row))) and row[-1] < few for row in shrunk)
        assert {seen for row in shrunk for seen in row} == set(range(few))


@pytest.mark.parametrize(("form", "dense_width"), DENSE_WIDTHS)
def test_more_width_and_more_depth_never_have_fewer_parameters(form, dense_width):
    shape = convnet.shape(ConvNetSpec(form=form, width=1, dense_width=dense_width), LARGE)
    by_width = [size_at(shape, width) for width in range(1, 60)]
    by_depth = [size_at(shape, 9, depth) for depth in range(1, 8)]
    assert by_width == sorted(by_width)
    assert by_width[-1] > 5 * by_width[0]
    assert by_depth == sorted(set(by_depth))


@pytest.mark.parametrize(("form", "dense_width"), DENSE_WIDTHS)
def test_sizes_are_the_nearest_and_close_to_the_request(form, dense_width):
    found = []
    task = LARGE if form.startswith("alexnet") else convnet.TASK
    for request in np.geomspace(1e5, 1e11, 25).astype(int):
        spec = ConvNetSpec(form=form, num_params=int(request), dense_width=dense_width)
        shape = convnet.shape(spec, task)
        found.append(total(shape))
        miss = abs(found[-1] - request)
        # A step of one in the width moves N by 2/width, so that half a step stays within the tolerance from 34 on.
        if shape.width >= 34:
            assert miss <= 0.03 * request
        if shape.width < 3000:  # above, only multiples of 64 are taken
            neighbours = [size_at(shape, width) for width in (shape.width - 1, shape.width + 1) if width]
            assert miss <= min(abs(size - request) for size in neighbours)
        assert convnet.shape(spec, task) == shape
    assert found == sorted(found)


def test_the_compound_rule_grows_depth_with_width():
    spec = ConvNetSpec(num_params=1, aspect="compound")
    shapes = [
        convnet.shape(spec.model_copy(update={"num_params": int(n)}), convnet.TASK) for n in np.geomspace(1e5, 1e11, 25)
    ]
    sizes = [total(shape) for shape in shapes]
    assert sizes == sorted(sizes)
    assert shapes[0].depth == 1
    assert shapes[-1].depth > 100
    start = size_at(shapes[0], 512, 2)  # the convolutions of VGG-13
    found = convnet.shape(spec.model_copy(update={"num_params": start}), convnet.TASK)
    assert (total(found), found.depth) == (start, 2)
    assert all(abs(size / n - 1) <= 0.03 for size, n in zip(sizes, np.geomspace(1e5, 1e11, 25), strict=True) if n > 1e6)


@pytest.mark.parametrize(("form", "dense_width"), DENSE_WIDTHS)
@pytest.mark.parametrize("request_", [10**6, 10**9, 10**11])
def test_finding_a_size_builds_few_networks(form, dense_width, request_):
    make_layers.cache_clear()
    convnet.shape(ConvNetSpec(form=form, num_params=request_, dense_width=dense_width), LARGE)
    assert make_layers.cache_info().misses <= 15


@pytest.mark.parametrize(("side", "num_pools", "last_side"), [(8, 2, 2), (28, 3, 3), (32, 4, 2), (224, 5, 7)])
def test_vgg_pools_as_long_as_two_places_a_side_are_left(side, num_pools, last_side):
    shape = convnet.shape(ConvNetSpec(width=64, dense_width=64), image_task(side, 10))
    assert len(layers_of(shape, Pool)) == num_pools
    first_dense = next(dims for layer, dims in everything(make_layers(shape), shape.task.dims) if type(layer) is Dense)
    assert first_dense == (last_side**2 * 64,)


def test_vgg_without_hidden_dense_layers_reads_the_mean_of_its_last_maps():
    shape = convnet.shape(ConvNetSpec(width=64), convnet.TASK)
    (head,) = layers_of(shape, Dense)
    assert (head.role, head.group, head.term) == ("output", "head", "logits")
    assert count_params(shape)["head"] == 64 * 10 + 10


@pytest.mark.parametrize("form", FORMS)
def test_roles_are_input_once_and_output_once_and_else_hidden(form):
    shape = convnet.shape(ConvNetSpec(form=form, width=32, depth=2), LARGE)
    roles = [
        weight.role
        for visit in walk(make_layers(shape), shape.task.dims, expand=True)
        for weight in visit.layer.weights(visit.dims).values()
        if weight.is_matmul
    ]
    assert roles[0] == "input"
    tables = {"input"} if form in ("lenet5", "lenet1989") else set()  # a table of kernels is no hidden matrix
    if form == "lenet5":  # its outputs are fixed
        assert set(roles[1:]) == {"hidden"} | tables
    else:
        assert set(roles[1:-1]) == {"hidden"} | tables
        assert roles[-1] == "output"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group", "rms"])
def test_every_convolution_keeps_its_bias_and_gets_the_norm(form, normalization):
    spec = ConvNetSpec(form=form, width=32, depth=2, normalization=normalization)
    shape = convnet.shape(spec, LARGE)
    convolutions, biases = layers_of(shape, Conv), [layer for layer in layers_of(shape, Affine) if layer.by_place]
    assert len(layers_of(shape, Norm)) == (0 if normalization == "none" else len(convolutions))
    assert all(convolution.bias for convolution in convolutions) == (form != "lenet1989")
    assert len(biases) == (len(convolutions) if form == "lenet1989" else 0)


@pytest.mark.parametrize(
    ("form", "dense_width", "followers"),
    [
        ("alexnet", 4096, ["hidden", "output"]),
        ("vgg", 4096, ["hidden", "output"]),
        ("alexnet_torchvision", 4096, ["hidden", "hidden"]),
        ("vgg", 0, ["output"]),
        ("lenet5_dense", 0, ["output"]),
    ],
)
def test_dropout_precedes_the_published_dense_layers(form, dense_width, followers):
    shape = convnet.shape(ConvNetSpec(form=form, width=32, dense_width=dense_width, dropout=0.5), LARGE)
    chain = [layer for layer, _ in everything(make_layers(shape), LARGE.dims) if isinstance(layer, Dropout | Dense)]
    assert [after.role for before, after in itertools.pairwise(chain) if type(before) is Dropout] == followers


def test_alexnet_has_even_channels_at_every_width():
    for width in range(1, 40):
        shape = convnet.shape(ConvNetSpec(form="alexnet", width=width), LARGE)
        assert all(layer.width % 2 == 0 for layer in layers_of(shape, Conv))


def test_the_cost_of_counting_is_independent_of_the_depth():
    shallow, deep = (convnet.shape(ConvNetSpec(width=64, depth=depth), convnet.TASK) for depth in (2, 200))
    assert len(everything(make_layers(shallow), convnet.TASK.dims)) == len(
        everything(make_layers(deep), convnet.TASK.dims)
    )
    per_stage = [9 * c * c + c for c in (8, 16, 32, 64, 64)]
    assert total(deep) - total(shallow) == 198 * sum(per_stage)


def test_impossible_requests_are_refused_in_one_line_with_a_remedy():
    refused = [
        (ConvNetSpec(form="lenet5", width=84, stages=(1, 2)), LARGE, r"model.stages=.* is for model.form=vgg"),
        (
            ConvNetSpec(width=64, stages=(1, 2), num_params=None, aspect="compound"),
            LARGE,
            "leave it out for model.aspect",
        ),
        (ConvNetSpec(form="lenet5", width=84, dense_width=10), LARGE, "model.dense_width=10 .* choose 0"),
        (
            ConvNetSpec(form="alexnet", width=256),
            image_task(32, 10),
            "model.form=alexnet: .* smaller .* model.form=vgg",
        ),
        (ConvNetSpec(form="lenet5", width=84), image_task(8, 10), "model.form=lenet5: .* larger images"),
        (ConvNetSpec(width=64), TaskShape(784, None, 10), "model.kind=convnet needs images"),
        (ConvNetSpec(num_params=10), convnet.TASK, r"has \d+ parameters .*; ask for"),
    ]
    for spec, task, message in refused:
        with pytest.raises(InputError, match=message) as caught:
            convnet.shape(spec, task)
        assert "\n" not in str(caught.value)


def test_every_form_ends_in_one_number_a_class():
    for form, dense_width in DENSE_WIDTHS:
        shape = convnet.shape(ConvNetSpec(form=form, width=32, depth=2, dense_width=dense_width), image_task(70, 7))
        assert make_layers(shape).output(shape.task.dims) == (7,)
        assert math.isfinite(sum(count_flops(shape).forward.values()))
