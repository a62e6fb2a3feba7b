"""Likelihoods and log Z are right, to the gradient, and keep the logits alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.learning.cross_entropy import log_likelihood_parts
from scaling.learning.objectives import nats

LOGITS = 5.0 * jax.random.normal(jax.random.key(0), (3, 4, 12))
TARGETS = jax.random.randint(jax.random.key(1), (3, 4), 0, 12)
WEIGHTS = jnp.arange(12.0).reshape(3, 4)


def lean_loss(logits: jax.Array, targets: jax.Array = TARGETS) -> jax.Array:
    found, log_z = log_likelihood_parts(logits, targets)
    return (found * WEIGHTS + 0.1 * log_z**2).sum()


def plain_loss(logits: jax.Array) -> jax.Array:
    found = optax.softmax_cross_entropy_with_integer_labels(logits, TARGETS)
    return (found * WEIGHTS + 0.1 * jax.nn.logsumexp(logits, axis=-1) ** 2).sum()


def test_parts_are_the_likelihood_and_log_z():
    found, log_z = log_likelihood_parts(LOGITS, TARGETS)
    np.testing.assert_allclose(found, optax.softmax_cross_entropy_with_integer_labels(LOGITS, TARGETS), rtol=1e-5)
    np.testing.assert_allclose(log_z, jax.nn.logsumexp(LOGITS, axis=-1), rtol=1e-6)


def test_both_parts_have_their_gradients():
    np.testing.assert_allclose(jax.grad(lean_loss)(LOGITS), jax.grad(plain_loss)(LOGITS), atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.uint16])
def test_targets_of_any_integer_dtype(dtype):
    expected = log_likelihood_parts(LOGITS, TARGETS)[0]
    np.testing.assert_array_equal(log_likelihood_parts(LOGITS, TARGETS.astype(dtype))[0], expected)


def test_small_targets_name_classes_beyond_their_dtype():
    logits = jax.random.normal(jax.random.key(2), (1, 600))
    found = log_likelihood_parts(logits, jnp.array([3], jnp.uint8))[0]
    np.testing.assert_allclose(found, nats(logits, jnp.array([3]), "plain"), rtol=1e-6)


def test_half_precision_logits_are_summed_in_float32():
    narrow = (LOGITS / 5.0).astype(jnp.bfloat16)
    found, log_z = log_likelihood_parts(narrow, TARGETS)
    assert found.dtype == log_z.dtype == jnp.float32
    wide = narrow.astype(jnp.float32)
    np.testing.assert_allclose(found, nats(wide, TARGETS, "plain"), rtol=1e-5)
    gradient = jax.grad(lean_loss)(narrow)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient.astype(jnp.float32), jax.grad(plain_loss)(wide), rtol=0.02, atol=0.02)


def test_large_logits_stay_finite():
    large = 1e4 * LOGITS
    assert jnp.isfinite(log_likelihood_parts(large, TARGETS)[0]).all()
    assert jnp.isfinite(jax.grad(lean_loss)(large)).all()


def test_a_population_is_measured_member_by_member():
    stacked = jnp.stack([LOGITS, 2.0 * LOGITS])
    found = jax.jit(jax.vmap(jax.grad(lean_loss)))(stacked)
    for member, logits in enumerate(stacked):
        np.testing.assert_allclose(found[member], jax.grad(lean_loss)(logits), atol=1e-5)


def test_nothing_as_large_as_the_logits_is_kept_beside_them():
    _, pull_back = jax.vjp(lambda x: log_likelihood_parts(x, TARGETS)[0], LOGITS)
    (large,) = (x for x in jax.tree.leaves(pull_back) if x.size >= LOGITS.size)
    assert large is LOGITS


def test_divided_logits_are_not_gathered():
    mesh = Mesh(np.array(jax.devices()[:2]), ("tensor",))
    divided = jax.device_put(LOGITS, NamedSharding(mesh, P(None, None, "tensor")))
    targets = jax.device_put(TARGETS, NamedSharding(mesh, P()))
    compiled = jax.jit(jax.grad(lean_loss)).lower(divided, targets).compile()
    text = compiled.as_text()
    assert "all-reduce" in text
    assert "all-gather" not in text
    np.testing.assert_allclose(compiled(divided, targets), jax.grad(plain_loss)(LOGITS), atol=1e-4)


@pytest.mark.parametrize("implementation", ["auto", "plain", "lean"])
def test_objectives_agree_on_nats(implementation):
    narrow = LOGITS.astype(jnp.bfloat16)
    found = nats(narrow, TARGETS, implementation)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, nats(narrow.astype(jnp.float32), TARGETS, "plain"), rtol=1e-5)
