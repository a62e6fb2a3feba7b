"""Published convolutional nets: their parameters and multiply-adds are counted exactly."""

import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.families import convnet
from tests.scaling.models.families.convnets import PUBLISHED, preset_shape, total


def test_every_preset_is_checked():
    assert set(PUBLISHED) == set(convnet.PRESETS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets_have_their_published_parameters_and_multiply_adds(name):
    shape = preset_shape(name)
    params, multiply_adds = PUBLISHED[name]
    assert total(shape) == params
    if multiply_adds is not None:
        assert sum(count_flops(shape).forward.values()) / 2 == multiply_adds
