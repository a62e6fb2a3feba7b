"""MLPs: sized by parameter count, counted exactly, and independent layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.cell import MLPSpec
from scaling.models import TaskShape, mlp
from scaling.spec import InputError

TOKENS = TaskShape(num_features=16, vocab_size=62, num_classes=3)
NUMBERS = TaskShape(num_features=784, vocab_size=None, num_classes=10)


def arrays(model, seed=0):
    return model.init(jax.random.key(seed))["params"]


def total(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("task", [TOKENS, NUMBERS])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("request_", [10_000, 123_456, 5_000_000])
def test_counts_by_group_equal_the_real_arrays(task, depth, request_):
    shape = mlp.shape(MLPSpec(num_params=request_, depth=depth), task)
    params = arrays(mlp.build(shape))
    counted = mlp.count_params(shape)
    assert {group: total(params.get(group, {})) for group in counted} == counted


def test_lenet_300_100_style_counts_are_exact():
    # LeNet-300-100 has 784·300 + 300 + 300·100 + 100 + 100·10 + 10 parameters; with equal widths the sum is alike.
    shape = mlp.MLPShape(NUMBERS, 0, 300, 2, "relu")
    assert sum(mlp.count_params(shape).values()) == 784 * 300 + 300 + 300 * 300 + 300 + 300 * 10 + 10


@pytest.mark.parametrize("task", [TOKENS, NUMBERS])
def test_sizing_is_nearest_and_monotone(task):
    spec = MLPSpec(num_params=1, embedding_width=4)
    widths = []
    for request in np.geomspace(5_000, 5e8, 60).astype(int):
        shape = mlp.shape(spec.model_copy(update={"num_params": int(request)}), task)
        widths.append(shape.width)

        def miss(width, shape=shape, request=request):
            return abs(
                sum(mlp.count_params(mlp.MLPShape(task, shape.embedding_width, width, 1, "relu")).values()) - request
            )

        assert miss(shape.width) <= min(miss(shape.width + 1), miss(max(shape.width - 1, 1)))
    assert widths == sorted(widths)


def test_a_request_below_the_smallest_network_is_refused_with_the_smallest():
    with pytest.raises(InputError, match=r"num_params=100: the nearest mlp .* has 631; ask for at least 421"):
        mlp.shape(MLPSpec(num_params=100), TOKENS)


def test_adding_a_layer_leaves_the_other_layers_initial_values_alone():
    shallow, deep = (arrays(mlp.build(mlp.MLPShape(TOKENS, 8, 32, depth, "relu"))) for depth in (2, 3))
    for name in ("layer_0", "layer_1"):
        np.testing.assert_array_equal(shallow["hidden"][name]["kernel"], deep["hidden"][name]["kernel"])
    np.testing.assert_array_equal(shallow["head"]["kernel"], deep["head"]["kernel"])
    np.testing.assert_array_equal(shallow["embedding"]["embedding"], deep["embedding"]["embedding"])


def test_layers_differ_from_each_other_and_between_seeds():
    params = arrays(mlp.build(mlp.MLPShape(TOKENS, 8, 128, 3, "relu")))
    assert not np.allclose(params["hidden"]["layer_1"]["kernel"], params["hidden"]["layer_2"]["kernel"])
    other = arrays(mlp.build(mlp.MLPShape(TOKENS, 8, 128, 3, "relu")), seed=1)
    assert not np.allclose(params["head"]["kernel"], other["head"]["kernel"])


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0.5, 2.0), ("tanh", 0.2, 2.0)])
def test_initial_values_keep_the_scale_of_activations_through_ten_layers(activation, low, high):
    shape = mlp.MLPShape(TaskShape(256, None, 256), 0, 256, 10, activation)
    model = mlp.build(shape)
    inputs = jax.random.normal(jax.random.key(1), (512, 256))
    logits, _ = model.apply(model.init(jax.random.key(0)), inputs, train=False, key=None)
    assert low < float(jnp.std(logits)) < high


@pytest.mark.parametrize("task", [TOKENS, NUMBERS])
@pytest.mark.parametrize("depth", [1, 3])
def test_training_flops_equal_xlas_count_of_the_matrix_products(task, depth):
    """XLA also counts element-wise work and our one-hot embedding, so the analytic count is a little below its own."""
    batch = 256
    shape = mlp.MLPShape(task, 8 if task.vocab_size else 0, 256, depth, "relu")
    model = mlp.build(shape)
    variables = model.init(jax.random.key(0))
    dtype = jnp.uint8 if task.vocab_size else jnp.float32

    def loss(params, inputs):
        logits, _ = model.apply({"params": params, "state": {}}, inputs, train=True, key=None)
        return jax.nn.logsumexp(logits, axis=-1).sum()

    inputs = jax.ShapeDtypeStruct((batch, task.num_features), dtype)
    lowered = jax.jit(jax.grad(loss)).lower(variables["params"], inputs)
    measured = lowered.compile().cost_analysis()["flops"] / batch
    counted = sum(mlp.count_flops(shape).values())
    if task.vocab_size:  # the lookup runs as products with one-hot rows, forward and for the table's gradient
        counted += 2 * 2 * task.num_features * task.vocab_size * shape.embedding_width
    assert counted == pytest.approx(measured, rel=0.03)
