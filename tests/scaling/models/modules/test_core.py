"""Core modules: the arrays that their layers count, and sums that bfloat16 does not round."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.models.layers import core as layers
from scaling.models.layers.core import Initializer
from scaling.models.layers.image import Conv
from scaling.models.layers.sequence import TiedReadout
from scaling.models.modules import core
from scaling.models.modules.context import Context
from scaling.models.modules.core import ACTIVATIONS, make_module, sampler
from scaling.models.registry import make_shape
from scaling.specs.execution import Execution
from scaling.specs.models import Activation
from tests.scaling.models.layer_examples import CORE, kinds_in, real_arrays, real_output
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


def test_layers_and_modules_are_of_the_same_kinds():
    assert set(kinds_in(layers)) <= set(core.MODULES)


@pytest.mark.parametrize("name", CORE)
def test_a_module_has_the_arrays_and_the_output_that_its_layer_counts(name):
    layer, dims, output, arrays, _ = CORE[name]
    assert real_arrays(layer, dims) == arrays
    assert real_output(layer, dims) == output


def test_every_activation_that_may_be_asked_for_is_there():
    assert set(ACTIVATIONS) == set(typing.get_args(Activation))


@pytest.mark.parametrize(
    ("kind", "deviation"),
    [
        ("he", (2 / 400) ** 0.5),
        ("lecun", (1 / 400) ** 0.5),
        ("glorot", (2 / (400 + 100)) ** 0.5),
        ("uniform", (1 / 400 / 3) ** 0.5),  # of ±1 / √fan_in
        ("normal", 1.0),
        ("zeros", 0.0),
    ],
)
def test_initial_values_have_the_variance_of_their_rule(kind, deviation):
    values = np.asarray(sampler(Initializer(kind, 0.5), 400, 100)(jax.random.key(0), (400, 100)))
    assert values.std() == pytest.approx(0.5 * deviation, rel=0.02)
    assert abs(values.mean()) <= 0.01 * deviation


def test_an_auxiliary_classifier_speaks_in_training_alone():
    module = make_module(layers.Auxiliary(layers.Dense(3), 0.3), (4,), jax.random.key(0))
    x = jnp.ones((2, 4))
    for train in (True, False):
        context = Context(train=train, key=None)
        np.testing.assert_array_equal(module(x, context), x)
        assert [(weight, logits.shape) for weight, logits in context.auxiliary] == [(0.3, (2, 3))] * train


@pytest.mark.parametrize("form", ["products", "native"])
def test_a_padded_shortcut_subsamples_and_centres_its_channels_among_zeros(form):
    branch = layers.sequential(kept=Conv(5, (1, 1), stride=2, init=Initializer("zeros"), bias=False))
    module = make_module(layers.Residual(branch, pad_shortcut=True), (4, 4, 2), jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    context = Context(train=False, key=None, execution=Execution(convolution=form))
    found = np.asarray(jax.jit(lambda x: module(x, context))(jnp.asarray(x)))
    np.testing.assert_array_equal(found[..., 1:3], x[:, ::2, ::2])
    assert not found[..., [0, 3, 4]].any()
