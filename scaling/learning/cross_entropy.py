"""Negative log-likelihoods of integer targets, with a backward pass that keeps the logits and nothing else as large.

Dims: V classes or vocabulary; `…` is any number of dims.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def log_likelihood_parts(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (log Z - logit of the target, log Z), float32 […], with Z = Σ_v exp(logit v); both are differentiable.

    The first is the negative log-likelihood in nats; the mean square of the second is the z-loss, which keeps logits
    near 0 (Chowdhery et al. 2022, section 5). Targets are compared, not looked up: logits that are divided among
    devices along V stay where they are, and only sums over V are exchanged.

    Args:
      logits: […, V], of any floating dtype; everything is computed in float32.
      targets: […], integers from 0 to V - 1; any other's logit counts as 0.

    >>> nats, log_z = log_likelihood_parts(jnp.array([0.0, 0.0, 0.0, 0.0]), jnp.array(2))
    >>> round(float(nats), 4), round(float(log_z), 4)
    (1.3863, 1.3863)
    """
    return _forward(logits, targets)[0]


def _is_target(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns […, V]: whether an entry is the target's."""
    classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)  # a narrow dtype would wrap around, and match twice
    return jnp.expand_dims(targets.astype(jnp.int32), -1) == classes.reshape(*(1,) * targets.ndim, -1)


def _forward(
    logits: jax.Array, targets: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    wide = logits.astype(jnp.float32)
    top = wide.max(axis=-1, keepdims=True)
    log_z = jnp.log(jnp.exp(wide - top).sum(axis=-1)) + top[..., 0]
    chosen = jnp.where(_is_target(logits, targets), wide, 0.0).sum(axis=-1)
    return (log_z - chosen, log_z), (logits, targets, log_z)


def _backward(
    kept: tuple[jax.Array, jax.Array, jax.Array], cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, None]:
    logits, targets, log_z = kept
    d_nats, d_log_z = cotangents
    probabilities = jnp.exp(logits.astype(jnp.float32) - jnp.expand_dims(log_z, -1))
    chosen = jnp.where(_is_target(logits, targets), jnp.expand_dims(d_nats, -1), 0.0)
    d_logits = jnp.expand_dims(d_nats + d_log_z, -1) * probabilities - chosen  # […, V]
    return d_logits.astype(logits.dtype), None


log_likelihood_parts.defvjp(_forward, _backward)
