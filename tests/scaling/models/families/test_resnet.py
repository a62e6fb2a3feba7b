"""Residual networks: the published ones are counted exactly, and each is one point of a family of any size."""

import numpy as np
import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_params
from scaling.models.families import resnet
from scaling.models.layers.core import Activation, Layer, Norm, Residual, Sequential, walk
from scaling.models.layers.image import Conv
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.models import ResNetSpec
from scaling.specs.task import TaskShape, image_task

# Trainable parameters and multiply-adds of one example; the nets of torchvision agree with its own metadata.
PUBLISHED = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, None),
    "resnet152": (60_192_808, 11_513_626_624),
    "resnet50_v1": (25_557_032, 3_857_973_248),
    "resnet101_v1": (44_549_160, None),
    "resnet152_v1": (60_192_808, 11_282_415_616),
    "cifar_resnet20": (269_722, None),
    "cifar_resnet32": (464_154, None),
    "cifar_resnet44": (658_586, None),
    "cifar_resnet56": (853_018, None),
    "cifar_resnet110": (1_727_962, None),
    "cifar_resnet1202": (19_421_274, None),
}
TWINS = {name: name.replace("resnet", "plain") for name in PUBLISHED if not name.endswith("_v1")}

SMALL, LARGE = image_task(32, 10), image_task(224, 1000)
FAMILIES = [
    ResNetSpec(width=1),
    ResNetSpec(width=1, depth=18),
    ResNetSpec(width=1, block="bottleneck"),
    ResNetSpec(width=1, form="imagenet", depth=2, shortcut="projection"),
    ResNetSpec(width=1, form="imagenet", block="bottleneck", stages=(3, 8, 36, 3), shortcut="projection"),
]


def preset_shape(name: str) -> Shape:
    return resnet.shape(*resnet.PRESETS[name])


def num_blocks(shape: Shape) -> int:
    return sum(resnet.blocks_by_stage(shape))


def total(shape: Shape) -> int:
    return sum(count_params(shape).values())


def sized(spec: ResNetSpec, num_params: int) -> Shape:
    return resnet.shape(spec.model_copy(update={"width": None, "num_params": int(num_params)}), SMALL)


def everything(layer: Layer, dims, found=None) -> list[tuple[Layer, tuple[int, ...]]]:
    """Returns all layers, with and without arrays, in forward order."""
    found = [] if found is None else found
    for part in layer.parts(dims):
        found.append((part.layer, part.dims))
        everything(part.layer, part.dims, found)
    return found


def layers_of(shape: Shape, kind: type[Layer]) -> list[Layer]:
    return [layer for layer, _ in everything(make_layers(shape), shape.task.dims) if isinstance(layer, kind)]


def test_every_preset_is_checked():
    assert {*PUBLISHED, *TWINS.values()} == set(resnet.PRESETS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets_have_their_published_parameters_and_multiply_adds(name):
    shape = preset_shape(name)
    params, multiply_adds = PUBLISHED[name]
    assert total(shape) == params
    if multiply_adds is not None:
        assert sum(count_flops(shape).forward.values()) / 2 == multiply_adds


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_plain_twins_lack_the_shortcuts_alone(name, twin):
    shape, plain = preset_shape(name), preset_shape(twin)
    shortcuts = [
        weight.size
        for visit in walk(make_layers(shape), shape.task.dims)
        if "shortcut" in visit.path
        for weight in visit.layer.weights(visit.dims).values()
    ]
    assert not layers_of(plain, Residual)
    assert total(plain) == total(shape) - sum(shortcuts)
    assert bool(shortcuts) == (not name.startswith("cifar"))


@pytest.mark.parametrize("name", [*PUBLISHED, *TWINS.values()])
def test_the_number_in_a_name_counts_the_weighted_layers_of_the_longest_path(name):
    shape = preset_shape(name)
    number = int(name.removesuffix("_v1").removeprefix("cifar_").removeprefix("resnet").removeprefix("plain"))
    per_block = 3 if shape.spec.block == "bottleneck" else 2
    assert per_block * num_blocks(shape) + 2 == number
    copies = sum(
        visit.copies
        for visit in walk(make_layers(shape), shape.task.dims)
        if isinstance(visit.layer, Conv) and "shortcut" not in visit.path
    )
    assert copies + 1 == number


@pytest.mark.parametrize("name", ["resnet18", "resnet50_v1", "resnet152", "cifar_resnet20", "cifar_resnet1202"])
def test_a_published_net_is_what_its_family_has_at_that_size(name):
    spec, task = resnet.PRESETS[name]
    asked = spec.model_copy(update={"width": None, "num_params": PUBLISHED[name][0]})
    assert resnet.shape(asked, task).width == spec.width


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.form}-{spec.block}-{spec.depth}")
def test_more_width_and_more_depth_have_more_parameters(spec):
    bare = spec.model_copy(update={"stages": None})
    by_width = [total(Shape(spec, SMALL, width, 3, resnet.layers)) for width in range(1, 40)]
    by_depth = [total(Shape(bare, SMALL, 9, depth, resnet.layers)) for depth in range(1, 8)]
    assert by_width == sorted(by_width)
    assert by_width[-1] > 10 * by_width[0]
    assert by_depth == sorted(set(by_depth))


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.form}-{spec.block}-{spec.depth}")
def test_sizes_are_the_nearest_and_close_to_the_request(spec):
    found = []
    for request in np.geomspace(1e5, 1e11, 25).astype(int):
        shape = sized(spec, request)
        found.append(total(shape))
        miss = abs(found[-1] - request)
        if shape.width >= 64:  # a narrower first stage has too few channels to round to
            assert miss <= 0.03 * request
        if shape.width < 3000:  # above, only multiples of 64 are taken
            neighbours = [
                total(Shape(shape.spec, SMALL, w, shape.depth, shape.layers))
                for w in (shape.width - 1, shape.width + 1)
                if w
            ]
            assert miss <= min(abs(size - request) for size in neighbours)
        assert sized(spec, request) == shape
    assert found == sorted(found)


@pytest.mark.parametrize("name", ["cifar_resnet20", "resnet18"])
def test_the_compound_rule_starts_at_a_published_net(name):
    spec, task = resnet.PRESETS[name]
    asked = spec.model_copy(
        update={"width": None, "stages": None, "aspect": "compound", "num_params": PUBLISHED[name][0]}
    )
    shape = resnet.shape(asked, task)
    assert (shape.width, num_blocks(shape)) == (spec.width, num_blocks(preset_shape(name)))


@pytest.mark.parametrize("form", ["cifar", "imagenet"])
def test_the_compound_rule_grows_depth_with_width(form):
    requests = np.geomspace(1e5, 1e11, 25)
    shapes = [sized(ResNetSpec(width=1, form=form, aspect="compound"), n) for n in requests]
    sizes = [total(shape) for shape in shapes]
    assert sizes == sorted(sizes)
    assert shapes[0].depth < 3 < 100 < shapes[-1].depth
    # Below, a stage has one block or two, and there are no networks between the two.
    assert all(abs(size / n - 1) <= 0.03 for size, n in zip(sizes, requests, strict=True) if n > 6e6)


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.form}-{spec.block}-{spec.depth}")
@pytest.mark.parametrize("request_", [10**4, 10**6, 10**9, 10**11])
def test_finding_a_size_builds_few_networks(spec, request_):
    make_layers.cache_clear()
    try:
        sized(spec, request_)
    except InputError:
        assert request_ == 10**4  # some families start above
    assert make_layers.cache_info().misses <= 15


def test_the_cost_of_counting_is_independent_of_the_depth():
    shallow, deep = (resnet.shape(ResNetSpec(width=32, depth=depth), SMALL) for depth in (2, 200))
    assert len(everything(make_layers(shallow), SMALL.dims)) == len(everything(make_layers(deep), SMALL.dims))
    # One more block in each stage has two convolutions without biases and two norms.
    assert total(deep) - total(shallow) == 198 * sum(2 * (9 * c * c + 2 * c) for c in (8, 16, 32))


def test_given_stages_count_as_their_sum_of_blocks_and_their_mean_depth():
    shape = resnet.shape(ResNetSpec(width=32, stages=(3, 8, 36, 3), form="imagenet"), LARGE)
    assert num_blocks(shape) == 50
    assert shape.depth == 12
    assert num_blocks(resnet.shape(ResNetSpec(width=32, depth=5), SMALL)) == 15


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
def test_a_branch_ends_before_the_addition_and_the_activation_follows_it(block, normalization):
    shape = resnet.shape(ResNetSpec(width=32, block=block, normalization=normalization), SMALL)
    blocks = [
        layer for layer in layers_of(shape, Sequential) if dict(layer.members).keys() == {"residual", "activation"}
    ]
    assert len(blocks) == 6  # a first and a repeated one in each of three stages
    for layer in blocks:
        (_, residual), (_, activation) = layer.members
        last = residual.branch.members[-1][1].members[-1][1]
        assert isinstance(activation, Activation)
        assert isinstance(last, Conv if normalization == "none" else Norm)


@pytest.mark.parametrize("normalization", ["none", "batch", "rms"])
def test_convolutions_have_biases_only_without_norms(normalization):
    convolutions = layers_of(resnet.shape(ResNetSpec(width=32, normalization=normalization), SMALL), Conv)
    assert {convolution.bias for convolution in convolutions} == {normalization == "none"}


@pytest.mark.parametrize(("shortcut", "kinds"), [("pad", {(False, True)}), ("projection", {(True, False)})])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_only_blocks_that_change_the_size_pad_or_project(shortcut, kinds, block):
    shape = resnet.shape(ResNetSpec(width=32, block=block, shortcut=shortcut), SMALL)
    found = [
        (layer.shortcut is not None, layer.pad_shortcut, dims == layer.output(dims))
        for layer, dims in everything(make_layers(shape), SMALL.dims)
        if isinstance(layer, Residual)
    ]
    assert {(projects, pads) for projects, pads, keeps in found if keeps} == {(False, False)}
    assert {(projects, pads) for projects, pads, keeps in found if not keeps} == kinds
    assert sum(not keeps for *_, keeps in found) == (2 if block == "basic" else 3)


@pytest.mark.parametrize("side", [1, 7, 8, 28, 32, 33, 224])
@pytest.mark.parametrize("form", ["cifar", "imagenet"])
@pytest.mark.parametrize("stride_in", ["first", "middle"])
def test_branches_and_projections_agree_on_images_of_any_side(side, form, stride_in):
    spec = ResNetSpec(width=32, form=form, block="bottleneck", stride_in=stride_in, shortcut="projection")
    shape = resnet.shape(spec, image_task(side, 10))
    for layer, dims in everything(make_layers(shape), shape.task.dims):
        if isinstance(layer, Residual) and layer.shortcut is not None:
            assert layer.shortcut.output(dims) == layer.branch.output(dims)
        if isinstance(layer, Residual) and layer.shortcut is None:
            assert layer.branch.output(dims) == dims
    assert make_layers(shape).output(shape.task.dims) == (10,)


def test_roles_are_input_once_and_output_once_and_else_hidden():
    shape = resnet.shape(ResNetSpec(width=32, form="imagenet", shortcut="projection"), SMALL)
    weights = [w for v in walk(make_layers(shape), SMALL.dims) for w in v.layer.weights(v.dims).values() if w.is_matmul]
    assert [weight.role for weight in weights] == ["input", *["hidden"] * (len(weights) - 2), "output"]
    assert weights[-1].group == "head"


def test_impossible_requests_are_refused_in_one_line_with_a_remedy():
    refused = [
        (ResNetSpec(width=32, stages=(1, 2), aspect="compound"), SMALL, "leave it out for model.aspect=compound"),
        (ResNetSpec(width=32), TaskShape(16, 62, 3), "model.kind=resnet needs images"),
        (ResNetSpec(num_params=100), SMALL, r"has \d+ parameters .*; ask for"),
    ]
    for spec, task, message in refused:
        with pytest.raises(InputError, match=message) as caught:
            resnet.shape(spec, task)
        assert "\n" not in str(caught.value)
