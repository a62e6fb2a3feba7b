"""The forms for CPUs have the values and gradients of the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from scaling.models.kernels.products import dot_general, layer_norm

LAST_WITH_FIRST = (((2,), (0,)), ((), ()))


def normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_same_gradients(mine, theirs, *arguments):
    def weighted(function):
        def total(*arguments):
            y = function(*arguments)
            return (y * normal(9, y.shape)).sum(), y

        return jax.jit(jax.value_and_grad(total, argnums=tuple(range(len(arguments))), has_aux=True))

    (_, y), gradients = weighted(mine)(*arguments)
    (_, expected), wanted = weighted(theirs)(*arguments)
    for found, true in zip([y, *gradients], [expected, *wanted], strict=True):
        np.testing.assert_allclose(found, true, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("num_outputs", [4, 9])  # the kernel's gradient is taken from the wider side
def test_a_product_has_the_values_and_gradients_of_laxs(num_outputs):
    assert_same_gradients(
        lambda x, w: dot_general(x, w, LAST_WITH_FIRST),
        lambda x, w: lax.dot_general(x, w, LAST_WITH_FIRST),
        normal(0, (3, 5, 7)),
        normal(1, (7, num_outputs)),
    )


@pytest.mark.parametrize("num_outputs", [4, 9])
def test_a_product_of_members_is_each_members_and_so_are_its_gradients(num_outputs):
    assert_same_gradients(
        jax.vmap(lambda x, w: dot_general(x, w, LAST_WITH_FIRST)),
        lambda x, w: jnp.einsum("mbtd,mdf->mbtf", x, w),
        normal(0, (2, 3, 5, 7)),
        normal(1, (2, 7, num_outputs)),
    )


def flax_layer_norm(x, gain, bias):
    graph, _ = nnx.split(nnx.LayerNorm(7, epsilon=1e-5, rngs=nnx.Rngs(0), use_fast_variance=False))
    return nnx.merge(graph, nnx.State({"scale": nnx.Param(gain), "bias": nnx.Param(bias)}))(x)


def test_layer_normalisation_has_the_values_and_gradients_of_flaxs():
    arguments = normal(0, (3, 5, 7)), normal(1, (7,)), normal(2, (7,))
    assert_same_gradients(lambda *found: layer_norm(*found, 1e-5), flax_layer_norm, *arguments)


def test_layer_normalisation_far_from_zero_does_not_lose_the_variance():
    x, gain, bias = 1000.0 + normal(0, (3, 5, 7)), normal(1, (7,)), normal(2, (7,))
    expected = layer_norm(x - 1000.0, gain, bias, 1e-5)
    np.testing.assert_allclose(layer_norm(x, gain, bias, 1e-5), expected, atol=2e-3)


def test_other_products_and_dtypes_are_left_to_lax():
    x, w = normal(0, (3, 5, 7)).astype(jnp.bfloat16), normal(1, (7, 4)).astype(jnp.bfloat16)
    assert dot_general(x, w, LAST_WITH_FIRST).dtype == jnp.bfloat16
