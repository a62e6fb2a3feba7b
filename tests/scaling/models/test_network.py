"""Networks of every family: their counted arrays are the real ones, layers start alone, and nothing sees ahead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.layers.core import Dense, sequential, walk
from scaling.models.network import abstract_variables, build, check_arrays
from scaling.models.registry import all_presets, make_shape
from scaling.models.shape import Shape, make_layers
from scaling.specs.execution import Execution
from tests.scaling.models.networks import NETWORKS, each_network, examples, loss_of, network
from tests.scaling.models.programs import EVERY_FAMILY, loss_under, operations


def counted_arrays(shape: Shape) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {
        (*visit.path, name): weight.shape
        for visit in walk(make_layers(shape), shape.task.dims, expand=True)
        for name, weight in visit.layer.weights(visit.dims).items()
    }


def real_arrays(shape: Shape) -> dict[tuple[str, ...], tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(abstract_variables(shape)["params"])
    return {tuple(str(key.key) for key in path): leaf.shape for path, leaf in leaves}


def initial(shape: Shape, seed: int = 0):
    return build(shape).init(jax.random.key(seed))


@each_network
def test_the_counted_arrays_are_the_real_ones(name):
    assert counted_arrays(network(name)) == real_arrays(network(name))


# The same layers as in their smaller relatives, many more of them.
LONG_TO_COUNT = (
    "152",
    "152_v1",
    "101",
    "_xl",
    "_large",
    "_2_7b",
    "_6_7b",
    "_13b",
    "_175b",
    "_h14",
    "_l16",
    "_medium",
    "_b16",
    "_s16",
    "101_v1",
    "inception_v3",
    "transformer_base",
    "transformer_big",
    "50_v1",
    "34",
    "110",
    "56",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith(LONG_TO_COUNT) else ())
        for name in sorted(all_presets())
    ],
)
def test_the_counted_arrays_of_published_networks_are_the_real_ones(name):
    shape = make_shape(*all_presets()[name])
    if shape.depth > 100:
        pytest.skip("the same layers as the shallower ones, at length")
    assert counted_arrays(shape) == real_arrays(shape)


LONG_TO_COMPILE = (
    "alexnet", "inception", "inception 2014", "inception_v3", "xception", "resnet bottleneck", "resnet plain",
    "lenet5_dense", "mlp on tokens", "convnet with batch norm", "encoder", "encoder and decoder", "encoder permuted",
    "encoder classifier", "decoder like llama", "decoder like gpt2", "decoder of experts", "lstm classifier",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG_TO_COMPILE else ()) for name in NETWORKS]
)
def test_one_step_has_a_finite_loss_and_moves_every_array(name):
    shape = network(name)
    variables = initial(shape)
    loss = loss_of(shape, examples(shape.task), variables["state"])
    (value, state), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    assert np.isfinite(value)
    assert jax.tree.structure(state) == jax.tree.structure(variables["state"])
    still = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradients) if not g.any()]
    # A bias before a normalisation over the same places has no effect, nor has the only segment's twin.
    assert [path for path in still if "bias" not in path and "segment" not in path] == []


@pytest.mark.parametrize(
    "name", ["mlp", "resnet", "lstm", *(pytest.param(one, marks=pytest.mark.slow) for one in ("vit", "decoder"))]
)
def test_another_block_leaves_the_other_layers_initial_values_alone(name):
    spec, task = NETWORKS[name]
    shapes = [make_shape(spec.model_copy(update={"depth": depth}), task) for depth in (2, 3)]
    shallow, deep = (dict(jax.tree_util.tree_leaves_with_path(initial(s)["params"])) for s in shapes)
    assert len(deep) > len(shallow)
    assert set(shallow) < set(deep)
    for path, value in shallow.items():
        np.testing.assert_array_equal(value, deep[path])


@pytest.mark.parametrize(
    "name", [pytest.param("decoder", marks=pytest.mark.slow), "decoder like llama", "decoder like gpt2", "lstm"]
)
def test_a_language_model_sees_no_later_token(name):
    shape = network(name)
    model = build(shape)
    variables = initial(shape)
    tokens = np.asarray(examples(shape.task, 1))[:, :-1]
    logits = jax.jit(lambda tokens: model.apply(variables, tokens, train=False, key=None)[0].logits)
    other = tokens.copy()
    other[0, 9] = (tokens[0, 9] + 1) % 31
    changed = np.asarray(logits(other)) - np.asarray(logits(tokens))
    assert not changed[0, :9].any()
    assert changed[0, 9:].any(axis=-1).all()


@pytest.mark.slow
def test_a_permuted_prediction_sees_what_comes_earlier_in_the_order_and_never_itself():
    shape = network("encoder permuted")
    model = build(shape)
    variables = initial(shape)
    tokens = examples(shape.task, 1)
    ranks = jax.random.permutation(jax.random.key(3), 16)[None]

    def logits(tokens):
        return model.apply(variables, {"tokens": tokens, "ranks": ranks}, train=False, key=None)[0].logits

    at = 5
    moved = (logits(tokens.at[0, at].set((tokens[0, at] + 1) % 31)) - logits(tokens))[0].any(axis=-1)
    np.testing.assert_array_equal(moved, ranks[0] > ranks[0, at])


@pytest.mark.slow
def test_an_auxiliary_classifier_joins_the_loss_and_not_the_evaluation():
    shape = network("inception_v3")
    model, inputs = build(shape), examples(shape.task)
    seen = []

    def run(variables):
        for train, key in ((True, jax.random.key(0)), (False, None)):
            outputs, _ = model.apply(variables, inputs, train=train, key=key)
            seen.append([(weight, logits.shape) for weight, logits in outputs.auxiliary])

    jax.eval_shape(run, abstract_variables(shape))
    assert seen == [[(0.4, (4, 10))], []]


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
    loss = loss_under(shape, Execution(scan_blocks=scan_blocks), dtype=jnp.bfloat16, taps=None if scan_blocks else taps)
    program, (_, (outputs, state)) = jax.make_jaxpr(loss, return_shape=True)(params, variables["state"])
    assert outputs.logits.dtype == jnp.float32
    assert {logits.dtype for _, logits in outputs.auxiliary} <= {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype("float32")}  # batch statistics
    wide = [path for path, x in taps.items() if x.dtype != jnp.bfloat16]
    assert [path for path in wide if path.split("/")[-1] not in IN_FLOAT32] == []
    for operation in operations(program.jaxpr):
        if "dot_general" in operation.primitive.name or "conv_general" in operation.primitive.name:
            assert {factor.aval.dtype for factor in operation.invars[:2]} == {jnp.dtype("bfloat16")}


def test_a_module_with_other_arrays_than_its_layer_counts_is_refused_by_name():
    layers, dims = sequential(dense=Dense(4), head=Dense(2, role="output")), (3,)
    params = {"dense": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}, "head": {"kernel": np.zeros((4, 2))}}
    with pytest.raises(RuntimeError, match=r"array head/bias: its layer counts \(2,\) and its module has None"):
        check_arrays(layers, dims, params)
    params["head"]["bias"] = np.zeros(3)
    with pytest.raises(RuntimeError, match=r"array head/bias: its layer counts \(2,\) and its module has \(3,\)"):
        check_arrays(layers, dims, params)
    params["head"]["bias"] = np.zeros(2)
    check_arrays(layers, dims, params)
