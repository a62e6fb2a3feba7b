"""Families and published networks by name."""

import typing

import pytest

from scaling.models.registry import FAMILIES, all_presets, find_preset, make_shape
from scaling.specs.base import InputError
from scaling.specs.models import MLPSpec, ModelSpec, NetworkSpec, ResNetSpec
from scaling.specs.task import TaskShape


def test_every_specification_of_a_network_has_its_family():
    specs = typing.get_args(typing.get_args(ModelSpec)[0])
    networks = {spec.model_fields["kind"].default for spec in specs if issubclass(spec, NetworkSpec)}
    assert networks - {"module"} == set(FAMILIES)  # networks of users have none of our names


def test_no_two_families_publish_a_network_of_one_name():
    assert len(all_presets()) == sum(len(family.PRESETS) for family in FAMILIES.values())


def test_a_preset_belongs_to_the_family_that_publishes_it():
    for kind, family in FAMILIES.items():
        assert {preset.spec.kind for preset in family.PRESETS.values()} == {kind}


def test_a_shape_is_that_of_its_family():
    spec, task = MLPSpec(width=7, depth=2), TaskShape(5, None, 3)
    shape = make_shape(spec, task)
    assert (shape.width, shape.depth, shape.task, shape.layers) == (7, 2, task, FAMILIES["mlp"].layers)


def test_an_unknown_preset_is_refused_with_the_nearest():
    assert find_preset("resnet50").spec == ResNetSpec.model_validate(all_presets()["resnet50"].spec)
    with pytest.raises(InputError, match="--preset resnet_50: there is no such network; did you mean 'resnet50'"):
        find_preset("resnet_50")
