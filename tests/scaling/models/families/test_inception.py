"""Inception networks: published counts to the last parameter, any image that they can take, and sizes by request."""

import dataclasses

import numpy as np
import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_params
from scaling.models.families import inception
from scaling.models.layers.core import Auxiliary, Branches, Norm, Repeat, walk
from scaling.models.layers.image import Conv, LocalResponseNorm
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.models import InceptionSpec
from scaling.specs.task import image_task, token_task

FORMS = ("googlenet", "googlenet_torchvision", "inception_v3")
TASKS = {"googlenet": inception.TASK, "googlenet_torchvision": inception.TASK, "inception_v3": image_task(96, 10)}


def preset_shape(name: str, **changes) -> Shape:
    preset = inception.PRESETS[name]
    return inception.shape(preset.spec.model_copy(update=changes), preset.task)


def num_params(shape: Shape) -> int:
    return sum(count_params(shape).values())


def num_macs(shape: Shape) -> float:
    return sum(count_flops(shape).forward.values()) / 2


def outputs(shape: Shape) -> dict:
    """Returns the dims that leave each layer of the trunk."""
    return {part.name: part.layer.output(part.dims) for part in make_layers(shape).parts(shape.task.dims)}


@pytest.mark.parametrize(
    ("name", "auxiliary", "expected"),
    [
        ("googlenet", False, 6_998_552),
        ("googlenet", True, 13_378_280),  # Caffe's bvlc_googlenet
        ("googlenet_torchvision", False, 6_624_904),
        ("googlenet_torchvision", True, 13_004_888),
        ("inception_v3", False, 23_834_568),
        ("inception_v3", True, 27_161_264),
    ],
)
def test_published_networks_have_their_published_parameters(name, auxiliary, expected):
    assert num_params(preset_shape(name, auxiliary=auxiliary)) == expected


@pytest.mark.parametrize("name", FORMS)
def test_presets_themselves_are_the_networks_of_the_reference_table(name):
    expected = {"googlenet": 6_998_552, "googlenet_torchvision": 6_624_904, "inception_v3": 27_161_264}
    assert num_params(inception.shape(*inception.PRESETS[name])) == expected[name]


def test_published_networks_have_their_published_macs():
    assert num_macs(preset_shape("googlenet")) == 1_582_671_872
    assert num_macs(preset_shape("googlenet_torchvision")) == 1_498_376_192
    assert round(num_macs(preset_shape("inception_v3")) / 1e9, 3) == 5.713


def test_published_networks_have_their_published_grids():
    googlenet = outputs(preset_shape("googlenet"))
    assert googlenet["pool_1"] == (56, 56, 64)
    assert googlenet["pool_2"] == (28, 28, 192)
    assert googlenet["module_3b"] == (28, 28, 480)
    assert googlenet["module_4e"] == (14, 14, 832)
    assert googlenet["module_5b"] == (7, 7, 1024)
    third = outputs(preset_shape("inception_v3"))
    assert third["module_5b"] == (35, 35, 256)
    assert third["module_5d"] == (35, 35, 288)
    assert third["module_6e"] == (17, 17, 768)
    assert third["reduction_7a"] == (8, 8, 1280)
    assert third["module_7c"] == (8, 8, 2048)


@pytest.mark.parametrize("name", FORMS)
def test_auxiliary_classifiers_are_counted_apart_and_not_in_the_forward_pass(name):
    bare, full = (preset_shape(name, auxiliary=auxiliary) for auxiliary in (False, True))
    counts = count_params(full)
    auxiliary = counts.pop("auxiliary")
    assert counts == count_params(bare)
    assert auxiliary == num_params(full) - num_params(bare)
    assert count_flops(full).forward == count_flops(bare).forward
    assert sum(count_flops(full).train.values()) > sum(count_flops(bare).train.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("googlenet", {"auxiliary_4a": 0.3, "auxiliary_4d": 0.3}),
        ("googlenet_torchvision", {"auxiliary_4a": 0.3, "auxiliary_4d": 0.3}),
        ("inception_v3", {"auxiliary_6e": 0.4}),
    ],
)
def test_auxiliary_classifiers_weigh_in_the_loss_as_published(name, expected):
    parts = make_layers(preset_shape(name, auxiliary=True)).parts((299, 299, 3))
    assert {part.name: part.layer.loss_weight for part in parts if isinstance(part.layer, Auxiliary)} == expected


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_image_from_the_smallest_on_fits(form, auxiliary):
    smallest = inception.V3_SMALLEST_SIDE if form == "inception_v3" else 1
    spec = InceptionSpec(width=64, form=form, auxiliary=auxiliary)
    for side in (*range(smallest, smallest + 70), 224, 299):
        for image in ((side, side, 3), (side, side + 9, 1)):
            task = dataclasses.replace(image_task(side, 10), image_shape=image)
            assert num_params(inception.shape(spec, task)) > 0
            assert min(outputs(inception.shape(spec, task))[last_module(form)]) >= 1


def last_module(form: str) -> str:
    return "module_7c" if form == "inception_v3" else "module_5b"


def test_too_small_an_image_is_refused_with_the_smallest_side():
    spec = InceptionSpec(width=2048, form="inception_v3")
    with pytest.raises(
        InputError, match=r"form=inception_v3 needs images of side 75 or more, but these have 74; choose"
    ):
        inception.shape(spec, image_task(74, 10))
    smaller = Shape(
        spec, image_task(74, 10), 2048, 1, inception.layers
    )  # and rightly so: nothing is left for the last reduction
    with pytest.raises(InputError, match="smaller than the window"):
        count_params(smaller)


def test_examples_that_are_no_images_are_refused():
    with pytest.raises(InputError, match="kind=inception needs images, but these examples are tokens"):
        inception.shape(InceptionSpec(width=1024), token_task(50, 16))


@pytest.mark.parametrize("form", FORMS)
def test_sizes_meet_the_request_and_grow_with_it(form):
    spec, task = InceptionSpec(num_params=1, form=form), TASKS[form]
    found = []
    for request in np.geomspace(1e5, 1e11, 25):
        shape = inception.shape(spec.model_copy(update={"num_params": int(request)}), task)
        found.append(num_params(shape))
        others = [num_params(dataclasses.replace(shape, width=shape.width + step)) for step in (-1, 1)]
        assert all(abs(found[-1] - request) <= abs(other - request) for other in others) or shape.width > 3200
        assert found[-1] == pytest.approx(request, rel=0.03)
    assert found == sorted(found)


@pytest.mark.parametrize("form", FORMS)
def test_parameters_grow_with_every_channel_of_width(form):
    spec = InceptionSpec(width=1, form=form)
    counts = [num_params(Shape(spec, TASKS[form], width, 1, inception.layers)) for width in range(1, 2100, 7)]
    assert all(np.diff(counts) >= 0)
    assert counts[-1] > 100 * counts[0]


@pytest.mark.parametrize("form", FORMS)
def test_finding_a_size_builds_few_networks(form):
    for request in (100_000, 10**7, 10**9, 10**11):
        make_layers.cache_clear()
        inception.shape(InceptionSpec(num_params=request, form=form), TASKS[form])
        assert make_layers.cache_info().misses <= 30


@pytest.mark.parametrize("form", FORMS)
def test_depth_adds_copies_of_each_module_on_its_own_output(form):
    shallow, *deeper = (
        Shape(InceptionSpec(width=256, form=form), TASKS[form], 256, depth, inception.layers)
        for depth in (1, 2, 3, 1001)
    )
    parts = {part.name: part for part in make_layers(deeper[1]).parts(TASKS[form].dims)}
    copies = {name.removeprefix("copies_"): part for name, part in parts.items() if isinstance(part.layer, Repeat)}
    assert len(copies) == 9
    for name, part in copies.items():
        module = parts[f"module_{name}"].layer
        assert (part.layer.member, part.layer.copies) == (module, 2)
        assert module.output(part.dims) == part.dims
    assert outputs(deeper[1])[last_module(form)] == outputs(shallow)[last_module(form)]
    one, two, three, many = map(num_params, (shallow, *deeper))
    assert three - two == two - one
    assert many - one == 1000 * (two - one)


def test_compound_scaling_starts_at_the_published_network():
    for name in FORMS:
        preset = inception.PRESETS[name]
        spec = preset.spec.model_copy(update={"width": None, "num_params": num_params(preset_shape(name))})
        found = inception.shape(spec.model_copy(update={"aspect": "compound"}), preset.task)
        assert (num_params(found), found.depth) == (num_params(inception.shape(*preset)), 1)
    spec = InceptionSpec(num_params=10**9, aspect="compound")
    assert inception.shape(spec, inception.TASK).depth > 5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group", "rms"])
def test_convolutions_have_biases_only_where_nothing_normalizes(form, normalization):
    spec = InceptionSpec(width=256, form=form, normalization=normalization, auxiliary=True)
    visits = list(walk(make_layers(Shape(spec, TASKS[form], 256, 1, inception.layers)), TASKS[form].dims))
    convs = [visit.layer for visit in visits if isinstance(visit.layer, Conv)]
    norms = [visit.layer for visit in visits if isinstance(visit.layer, Norm)]
    assert {conv.bias for conv in convs} == {normalization == "none"}
    assert len(norms) == (0 if normalization == "none" else len(convs))
    assert {norm.kind for norm in norms} == ({normalization} - {"none"})


def test_response_normalization_belongs_to_the_2014_network_alone():
    def response_norms(**fields):
        members = dict(make_layers(inception.shape(InceptionSpec(width=256, **fields), inception.TASK)).members)
        return [name for name, layer in members.items() if isinstance(layer, LocalResponseNorm)]

    assert response_norms(form="googlenet", normalization="none") == ["response_norm_1", "response_norm_2"]
    assert response_norms(form="googlenet") == []
    assert response_norms(form="googlenet_torchvision", normalization="none") == []


def test_torchvisions_networks_have_its_epsilon():
    for name in ("googlenet_torchvision", "inception_v3"):
        visits = walk(make_layers(preset_shape(name)), inception.PRESETS[name].task.dims)
        assert {visit.layer.epsilon for visit in visits if isinstance(visit.layer, Norm)} == {1e-3}


@pytest.mark.parametrize("form", FORMS)
def test_the_first_matrix_is_an_input_and_each_classifiers_last_an_output(form):
    shape = Shape(InceptionSpec(width=256, form=form, auxiliary=True), TASKS[form], 256, 2, inception.layers)
    matrices = [
        ("/".join(visit.path), weight.role, weight.shape[-1])
        for visit in walk(make_layers(shape), TASKS[form].dims)
        for weight in visit.layer.weights(visit.dims).values()
        if weight.is_matmul
    ]
    assert [path for path, role, _ in matrices if role == "input"] == ["conv_1/conv"] == [matrices[0][0]]
    ends = [path for path, role, _ in matrices if role == "output"]
    assert all(path == "head" or (path.startswith("auxiliary") and path.endswith("/head/head")) for path in ends)
    assert len(ends) == (2 if form == "inception_v3" else 3)
    assert all(width == 10 for _, role, width in matrices if role == "output")


def test_switches_reach_the_layers():
    spec = InceptionSpec(width=256, activation="tanh", initializer="glorot", dropout=0.25)
    tree = make_layers(inception.shape(spec, inception.TASK))
    convs = [visit.layer for visit in walk(tree, inception.TASK.dims) if isinstance(visit.layer, Conv)]
    assert {conv.init.kind for conv in convs} == {"glorot"}
    members = dict(tree.members)
    assert dict(members["conv_1"].members)["activation"].kind == "tanh"
    assert members["dropout"].rate == 0.25
    assert list(members)[-3:] == ["pool", "dropout", "head"]
    assert "dropout" not in dict(make_layers(inception.shape(InceptionSpec(width=256), inception.TASK)).members)


def test_modules_are_branches_of_the_published_shares():
    members = dict(make_layers(preset_shape("googlenet_torchvision")).members)
    module = members["module_3a"]
    assert isinstance(module, Branches)
    assert [branch.output((28, 28, 192))[-1] for _, branch in module.members] == [64, 128, 32, 32]
