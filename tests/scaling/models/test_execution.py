"""What holds for how blocks are run: loops and second computations change no result, and bfloat16 stays bfloat16."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.learning.objectives import make_batch, training_loss
from scaling.models.layers import core as layers
from scaling.models.layers.sequence import TiedReadout
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.models.modules.repeat import is_block
from scaling.models.network import abstract_variables, build
from scaling.models.registry import make_shape
from scaling.models.shape import Shape, make_layers
from scaling.specs.execution import Execution
from scaling.specs.models import (
    ConvNetSpec,
    InceptionSpec,
    LSTMSpec,
    MLPSpec,
    ResNetSpec,
    TransformerSpec,
    ViTSpec,
    XceptionSpec,
)
from scaling.specs.task import TaskShape, image_task, token_task

IMAGES, SMALL_IMAGES = image_task(32, 10), image_task(8, 10)
NUMBERS = TaskShape(num_features=16, vocab_size=None, num_classes=10)
LABELLED = TaskShape(num_features=8, vocab_size=16, num_classes=3)
TEXT, MASKED = token_task(16, 8), token_task(16, 8, "masked")

# Networks with two or three copies of some block; together they have all that a block can say beside its output.
REPEATED = {
    "mlp": (MLPSpec(width=16, depth=4, residual=True, normalization="layer", dropout=0.5), NUMBERS),
    "resnet": (ResNetSpec(width=8, stages=(3, 1, 1)), SMALL_IMAGES),
    "lstm": (LSTMSpec(width=8, depth=4, residual=True, dropout=0.5), LABELLED),
    "decoder of experts": (TransformerSpec(width=16, depth=2, num_experts=4, top_k=2), TEXT),
    "encoder and decoder": (TransformerSpec(form="encoder_decoder", width=16, depth=2, dropout=0.5), TEXT),
}

EVERY_FAMILY = {
    "mlp": (MLPSpec(width=16, depth=1), NUMBERS),
    "mlp by proportions": (MLPSpec(width=16, proportions=(2, 1)), NUMBERS),
    "convnet": (ConvNetSpec(width=16, depth=1), IMAGES),
    "convnet with group norm": (ConvNetSpec(width=16, depth=1, normalization="group"), IMAGES),
    "lenet5": (ConvNetSpec(form="lenet5", width=84), image_task(32, 10, channels=1)),
    "resnet": (ResNetSpec(width=8, depth=1), IMAGES),
    "inception": (InceptionSpec(width=64), IMAGES),
    "xception": (XceptionSpec(width=64, depth=1), IMAGES),
    "lstm": (LSTMSpec(width=8, depth=1), TEXT),
    "decoder": (TransformerSpec(width=16, depth=1, tied=True, dropout=0.1), TEXT),
    "decoder under muP": (
        TransformerSpec(width=32, depth=1, positions="sinusoidal", parametrization="mup", base_width=16),
        TEXT,
    ),
    "decoder like llama": (TransformerSpec(width=16, depth=1, is_gated=True, normalization="rms", bias=False), TEXT),
    "decoder of experts": (TransformerSpec(width=16, depth=1, num_experts=4, top_k=2), TEXT),
    "encoder": (TransformerSpec(form="encoder", width=16, depth=1, norm_position="post", num_segments=2), MASKED),
    "encoder and decoder": (TransformerSpec(form="encoder_decoder", width=16, depth=1), TEXT),
    "vit": (ViTSpec(width=16, depth=1), IMAGES),
}

LONG_TO_COMPILE = ("encoder and decoder", "resnet", "lstm", "decoder of experts")

each_repeated = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG_TO_COMPILE else ()) for name in REPEATED]
)
each_family = pytest.mark.parametrize("name", EVERY_FAMILY)

COMPUTED_AGAIN = jax.make_jaxpr(jax.checkpoint(jnp.sin))(1.0).eqns[0].primitive.name


def inputs_of(task: TaskShape, dtype=jnp.float32):
    if task.vocab_size:
        length = task.num_features + (task.objective == "next_token")
        return jax.random.randint(jax.random.key(7), (4, length), 0, task.vocab_size - 1)
    return jax.random.normal(jax.random.key(7), (4, *task.dims), dtype)


def loss_of(shape: Shape, execution: Execution, *, dtype=jnp.float32, taps=None):
    """Returns (parameters, state) → (loss, (outputs, state))."""
    model = build(shape, execution)
    batch = make_batch(shape.task, inputs_of(shape.task, dtype), jnp.zeros(4, jnp.int32), jax.random.key(1))

    def loss(params, state):
        variables = {"params": params, "state": state}
        outputs, state = model.apply(variables, batch.inputs, train=True, key=jax.random.key(2), taps=taps)
        return training_loss(outputs, batch), (outputs, state)

    return loss


def gradient_program(shape: Shape, execution: Execution, dtype=jnp.float32):
    """Returns the operations of a gradient, before XLA sees them."""
    variables = abstract_variables(shape)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), variables["params"])
    gradient = jax.grad(loss_of(shape, execution, dtype=dtype), has_aux=True)
    return jax.make_jaxpr(gradient)(params, variables["state"]).jaxpr


def operations(program):
    """Yields the operations of a program and of those inside it."""
    for operation in program.eqns:
        yield operation
        for value in operation.params.values():
            for held in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(held, "jaxpr", held)
                if hasattr(inner, "eqns"):
                    yield from operations(inner)


def count(program) -> collections.Counter:
    return collections.Counter(operation.primitive.name for operation in operations(program))


def in_bfloat16(module):
    """Returns a module with its parameters cast."""
    nnx.update(module, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), nnx.state(module, nnx.Param)))
    return module


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), found, expected)


# --- loops over equal blocks, and second computations ---------------------------------------------------------------


@each_repeated
def test_loops_and_second_computations_change_no_output_gradient_or_statistic(name):
    shape = make_shape(*REPEATED[name])
    variables = jax.jit(build(shape).init)(jax.random.key(0))
    expected = None
    for remat, is_scanned in (("none", False), ("dots", True), ("full", False)):
        step = jax.value_and_grad(loss_of(shape, Execution(scan_blocks=is_scanned, remat=remat)), has_aux=True)
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
        jax.eval_shape(loss_of(shape, execution, taps=taps), variables["params"], variables["state"])
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
    program = jax.make_jaxpr(loss_of(shape, Execution(remat="full")))(variables["params"], variables["state"])
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
        step = jax.grad(loss_of(shape, Execution(scan_blocks=True, remat=remat)), has_aux=True)
        compiled = jax.jit(step).lower(variables["params"], variables["state"]).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed("full") < needed("none") / 2


# --- bfloat16 -------------------------------------------------------------------------------------------------------

# Outputs in float32: readouts, and what a softmax takes.
IN_FLOAT32 = ("head", "readout", "classifier", "scores", "router")


@pytest.mark.parametrize(
    ("name", "scan_blocks"),
    [pytest.param(name, False, marks=pytest.mark.slow if "ception" in name else ()) for name in EVERY_FAMILY]
    + [(name, True) for name in ("mlp", "resnet", "lstm", "decoder", "decoder of experts", "vit")],
)
def test_bfloat16_stays_bfloat16_up_to_the_logits(name, scan_blocks):
    spec, task = EVERY_FAMILY[name]
    depth = {"depth": 3} if scan_blocks and getattr(spec, "proportions", None) is None else {}
    shape = make_shape(spec.model_copy(update=depth), task)
    variables = abstract_variables(shape)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), variables["params"])
    taps = {}
    loss = loss_of(shape, Execution(scan_blocks=scan_blocks), dtype=jnp.bfloat16, taps=None if scan_blocks else taps)
    program, (_, (outputs, state)) = jax.make_jaxpr(loss, return_shape=True)(params, variables["state"])
    assert outputs.logits.dtype == jnp.float32
    assert {logits.dtype for _, logits in outputs.auxiliary} <= {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype("float32")}  # batch statistics
    wide = [path for path, x in taps.items() if x.dtype != jnp.bfloat16]
    assert [path for path in wide if path.split("/")[-1] not in IN_FLOAT32] == []
    for operation in operations(program.jaxpr):
        if "dot_general" in operation.primitive.name or "conv_general" in operation.primitive.name:
            assert {factor.aval.dtype for factor in operation.invars[:2]} == {jnp.dtype("bfloat16")}


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


def test_an_lstm_of_bfloat16_remembers_in_float32():
    program = gradient_program(make_shape(*EVERY_FAMILY["lstm"]), Execution(), jnp.bfloat16)
    forward = next(operation for operation in operations(program) if operation.primitive.name == "scan")
    carried = [out.aval.dtype for out in forward.outvars if out.aval.ndim == 2]  # [B, H]; of all steps, [T, B, H]
    assert carried == [jnp.dtype("bfloat16"), jnp.dtype("float32")]
