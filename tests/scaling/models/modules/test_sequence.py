"""Sequence modules: each is the formula that its layer names, and documents in one sequence do not meet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.layers import sequence as layers
from scaling.models.layers.core import walk
from scaling.models.layers.sequence import Attention, Embed, Experts, LearnedVector, QueryStream, Segments
from scaling.models.modules import core
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.models.shape import make_layers
from scaling.specs.execution import Execution
from scaling.specs.models import TransformerSpec
from scaling.specs.task import TaskShape
from tests.scaling.models.layer_examples import SEQUENCE, kinds_in, real_arrays, real_output
from tests.scaling.models.networks import network
from tests.scaling.models.programs import EVERY_FAMILY, gradient_program, operations


def test_routed_experts_equal_all_experts_weighted_by_their_gates():
    shape = network("decoder of experts")
    layer = next(v for v in walk(make_layers(shape), shape.task.dims) if isinstance(v.layer, Experts))
    assert layer.layer.top_k == 2
    module = make_module(layer.layer, layer.dims, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 5, 32))

    @jax.jit
    def both(x):
        gates, chosen = jax.lax.top_k(jax.nn.softmax(module.router(x)), 2)
        gates = gates / gates.sum(-1, keepdims=True)
        share = (jax.nn.one_hot(chosen, 4) * gates[..., None]).sum(-2)  # [B, T, E]
        up = jnp.einsum("btd,edf->btef", x, module.up[...])
        if hasattr(module, "up_bias"):
            up = up + module.up_bias[...][None, None]
        down = jnp.einsum("btef,efd->bted", jax.nn.gelu(up), module.down[...])
        if hasattr(module, "down_bias"):
            down = down + module.down_bias[...][None, None]
        return module(x, Context(train=True, key=None)), jnp.einsum("bted,bte->btd", down, share)

    routed, expected = both(x)
    np.testing.assert_allclose(routed, expected, atol=2e-5)


def test_grouped_heads_equal_full_heads_with_repeated_keys():
    grouped = Attention(4, 8, 2, "causal", "rotary")
    full = dataclasses.replace(grouped, num_kv_heads=4)
    small, large = (make_module(layer, (6, 32), jax.random.key(0)) for layer in (grouped, full))
    for name in ("key", "value"):
        narrow = getattr(small, name)
        repeated = np.repeat(np.asarray(narrow.kernel[...]).reshape(32, 2, 8), 2, axis=1).reshape(32, 32)
        getattr(large, name).kernel[...] = jnp.asarray(repeated)
    x = jax.random.normal(jax.random.key(1), (2, 6, 32))
    found, expected = jax.jit(lambda x: [module(x, Context(train=False, key=None)) for module in (small, large)])(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


PACKED = TaskShape(12, 9, 9, None, "next_token", boundary=8)


@pytest.mark.parametrize(
    ("positions", "execution"),
    [("none", Execution()), ("relative", Execution()), ("none", Execution(scan_blocks=True, remat="full"))],
)
def test_packed_documents_do_not_see_each_other(positions, execution):
    shape = make_shape(TransformerSpec(width=16, depth=2, positions=positions, document_mask=True), PACKED)
    model = build(shape, execution)
    variables = model.init(jax.random.key(0))
    first, second, other = [1, 2, 3, 4, 8], [5, 6, 7, 1, 2, 3, 8], [4, 4, 3, 1, 8]

    apply = jax.jit(lambda tokens: model.apply(variables, tokens, train=False, key=None)[0].logits[0])

    def logits(*documents):
        return np.asarray(apply(np.array([[token for document in documents for token in document]])))

    whole = logits(first, second)
    np.testing.assert_allclose(whole[5:], logits(other, second)[5:], atol=1e-5)
    assert not np.allclose(logits(first, second)[:5], logits(other, second)[:5], atol=1e-3)
    if positions == "none":  # then a document is the same wherever it stands
        np.testing.assert_allclose(whole[5:], logits(second, first)[:7], atol=1e-5)


def test_an_lstm_of_bfloat16_remembers_in_float32():
    program = gradient_program(make_shape(*EVERY_FAMILY["lstm"]), Execution(), jnp.bfloat16)
    forward = next(operation for operation in operations(program) if operation.primitive.name == "scan")
    carried = [out.aval.dtype for out in forward.outvars if out.aval.ndim == 2]  # [B, H]; of all steps, [T, B, H]
    assert carried == [jnp.dtype("bfloat16"), jnp.dtype("float32")]


def test_layers_and_modules_are_of_the_same_kinds():
    assert set(kinds_in(layers)) <= set(core.MODULES)


@pytest.mark.parametrize("name", SEQUENCE)
def test_a_module_has_the_arrays_and_the_output_that_its_layer_counts(name):
    layer, dims, output, arrays, _ = SEQUENCE[name]
    assert real_arrays(layer, dims) == arrays
    assert real_output(layer, dims) == output


@pytest.mark.parametrize("vocab_size", [7, 600])  # a product with one-hot rows, and a lookup
def test_an_embedding_gives_the_rows_of_its_tokens_small_or_large(vocab_size):
    @jax.jit
    def embed(tokens):
        module = make_module(Embed(vocab_size, 4, scale=0.5), (3,), jax.random.key(0))
        return module.embedding[...], module(tokens, Context(train=False, key=None))

    table, found = embed(jnp.array([[0, 6, 3]]))
    np.testing.assert_allclose(found[0], 0.5 * np.asarray(table)[[0, 6, 3]], rtol=1e-6)


def test_a_boundary_belongs_to_the_document_that_it_ends():
    module = make_module(Embed(7, 4, boundary=6), (5,), jax.random.key(0))

    @jax.jit
    def documents(tokens):
        context = Context(train=False, key=None)
        module(tokens, context)
        return context.documents

    assert documents(jnp.array([[1, 6, 2, 6, 3]])).tolist() == [[0, 0, 1, 1, 2]]


def test_segments_are_the_first_until_somebody_says_otherwise():
    module = make_module(Segments(2), (3, 4), jax.random.key(0))
    x, table = jnp.zeros((1, 3, 4)), np.asarray(module.embedding[...])
    np.testing.assert_array_equal(module(x, Context(train=False, key=None))[0], table[[0, 0, 0]])
    told = Context(train=False, key=None, segments=jnp.array([[0, 1, 1]]))
    np.testing.assert_allclose(module(x, told)[0], table[[0, 1, 1]], rtol=1e-6)


def test_a_query_stream_follows_the_tokens_and_is_taken_off_again():
    stream = make_module(LearnedVector("query_stream"), (3, 4), jax.random.key(0))
    x, context = jnp.ones((2, 3, 4)), Context(train=False, key=None)
    both = stream(x, context)
    np.testing.assert_array_equal(np.asarray(both)[:, :3], x)
    queries = make_module(QueryStream(), (6, 4), jax.random.key(0))(both, context)
    np.testing.assert_array_equal(queries, np.broadcast_to(stream.embedding[...], (2, 3, 4)))


def test_experts_that_are_used_equally_cost_their_weight_and_others_more():
    @jax.jit
    def penalty(tokens):
        module = make_module(Experts(2, 1, 3, "relu", balance_weight=0.25), (2, 2), jax.random.key(0))
        module.router.kernel[...] = jnp.array([[40.0, 0.0], [0.0, 40.0]])
        context = Context(train=True, key=None)
        module(tokens, context)
        return context.penalties[0]

    assert float(penalty(jnp.array([[[1.0, 0.0], [0.0, 1.0]]]))) == pytest.approx(0.25)
    assert float(penalty(jnp.array([[[1.0, 0.0], [1.0, 0.0]]]))) == pytest.approx(0.5)
