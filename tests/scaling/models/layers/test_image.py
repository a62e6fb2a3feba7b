"""Layers of images count by arithmetic: outputs, arrays and FLOPs are those computed by hand."""

import pytest

from scaling.models.layers import image
from scaling.models.layers.image import Conv, windows
from scaling.specs.base import InputError
from tests.scaling.models.layer_examples import IMAGE, counted_arrays, counted_flops, kinds_in


def test_every_layer_has_an_example():
    assert {type(example.layer) for example in IMAGE.values()} == set(kinds_in(image))


@pytest.mark.parametrize("name", IMAGE)
def test_outputs_arrays_and_flops_are_those_computed_by_hand(name):
    layer, dims, output, arrays, flops = IMAGE[name]
    assert layer.output(dims) == output
    assert counted_arrays(layer, dims) == arrays
    assert counted_flops(layer, dims) == flops


def test_kernels_for_a_channel_or_a_table_are_no_matrices_from_width_to_width():
    plain, depthwise = Conv(8, (3, 3)), Conv(None, (3, 3), depthwise=True)
    table = Conv(2, (3, 3), connections=((0,), (0, 1)))
    roles = [layer.weights((6, 6, 4))["kernel"].role for layer in (plain, depthwise, table)]
    assert roles == ["hidden", "input", "input"]


def test_fans_count_what_a_place_sees_and_feeds():
    def fans(layer):
        kernel = layer.weights((6, 6, 4))["kernel"]
        return kernel.fan_in, kernel.fan_out

    assert fans(Conv(8, (3, 3))) == (4 * 9, 8 * 9)
    assert fans(Conv(8, (3, 3), groups=2)) == (2 * 9, 4 * 9)
    assert fans(Conv(None, (3, 3), depthwise=True)) == (9, 9)
    assert fans(Conv(3, (3, 3), connections=((0,), (0, 1, 2), (1, 3))))[0] == 2 * 9  # of six connections for three


def test_groups_that_divide_the_channels_unevenly_are_refused():
    with pytest.raises(InputError, match="groups=3 divides neither 4 nor 8 channels evenly; choose a divisor"):
        Conv(8, (3, 3), groups=3).weights((6, 6, 4))


@pytest.mark.parametrize("padding", ["VALID", 1])
def test_an_image_smaller_than_the_window_is_refused(padding):
    with pytest.raises(InputError, match="an input of side 2 is smaller than the window of 5; use larger images"):
        windows(2, 5, 1, padding)


def test_an_unknown_padding_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="padding='HALF' is unknown; choose 'SAME', 'VALID', 'CEIL' or a number"):
        windows(8, 3, 1, "HALF")
