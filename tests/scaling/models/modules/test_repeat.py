"""Blocks in a loop or computed again: no result changes, and the backward pass keeps what it should."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.layers import core as layers
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.models.modules.repeat import is_block
from scaling.models.network import abstract_variables, build
from scaling.models.registry import make_shape
from scaling.models.shape import make_layers
from scaling.specs.execution import Execution
from scaling.specs.models import LSTMSpec, MLPSpec, ResNetSpec, TransformerSpec
from scaling.specs.task import TaskShape, token_task
from tests.scaling.models.programs import (
    EVERY_FAMILY,
    NUMBERS,
    SMALL_IMAGES,
    TEXT,
    gradient_program,
    loss_under,
    operations,
)

LABELLED = TaskShape(num_features=8, vocab_size=16, num_classes=3)

# Networks with two or three copies of some block; together they have all that a block can say beside its output.
REPEATED = {
    "mlp": (MLPSpec(width=16, depth=4, residual=True, normalization="layer", dropout=0.5), NUMBERS),
    "resnet": (ResNetSpec(width=8, stages=(3, 1, 1)), SMALL_IMAGES),
    "lstm": (LSTMSpec(width=8, depth=4, residual=True, dropout=0.5), LABELLED),
    "decoder of experts": (TransformerSpec(width=16, depth=2, num_experts=4, top_k=2), TEXT),
    "encoder and decoder": (TransformerSpec(form="encoder_decoder", width=16, depth=2, dropout=0.5), TEXT),
}

LONG_TO_COMPILE = ("encoder and decoder", "resnet", "lstm", "decoder of experts")

each_repeated = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG_TO_COMPILE else ()) for name in REPEATED]
)
each_family = pytest.mark.parametrize("name", EVERY_FAMILY)

COMPUTED_AGAIN = jax.make_jaxpr(jax.checkpoint(jnp.sin))(1.0).eqns[0].primitive.name


def count(program) -> collections.Counter:
    return collections.Counter(operation.primitive.name for operation in operations(program))


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), found, expected)


# --- loops over equal blocks, and second computations ---------------------------------------------------------------


@each_repeated
def test_loops_and_second_computations_change_no_output_gradient_or_statistic(name):
    shape = make_shape(*REPEATED[name])
    variables = build(shape).init(jax.random.key(0))
    expected = None
    for remat, is_scanned in (("none", False), ("dots", True), ("full", False)):
        step = jax.value_and_grad(loss_under(shape, Execution(scan_blocks=is_scanned, remat=remat)), has_aux=True)
        found = jax.jit(step)(variables["params"], variables["state"])
        expected = expected or found
        assert_close(found, expected)


def test_a_loop_over_blocks_leaves_initial_values_as_they_are():
    shape = make_shape(*REPEATED["decoder of experts"])
    looped, plain = (build(shape, Execution(scan_blocks=on)).init(jax.random.key(0)) for on in (True, False))
    jax.tree.map(np.testing.assert_array_equal, looped, plain)


@pytest.mark.parametrize("remat", [pytest.param("none", marks=pytest.mark.slow), "full"])
def test_a_loop_compiles_its_body_once_whatever_the_depth(remat):
    def products(depth: int, is_scanned: bool) -> int:
        shape = make_shape(TransformerSpec(width=16, depth=depth), TEXT)
        return count(gradient_program(shape, Execution(scan_blocks=is_scanned, remat=remat)))["dot_general"]

    assert products(6, True) == products(2, True)
    assert products(6, False) > products(2, False)


@pytest.mark.parametrize("is_scanned", [False, True])
def test_every_copy_draws_its_own_dropout(is_scanned):
    repeat = layers.Repeat("drop", layers.Dropout(0.5), 2)
    x = jnp.ones((1, 4096))
    context = Context(train=True, key=jax.random.key(0), execution=Execution(scan_blocks=is_scanned))
    kept = make_module(repeat, (4096,), jax.random.key(0))(x, context)
    assert float((kept != 0).mean()) == pytest.approx(0.25, abs=0.03)  # one mask twice would keep half


def test_who_asks_for_taps_sees_inside_every_copy_of_a_loop():
    shape = make_shape(TransformerSpec(width=16, depth=3), TEXT)
    seen = []
    for execution in (Execution(), Execution(scan_blocks=True, remat="full")):
        taps = {}
        variables = abstract_variables(shape)
        jax.eval_shape(loss_under(shape, execution, taps=taps), variables["params"], variables["state"])
        seen.append(set(taps))
    assert seen[0] == seen[1]
    assert any("block_2/mlp/branch" in path for path in seen[0])


@pytest.mark.parametrize("execution", [Execution(scan_blocks=True), Execution(remat="full")])
def test_logits_inside_blocks_leave_the_loop_with_their_weights(execution):
    block = layers.sequential(side=layers.Auxiliary(layers.Dense(3, role="output"), 0.5), main=layers.Dense(4))
    module = make_module(layers.Repeat("block", block, 2), (4,), jax.random.key(0))
    found = []
    for each in (Execution(), execution):
        context = Context(train=True, key=None, execution=each)
        module(jnp.ones((2, 4)), context)
        found.append(context.auxiliary)
    assert_close(found[1], found[0])


# --- what the backward pass keeps -----------------------------------------------------------------------------------


def test_dots_keeps_the_products_and_full_keeps_nothing():
    # Layer norms would take their means by products on CPUs.
    shape = make_shape(TransformerSpec(width=16, depth=2, num_experts=4, top_k=2, normalization="rms"), TEXT)
    none, dots, full = (count(gradient_program(shape, Execution(remat=remat))) for remat in ("none", "dots", "full"))
    # Attention's two products have a batch, so that they are computed again; the four projections and the router are
    # not, nor are the experts' two.
    assert dots["dot_general"] - none["dot_general"] <= 2 * 2
    assert full["dot_general"] - none["dot_general"] >= 2 * 6
    assert dots["ragged_dot_general"] == none["ragged_dot_general"] < full["ragged_dot_general"]
    assert dots["rsqrt"] > none["rsqrt"]


@each_family
def test_every_family_has_blocks_that_are_computed_again(name):
    shape = make_shape(*EVERY_FAMILY[name])
    variables = abstract_variables(shape)
    program = jax.make_jaxpr(loss_under(shape, Execution(remat="full")))(variables["params"], variables["state"])
    assert count(program.jaxpr)[COMPUTED_AGAIN] > 0


def test_a_readout_and_an_embedding_are_not_computed_again():
    root = make_layers(make_shape(*EVERY_FAMILY["decoder"]))
    parts = {part.name: is_block(part.layer, part.dims) for part in root.parts(TEXT.dims)}
    assert not parts["embedding"]
    assert not parts["head"]


@pytest.mark.slow
def test_computing_again_needs_less_memory():
    shape = make_shape(TransformerSpec(width=16, depth=6), token_task(16, 64))
    variables = abstract_variables(shape)

    def needed(remat: str) -> int:
        step = jax.grad(loss_under(shape, Execution(scan_blocks=True, remat=remat)), has_aux=True)
        compiled = jax.jit(step).lower(variables["params"], variables["state"]).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed("full") < needed("none") / 2
