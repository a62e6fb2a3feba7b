"""Losses: numbers by their squared error, classes and tokens by their likelihood."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.learning.objectives import (
    Batch,
    evaluation_sums,
    is_regression,
    keep_real,
    make_batch,
    prediction_losses,
    training_loss,
)
from scaling.models.counting.params import count_params
from scaling.models.network import Outputs, build
from scaling.models.registry import make_shape
from scaling.specs.models import ConvNetSpec, LSTMSpec, MLPSpec, ResNetSpec, TransformerSpec, ViTSpec
from scaling.specs.task import TaskShape, image_task

NUMBERS = TaskShape(num_features=4, vocab_size=None, num_classes=1, objective="regress")
IMAGES = dataclasses.replace(image_task(16, 1), objective="regress")
TOKENS = TaskShape(num_features=6, vocab_size=9, num_classes=1, objective="regress")

REGRESSORS = [
    (MLPSpec(width=8), NUMBERS),
    (MLPSpec(width=8), TOKENS),
    (ConvNetSpec(width=8), IMAGES),
    (ResNetSpec(width=8), IMAGES),
    (LSTMSpec(width=8), TOKENS),
    (TransformerSpec(width=32, depth=1), TOKENS),
    (TransformerSpec(form="encoder", width=32, depth=1), TOKENS),
    (ViTSpec(width=32, depth=1), IMAGES),
]


def outputs(logits, auxiliary=(), penalty=0.0) -> Outputs:
    return Outputs(jnp.asarray(logits), auxiliary, penalty)


PREDICTED = outputs([[1.0], [2.0], [5.0]])
LABELS = jnp.asarray([1.0, 4.0, 4.0])


def test_numbers_as_labels_pass_and_make_a_regression():
    batch = make_batch(NUMBERS, jnp.zeros((3, 4)), LABELS, jax.random.key(0))
    assert batch.weights is None
    np.testing.assert_array_equal(batch.targets, LABELS)
    assert is_regression(batch)
    assert not is_regression(batch._replace(targets=jnp.asarray([1, 4, 4])))


def test_the_loss_of_a_regression_is_the_mean_squared_error():
    batch = Batch(None, LABELS, None)
    assert training_loss(PREDICTED, batch) == pytest.approx((0 + 4 + 1) / 3)
    weighted = batch._replace(weights=jnp.asarray([0.0, 1.0, 1.0]))
    assert training_loss(PREDICTED, weighted) == pytest.approx(5 / 2)


def test_auxiliary_heads_and_penalties_add_to_a_regressions_loss():
    auxiliary = ((0.3, jnp.asarray([[2.0], [4.0], [4.0]])),)
    loss = training_loss(PREDICTED._replace(auxiliary=auxiliary, penalty=0.25), Batch(None, LABELS, None))
    assert loss == pytest.approx(5 / 3 + 0.3 * 1 / 3 + 0.25)


def test_a_regression_is_evaluated_by_its_sum_of_squares_and_nothing_is_right():
    loss, right, count = evaluation_sums(PREDICTED, Batch(None, LABELS, None))
    assert (float(loss), float(right), float(count)) == (5.0, 0.0, 3.0)
    padded = Batch(None, LABELS, jnp.asarray([1.0, 1.0, 0.0]))
    assert [float(number) for number in evaluation_sums(PREDICTED, padded)] == [4.0, 0.0, 2.0]


def test_several_numbers_have_one_loss_an_example_and_a_sum_of_squares_each():
    predicted, labels = outputs([[1.0, 0.0], [2.0, 3.0]]), jnp.asarray([[2.0, 4.0], [2.0, 3.0]])
    batch = Batch(None, labels, None)
    assert prediction_losses(predicted.logits, batch).tolist() == [(1 + 16) / 2, 0.0]
    assert training_loss(predicted, batch) == pytest.approx(17 / 4)
    loss, right, count = evaluation_sums(predicted, batch)
    assert (loss.tolist(), float(right), float(count)) == ([1.0, 16.0], 0.0, 2.0)
    padded = keep_real(batch, jnp.asarray([0.0, 1.0]))
    assert [each.tolist() for each in evaluation_sums(predicted, padded)] == [[0.0, 0.0], 0.0, 1.0]


def test_classes_are_still_evaluated_in_nats():
    loss, right, count = evaluation_sums(
        outputs(jnp.log(jnp.asarray([[0.9, 0.1], [0.9, 0.1]]))), Batch(None, jnp.asarray([0, 1]), None)
    )
    np.testing.assert_allclose([loss, right, count], [-np.log(0.9 * 0.1), 1.0, 2.0], rtol=1e-6)


def test_token_inputs_with_numbers_as_labels_predict_no_tokens():
    assert not TOKENS.predicts_tokens


@pytest.mark.parametrize(("spec", "task"), REGRESSORS, ids=lambda value: getattr(value, "kind", ""))
def test_every_network_has_a_head_of_one_number(spec, task):
    shape = make_shape(spec, task)
    model, size = build(shape), (5, *task.dims)

    def step(key, inputs, labels):
        variables = model.init(key)
        batch = make_batch(task, inputs, labels, key)
        found, _ = model.apply(variables, batch.inputs, train=True, key=key)
        return found.logits, training_loss(found, batch), variables["params"]

    inputs = jax.ShapeDtypeStruct(size, jnp.int32 if task.vocab_size else jnp.float32)
    predicted, loss, params = jax.eval_shape(step, jax.random.key(0), inputs, jax.ShapeDtypeStruct((5,), jnp.float32))
    assert (predicted.shape, loss.shape) == ((5, 1), ())
    assert sum(count_params(shape).values()) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 0 < count_params(shape)["head"] < 300
