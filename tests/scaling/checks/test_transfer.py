"""Learning rates that transfer: one row a size, rate and seed, and losses taken before the network learns from them."""

import math

import jax.numpy as jnp
import numpy as np

from scaling.checks.transfer import sweep_learning_rates
from scaling.specs.models import MLPSpec
from scaling.specs.task import TaskShape
from scaling.specs.training import SGDSpec

TASK = TaskShape(4, None, 3)
RATES = (0.0625, 0.5)


def sweep(num_steps: int, values=(3,), rates=RATES, seeds=(0, 1)):
    inputs = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    return sweep_learning_rates(
        MLPSpec(width=3, parametrization="mup"),
        TASK,
        "width",
        values,
        rates,
        optimizer=SGDSpec(peak_lr=1.0, momentum=0.0),
        inputs=jnp.asarray(inputs),
        labels=jnp.arange(12, dtype=jnp.int32) % 3,
        num_steps=num_steps,
        batch_size=8,
        seeds=seeds,
    )


def test_a_loss_is_taken_before_the_network_has_learnt_from_the_batch():
    rows = sweep(num_steps=1)
    assert [(row["seed"], row["peak_lr"]) for row in rows] == [(0, 0.0625), (0, 0.5), (1, 0.0625), (1, 0.5)]
    assert {(row["parametrization"], row["axis"], row["value"]) for row in rows} == {("mup", "width", 3)}
    losses = np.array([row["loss"] for row in rows]).reshape(2, 2)
    np.testing.assert_array_equal(losses[:, 0], losses[:, 1])  # no rate has had an effect
    assert losses[0, 0] != losses[1, 0]  # but the seed has


def test_a_rate_has_its_effect_after_a_step_and_one_that_diverges_is_told():
    near, far, absurd = (row["loss"] for row in sweep(num_steps=3, rates=(*RATES, 1e38), seeds=(0,)))
    assert near != far
    assert math.isfinite(near)
    assert not math.isfinite(absurd) or absurd > 1e6
