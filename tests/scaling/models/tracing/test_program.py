"""What a traced program multiplies: products, convolutions, loops, branches, and where they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from scaling.models.tracing.program import read_program, tap_products
from scaling.specs.base import InputError

INPUTS = jax.ShapeDtypeStruct((4, 8), jnp.float32)


def read(function, inputs=INPUTS, **shapes):
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return read_program(lambda params, state, x: function(params, x), params, {}, inputs)


def test_a_product_is_known_by_its_parameter_through_casts_scales_and_transposes():
    def function(p, x):
        w = (0.5 * p["w"].T.astype(jnp.bfloat16)).reshape(8, 3)
        return x.astype(jnp.bfloat16) @ w

    program = read(function, w=(3, 8))
    assert program.forward == {("w",): 2.0 * 4 * 8 * 3}
    assert program.train == {("w",): 2 * 2.0 * 4 * 8 * 3}  # forward and the weight's gradient: inputs need none
    assert (program.uses[("w",)].fan_in, program.uses[("w",)].fan_out) == (8, 3)


def test_products_after_the_first_parameter_need_both_gradients_and_those_of_activations_have_no_name():
    def function(p, x):
        hidden = x @ p["first"]
        scores = hidden @ hidden.T
        return scores @ (hidden @ p["second"])

    program = read(function, first=(8, 8), second=(8, 2))
    assert program.train[("second",)] == 3 * program.forward[("second",)]
    assert program.forward[None] == 2.0 * 4 * 8 * 4 + 2.0 * 4 * 4 * 2
    assert program.train[None] == 3 * program.forward[None]


def test_loops_count_their_length_and_branches_the_dearest():
    def scanned(p, x):
        return lax.scan(lambda x, _: (jnp.tanh(x @ p["w"]), None), x, length=7)[0]

    program = read(scanned, w=(8, 8))
    assert program.forward == {("w",): 7 * 2.0 * 4 * 8 * 8}
    # The first round's input needs no gradient, but later ones do, and one program serves all.
    assert program.train == {("w",): 3 * program.forward[("w",)]}
    looped = read(lambda p, x: lax.fori_loop(0, 5, lambda _, x: x @ p["w"], x), w=(8, 8))
    assert looped.forward == {("w",): 5 * 2.0 * 4 * 8 * 8}
    branched = read(lambda p, x: lax.cond(x[0, 0] > 0, lambda x: x @ p["w"] @ p["w"], lambda x: x, x), w=(8, 8))
    assert branched.forward == {("w",): 2 * 2.0 * 4 * 8 * 8}


def test_a_loop_of_unknown_length_is_refused_only_with_products_inside():
    assert not read(lambda p, x: lax.while_loop(lambda x: (x > 1).any(), lambda x: 0.5 * x, x), w=(8, 8)).forward
    with pytest.raises(InputError, match=r"write it with jax\.lax\.scan"):
        read(lambda p, x: lax.while_loop(lambda x: (x > 1).any(), lambda x: x @ p["w"], x), w=(8, 8))


@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (2, 2, 1), (1, 1, 2)])
def test_convolutions_count_as_xla_counts_them(groups, stride, dilation):
    images = jax.ShapeDtypeStruct((2, 16, 16, 8), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 8 // groups, 6), jnp.float32)

    def convolve(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, k, (stride,) * 2, "VALID", (1, 1), (dilation,) * 2, numbers, feature_group_count=groups
        )

    program = read_program(lambda p, s, x: convolve(x, p["k"]), {"k": kernel}, {}, images)
    compiled = jax.jit(convolve).lower(images, kernel).compile()
    assert program.forward[("k",)] == pytest.approx(compiled.cost_analysis()["flops"], rel=0.01)
    assert program.uses[("k",)].fan_in == 9 * 8 // groups
    assert program.uses[("k",)].is_kernel


def test_looked_up_tables_are_no_products():
    tokens = jax.ShapeDtypeStruct((4, 8), jnp.int32)
    program = read(lambda p, x: p["table"][x], tokens, table=(32, 5))
    assert (program.forward, program.lookups) == ({}, {("table",)})
    tied = read(lambda p, x: p["table"][x] @ p["table"].T, tokens, table=(32, 5))
    assert tied.lookups == {("table",)}
    assert tied.uses[("table",)].fan_in == 5


def test_calls_inside_are_looked_into_and_what_is_not_counted_is_said():
    def function(p, x):
        block = jax.checkpoint(jax.jit(lambda x: jax.nn.relu(x @ p["w"])))
        return jnp.fft.rfft(block(x)).real

    program = read(function, w=(8, 8))
    assert program.forward == {("w",): 2.0 * 4 * 8 * 8}
    assert program.notes == {"fft": 1}


def test_train_counts_are_those_of_the_compiled_gradient():
    def loss(p, x):
        return (jnp.tanh(x @ p["first"]) @ p["second"]).sum()

    shapes = {"first": (8, 64), "second": (64, 64)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    program = read(loss, **shapes)
    compiled = jax.jit(jax.grad(lambda p, x: (loss(p, x) - 1.0) ** 2)).lower(params, INPUTS).compile()
    assert sum(program.train.values()) == pytest.approx(compiled.cost_analysis()["flops"], rel=0.1)


def test_taps_are_the_products_and_the_outputs_stay():
    def function(params, x):
        hidden = jax.nn.relu(x @ params["first"])
        return {"logits": hidden @ params["second"]}, hidden.sum()

    params = {"first": jnp.ones((8, 3)), "second": jnp.full((3, 2), 0.5)}
    x = jnp.arange(8.0).reshape(1, 8)
    (outputs, total), taps = tap_products(function, params, (x,))
    expected, expected_total = function(params, x)
    np.testing.assert_array_equal(outputs["logits"], expected["logits"])
    assert total == expected_total
    np.testing.assert_array_equal(taps[("first",)], x @ params["first"])
