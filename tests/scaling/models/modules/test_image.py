"""Modules of images: the arrays that their layers count, and the formulas that these name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.layers import image as layers
from scaling.models.layers.image import AdaptivePool, Affine, Conv, LocalResponseNorm, Pool, RadialReadout
from scaling.models.modules import core
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.specs.execution import Execution
from tests.scaling.models.layer_examples import IMAGE, kinds_in, real_arrays, real_output


def run(layer, x, **execution):
    """Returns a layer's module and what it makes of images, compiled as one."""
    module = make_module(layer, x.shape[1:], jax.random.key(0))
    context = Context(train=False, key=None, execution=Execution(**execution))
    return module, jax.jit(lambda x: module(x, context))(x)


def images(*dims):
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, *dims)), jnp.float32)


def test_layers_and_modules_are_of_the_same_kinds():
    assert set(kinds_in(layers)) <= set(core.MODULES)


@pytest.mark.parametrize("name", IMAGE)
def test_a_module_has_the_arrays_and_the_output_that_its_layer_counts(name):
    layer, dims, output, arrays, _ = IMAGE[name]
    assert real_arrays(layer, dims) == arrays
    assert real_output(layer, dims) == output


def test_each_map_of_a_table_of_connections_sees_its_own_maps_alone():
    x = images(2, 2, 2)
    module, found = run(Conv(2, (2, 2), padding="VALID", connections=((0,), (0, 1)), bias=False), x)
    first, second, third = np.asarray(module.kernel[...])  # of input maps 0, 0 and 1
    x = np.asarray(x)
    maps = (x[..., 0] * first).sum((1, 2)), (x[..., 0] * second + x[..., 1] * third).sum((1, 2))
    np.testing.assert_allclose(found[:, 0, 0], np.stack(maps, -1), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "reduce", "form"),
    [("max", np.max, "native"), ("mean", np.mean, "native"), ("sum", np.sum, "native"), ("sum", np.sum, "products")],
)
def test_pools_are_taken_window_by_window(kind, reduce, form):
    x = images(4, 6, 3)
    _, found = run(Pool(kind, 2, 2), x, convolution=form)
    tiles = np.asarray(x).reshape(2, 2, 2, 3, 2, 3)  # [B, H, h, W, w, C]
    np.testing.assert_allclose(found, reduce(tiles, axis=(2, 4)), rtol=1e-5, atol=1e-6)


def test_a_mean_counts_padded_places_only_where_it_says_so():
    x = jnp.ones((1, 2, 2, 1))
    with_zeros, without = (run(Pool("mean", 3, 1, "SAME", count_padding=count), x)[1] for count in (True, False))
    np.testing.assert_allclose(with_zeros, 4 / 9, rtol=1e-6)
    np.testing.assert_allclose(without, 1.0, rtol=1e-6)


def test_an_adaptive_pool_covers_the_image_with_overlapping_windows():
    x = images(5, 5, 1)
    _, found = run(AdaptivePool(2), x)
    np.testing.assert_allclose(found[:, 0, 1], np.asarray(x)[:, 0:3, 2:5].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_a_response_norm_divides_by_its_neighbouring_channels():
    x = images(1, 1, 4)
    _, found = run(LocalResponseNorm(size=3, alpha=0.3, beta=0.5, k=1.0), x)
    x = np.asarray(x)
    squares = np.pad(np.square(x), ((0, 0), (0, 0), (0, 0), (1, 1)))
    sums = squares[..., :-2] + squares[..., 1:-1] + squares[..., 2:]
    np.testing.assert_allclose(found, x / np.sqrt(1.0 + 0.1 * sums), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_radial_readout_is_largest_at_the_code_itself_and_the_same_everywhere(scale):
    layer = RadialReadout(10, scale)
    codes = np.random.default_rng(1998).choice([-1.0, 1.0], size=(10, 84)).astype(np.float32)
    _, found = run(layer, jnp.asarray(codes))
    assert found.argmax(axis=1).tolist() == list(range(10))
    np.testing.assert_allclose(np.diagonal(found), 0.0)
    assert not make_module(layer, (84,), jax.random.key(0))._layer.weights((84,))  # nothing is learnt


def test_a_bias_by_place_differs_from_place_to_place():
    x = jnp.zeros((2, 2, 2, 1))
    module, _ = run(Affine(by_place=True), x)
    module.bias[...] = jnp.arange(4.0).reshape(2, 2, 1)
    found = module(x, Context(train=False, key=None))
    assert found[1, :, :, 0].tolist() == [[0.0, 1.0], [2.0, 3.0]]
