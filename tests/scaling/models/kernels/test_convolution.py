"""Convolutions, pools and batch normalisation as matrix products equal XLA's and Flax's, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.models.kernels.convolution import batch_norm, convolve, max_pool, mean_pool, relu, subsample
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.specs.execution import Execution
from scaling.specs.models import ConvNetSpec, ResNetSpec
from scaling.specs.task import TaskShape

CASES = {
    "same": ((2, 7, 6, 4), (3, 3, 4, 5), 1, "SAME", 1),
    "even window": ((2, 7, 6, 4), (2, 4, 4, 5), 1, "SAME", 1),
    "valid": ((2, 9, 8, 4), (3, 2, 4, 5), 1, "VALID", 1),
    "one side longer": ((2, 5, 9, 4), (1, 5, 4, 4), 1, "SAME", 1),
    "more padding than window": ((2, 6, 6, 4), (3, 3, 4, 4), 1, 3, 1),
    "whole image": ((2, 5, 5, 4), (5, 5, 4, 7), 1, "VALID", 1),
    "one channel": ((2, 8, 8, 1), (5, 5, 1, 3), 1, 2, 1),
    "place by place": ((2, 5, 5, 4), (1, 1, 4, 6), 1, "SAME", 1),
    "strided": ((2, 9, 8, 4), (3, 3, 4, 5), 2, 1, 1),
    "strided place by place": ((2, 9, 8, 4), (1, 1, 4, 5), 2, 0, 1),
    "large window": ((2, 13, 13, 3), (7, 7, 3, 4), 2, 3, 1),
    "groups": ((2, 7, 7, 6), (3, 3, 2, 9), 1, 1, 3),
    "strided groups": ((2, 7, 7, 6), (3, 3, 3, 4), 2, "SAME", 2),
    "depthwise": ((2, 7, 7, 4), (3, 3, 1, 4), 1, "SAME", 4),
    "strided depthwise": ((2, 7, 7, 4), (3, 3, 1, 4), 2, 1, 4),
    "two maps a channel": ((2, 7, 7, 4), (3, 3, 1, 8), 1, 1, 4),
}
IMAGES = TaskShape(784, None, 10, (28, 28, 1))


def normal(seed, shape, dtype=np.float32):
    """Returns an array of NumPy's: JAX would compile a program for each shape."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def value_and_gradients(function, *arguments):
    """Returns a function's value and the gradients of one random sum of it."""

    @jax.jit
    def run(*arguments):
        y, pull_back = jax.vjp(function, *arguments)
        return y, *pull_back(normal(9, y.shape, y.dtype))

    return run(*arguments)


def assert_close(ours, theirs, tolerance=2e-5):
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(np.float32(one), np.float32(other), atol=tolerance * (1 + np.abs(other).max()))


@pytest.mark.parametrize("case", CASES)
def test_products_have_the_value_and_the_gradients_of_xlas_convolution(case):
    images, window, stride, padding, groups = CASES[case]
    x, kernel, bias = normal(0, images), normal(1, window), normal(2, window[-1:])

    def gradients(form):
        return value_and_gradients(
            lambda x, kernel, bias: convolve(x, kernel, stride, padding, groups, form, bias), x, kernel, bias
        )

    assert_close(gradients("products"), gradients("native"))


SLOW_CASES = [pytest.param(case, marks=pytest.mark.slow) for case in ("strided", "groups", "depthwise")]


@pytest.mark.parametrize("case", ["same", *SLOW_CASES])
def test_a_population_convolves_as_its_members_do(case):
    images, window, stride, padding, groups = CASES[case]
    x, kernel = normal(0, (3, *images)), normal(1, (3, *window))

    def gradients(x, kernel):
        return value_and_gradients(
            lambda x, kernel: convolve(x, kernel, stride, padding, groups, "products"), x, kernel
        )

    together = jax.jit(jax.vmap(gradients))(x, kernel)
    for member in range(3):
        assert_close([found[member] for found in together], gradients(x[member], kernel[member]))


@pytest.mark.parametrize("case", ["same", "strided", "groups", "depthwise"])
def test_bfloat16_stays_and_is_as_near_as_rounding_allows(case):
    images, window, stride, padding, groups = CASES[case]
    x, kernel = normal(0, images, jnp.bfloat16), normal(1, window, jnp.bfloat16)

    def gradients(x, kernel, form):
        return value_and_gradients(lambda x, kernel: convolve(x, kernel, stride, padding, groups, form), x, kernel)

    ours = gradients(x, kernel, "products")
    assert all(found.dtype == jnp.bfloat16 for found in ours)
    assert_close(ours, gradients(x, kernel, "native"), tolerance=2e-2)


@pytest.mark.parametrize(("side", "window", "padding"), [(6, 2, "VALID"), (7, 2, "VALID"), (7, 3, 1), (7, 2, "CEIL")])
def test_pools_side_by_side_are_xlas_pools_and_ties_go_to_the_first(side, window, padding):
    x = np.round(normal(0, (2, side, side, 3)))  # few values, so that many windows hold equal maxima
    sides = {"CEIL": [(0, -side % window)] * 2, 1: [(1, 1)] * 2}.get(padding, padding)
    shape = (window, window)
    ours = value_and_gradients(lambda x: max_pool(x, window, padding), x)
    assert_close(ours, value_and_gradients(lambda x: nnx.max_pool(x, shape, shape, sides), x), 1e-6)
    ours = value_and_gradients(lambda x: mean_pool(x, window, padding), x)
    assert_close(ours, value_and_gradients(lambda x: nnx.avg_pool(x, shape, shape, sides), x), 1e-6)


def test_of_equal_maxima_one_gets_the_whole_gradient():
    gradient = jax.grad(lambda x: max_pool(x, 2, "VALID").sum())(jnp.zeros((1, 2, 2, 1)))
    assert gradient.ravel().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_fast_relu_is_flaxs():
    x = jnp.array([-1.0, 0.0, 2.0])
    assert_close(value_and_gradients(relu, x), value_and_gradients(nnx.relu, x), 0.0)


@pytest.mark.parametrize("has_gain", [True, False])
def test_batch_normalisation_has_the_formulas_values_statistics_and_gradients(has_gain):
    x, gain, bias = 3 + 2 * normal(0, (4, 5, 5, 3)), normal(1, (3,)), normal(2, (3,))

    def formula(x, gain, bias):
        mean, variance = (found.reshape(1, 1, 1, 3) for found in (x.mean((0, 1, 2)), x.var((0, 1, 2))))
        normal = (x - mean) / jnp.sqrt(variance + 1e-3)
        return (normal * gain.reshape(1, 1, 1, 3) if has_gain else normal) + bias.reshape(1, 1, 1, 3)

    def ours(x, gain, bias):
        return batch_norm(x, gain if has_gain else None, bias, 1e-3)[0]

    assert_close(value_and_gradients(ours, x, gain, bias), value_and_gradients(formula, x, gain, bias))
    _, mean, variance = batch_norm(x, gain, bias, 1e-3)
    assert_close((mean, variance), (x.mean((0, 1, 2)), x.var((0, 1, 2))))


def test_a_shortcut_without_parameters_skips_places_and_puts_its_channels_in_the_middle():
    x = normal(0, (2, 5, 5, 4))
    expected = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 3)))
    np.testing.assert_array_equal(subsample(x, 2, 9), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        ConvNetSpec(form="lenet5_dense", width=84, activation="tanh"),
        ConvNetSpec(width=32),
        ResNetSpec(width=16, depth=1),
        ResNetSpec(width=16, depth=1, shortcut="projection"),
    ],
    ids=["lenet", "vgg", "resnet", "projections"],
)
def test_a_network_has_the_same_outputs_gradients_and_statistics_in_products_and_natively(spec):
    shape = make_shape(spec, IMAGES)
    x = normal(0, (4, 784))

    def found(form):
        model = build(shape, Execution(convolution=form))
        variables = model.init(jax.random.key(0))

        def loss(params):
            outputs, state = model.apply({**variables, "params": params}, x, train=True, key=jax.random.key(1))
            return jnp.square(outputs.logits).sum(), (outputs.logits, state)

        gradients, (logits, state) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        evaluated, _ = model.apply(variables, x, train=False, key=None)
        return [logits, evaluated.logits, *jax.tree.leaves(state), *jax.tree.leaves(gradients)]

    assert_close(found("products"), found("native"), 2e-4)


def test_the_execution_decides_which_convolution_runs():
    shape = make_shape(ConvNetSpec(width=16), IMAGES)
    for form, is_native in (("native", True), ("products", False), ("auto", jax.default_backend() != "cpu")):
        model = build(shape, Execution(convolution=form))
        variables = jax.eval_shape(model.init, jax.random.key(0))
        images = jax.ShapeDtypeStruct((2, 784), jnp.float32)
        program = jax.make_jaxpr(lambda v, x, model=model: model.apply(v, x, train=False, key=None)[0].logits)(
            variables, images
        )
        assert ("conv_general_dilated" in str(program)) == is_native


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("groups", "width"), [(1, 5), (4, 4)])
def test_a_convolution_of_shifted_products_is_xlas_convolution(padding, stride, groups, width):

    @jax.jit
    def both(x, kernel):
        theirs = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            padding if isinstance(padding, str) else [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return convolve(x, kernel, stride, padding, groups), theirs

    ours, theirs = both(normal(0, (2, 9, 8, 4)), normal(1, (3, 5, 4 // groups, width)))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
