"""Core modules: the arrays that their layers count, and sums that bfloat16 does not round."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.models.layers import core as layers
from scaling.models.layers.sequence import TiedReadout
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.models.registry import make_shape
from scaling.specs.execution import Execution
from tests.scaling.models.programs import EVERY_FAMILY, gradient_program, operations


def in_bfloat16(module):
    """Returns a module with its parameters cast."""
    nnx.update(module, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), nnx.state(module, nnx.Param)))
    return module


@pytest.mark.parametrize("name", ["mlp", "mlp by proportions", "lstm"])
def test_gradients_of_readouts_are_products_of_bfloat16(name):
    for operation in operations(gradient_program(make_shape(*EVERY_FAMILY[name]), Execution(), jnp.bfloat16)):
        if "dot_general" in operation.primitive.name or "conv_general" in operation.primitive.name:
            assert {factor.aval.dtype for factor in operation.invars[:2]} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("is_tied", [False, True])
def test_logits_of_bfloat16_are_rounded_nowhere_but_in_their_factors(is_tied):
    readout = layers.Dense(300, bias=False, role="output")
    x = jax.random.normal(jax.random.key(1), (2, 8, 64), jnp.bfloat16)
    context = Context(train=False, key=None)
    if is_tied:
        kernel = jax.random.normal(jax.random.key(2), (64, 300), jnp.bfloat16)
        context = dataclasses.replace(context, table=kernel.T)
        found = make_module(TiedReadout(300, bias=False), (8, 64), jax.random.key(0))(x, context)
    else:
        module = in_bfloat16(make_module(readout, (8, 64), jax.random.key(0)))
        kernel = module.kernel[...]
        found = module(x, context)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "layer", "group", "rms"])
def test_norms_of_bfloat16_take_their_statistics_in_float32(kind):
    x = (jax.random.normal(jax.random.key(1), (64, 64)) + 8.0).astype(jnp.bfloat16)
    module = make_module(layers.Norm(kind), (64,), jax.random.key(0))
    context = Context(train=True, key=None)
    expected = module(x.astype(jnp.float32), context)
    found = in_bfloat16(module)(x, context)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-6)  # one rounding
