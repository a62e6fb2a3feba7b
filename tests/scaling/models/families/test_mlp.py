"""MLPs: sized by parameter count, counted exactly, and stable at the start."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_params
from scaling.models.network import build
from scaling.models.registry import find_preset, make_shape
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.models import MLPSpec
from scaling.specs.task import TaskShape

TOKENS = TaskShape(num_features=16, vocab_size=62, num_classes=3)
NUMBERS = TaskShape(num_features=784, vocab_size=None, num_classes=10)


def total(shape: Shape) -> int:
    return sum(count_params(shape).values())


def arrays(shape: Shape, seed: int = 0):
    return build(shape).init(jax.random.key(seed))["params"]


def sized(width: int, depth: int = 1, task: TaskShape = NUMBERS, **switches) -> Shape:
    return make_shape(MLPSpec(width=width, depth=depth, **switches), task)


def test_lenet_300_100_has_its_published_size():
    shape = make_shape(*find_preset("lenet300_100"))
    assert total(shape) == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10 == 266_610
    assert sum(count_flops(shape).forward.values()) == 2 * 266_200


@pytest.mark.parametrize("task", [TOKENS, NUMBERS])
def test_sizing_is_nearest_and_monotone(task):
    spec = MLPSpec(num_params=1, embedding_width=4)
    widths = []
    for request in np.geomspace(5_000, 2e5, 60).astype(int):
        shape = make_shape(spec.model_copy(update={"num_params": int(request)}), task)
        widths.append(shape.width)

        def miss(width, shape=shape, request=request):
            return abs(total(dataclasses.replace(shape, width=width)) - request)

        assert miss(shape.width) <= min(miss(shape.width + 1), miss(max(shape.width - 1, 1)))
    assert widths == sorted(widths)


def test_a_request_below_the_smallest_network_is_refused_with_the_smallest():
    with pytest.raises(InputError, match=r"num_params=100: the smallest mlp .* has 631 .*; ask for about that"):
        make_shape(MLPSpec(num_params=100), TOKENS)


def test_adding_a_layer_leaves_the_other_layers_initial_values_alone():
    shallow, deep = (arrays(sized(32, depth, TOKENS)) for depth in (2, 3))
    for path in (("hidden", "first"), ("hidden", "others", "layer_0", "dense"), ("head",), ("embedding",)):
        here, there = shallow, deep
        for name in path:
            here, there = here[name], there[name]
        for name, value in here.items():
            np.testing.assert_array_equal(value, there[name])


def test_layers_differ_from_each_other_and_between_seeds():
    params = arrays(sized(128, 3, TOKENS))
    others = params["hidden"]["others"]
    assert not np.allclose(others["layer_0"]["dense"]["kernel"], others["layer_1"]["dense"]["kernel"])
    assert not np.allclose(params["head"]["kernel"], arrays(sized(128, 3, TOKENS), seed=1)["head"]["kernel"])


def spread(depth: int, **switches) -> float:
    """Returns the standard deviation of the last hidden layer's outputs on inputs of standard deviation 1."""
    shape = sized(256, depth, TaskShape(256, None, 10), **switches)
    model, taps = build(shape), {}
    inputs = jax.random.normal(jax.random.key(1), (512, 256))
    model.apply(model.init(jax.random.key(0)), inputs, train=False, key=None, taps=taps)
    return float(jnp.std(taps["/hidden"]))


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0.5, 2.5), ("tanh", 0.2, 2.0)])
def test_initial_values_keep_the_scale_of_activations_through_ten_layers(activation, low, high):
    assert low < spread(10, activation=activation) < high


def test_through_thirty_rectified_layers_he_keeps_the_scale_and_glorot_loses_it():
    # He et al. 2015, section 2.2: each layer halves the variance unless the initial values make up for it.
    assert 0.4 < spread(30, initializer="he") < 3.0
    assert spread(30, initializer="glorot") == pytest.approx(spread(30, initializer="he") * 2 ** (-30 / 2), rel=0.1)


def test_residual_layers_are_the_same_network_with_shortcuts():
    shape, twin = (sized(32, 3, residual=residual) for residual in (True, False))
    assert count_params(shape) == count_params(twin)
    assert count_flops(shape) == count_flops(twin)
    inputs = jax.random.normal(jax.random.key(1), (4, 784))
    logits = [
        build(s).apply(build(s).init(jax.random.key(0)), inputs, train=False, key=None)[0].logits for s in (shape, twin)
    ]
    assert not np.allclose(*logits)


def test_residual_layers_of_changing_width_are_refused():
    with pytest.raises(InputError, match=r"residual=true needs hidden layers of one width"):
        make_shape(MLPSpec(width=300, proportions=(3, 1), residual=True), NUMBERS)


def test_kaplans_aspect_widens_and_deepens_together():
    for request in np.geomspace(1e4, 1e10, 13):
        shape = make_shape(MLPSpec(num_params=int(request), aspect="kaplan", aspect_ratio=32), NUMBERS)
        assert shape.depth >= 1
        if shape.width >= 320:
            assert 0.7 < shape.width / shape.depth / 32 < 1.4
            assert total(shape) == pytest.approx(request, rel=0.03)
