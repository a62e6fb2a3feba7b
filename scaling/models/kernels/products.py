"""Products with matrices and layer normalisation, with backward passes that suit CPUs.

XLA's own gradient of x W for x [B, T, D] contracts two axes at once, at half the speed of one; and sums over the last
axis are slower there than a product with a column. Other devices have forms of their own, which stay.

Dims: … any number of axes, D features, F outputs.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

# Names the outputs of products that have a backward pass of their own, which rematerialisation cannot look into.
PRODUCT = "product"


def is_for_cpu(x: jax.Array) -> bool:
    """Returns whether these forms are the faster ones: float32 with more than one axis before the features, on CPUs."""
    return jax.default_backend() == "cpu" and x.dtype == jnp.float32 and x.ndim > 2


def dot_general(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
    """Returns what `lax.dot_general` does; for layers, whose products are of a last axis and a first."""
    if is_for_cpu(lhs) and rhs.dtype == lhs.dtype and dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ())):
        return checkpoint_name(product(lhs, rhs), PRODUCT)
    return lax.dot_general(lhs, rhs, dimension_numbers, **options)


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns x […, D] times a kernel [D, F]."""
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))  # […, F]


def _product_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return product(x, kernel), (x, kernel)


def _product_backward(kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    dx = lax.dot_general(dy, kernel, (((dy.ndim - 1,), (1,)), ((), ())))  # […, D]
    return dx, _kernel_gradient(_rows(x), _rows(dy))


product.defvjp(_product_forward, _product_backward)


def _kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Returns xᵀ dy, [D, F], of x [B, D] and dy [B, F].

    XLA's CPU products are up to twice as fast with the wider of the two on the right; it may not turn them back.
    """
    contract = (((0,), (0,)), ((), ()))
    if x.shape[1] <= dy.shape[1]:
        return lax.dot_general(x, dy, contract)
    return lax.optimization_barrier(lax.dot_general(dy, x, contract)).T


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, gain: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Returns gain · (x - mean) / √(variance + epsilon) + bias, over the last axis.

    Args:
      x: […, D].
      gain: [D].
      bias: [D].
      epsilon: keeps the root away from 0.
    """
    return _norm_forward(x, gain, bias, epsilon)[0]


def _norm_forward(x: jax.Array, gain: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, Any]:
    to_mean = jnp.full((x.shape[-1], 1), 1.0 / x.shape[-1], x.dtype)
    mean = x @ to_mean  # […, 1]
    centred = x - mean
    scale = lax.rsqrt((centred * centred) @ to_mean + epsilon)  # […, 1]
    return centred * scale * _along(gain, x) + _along(bias, x), (x, mean, scale, gain)


def _norm_backward(epsilon: float, kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, scale, gain = kept
    column = (gain / x.shape[-1]).reshape(-1, 1)  # [D, 1]
    normal = (x - mean) * scale
    with_normal = dy * normal
    dx = scale * (dy * _along(gain, x) - dy @ column - normal * (with_normal @ column))
    return dx, _rows(with_normal).sum(axis=0), _rows(dy).sum(axis=0)


layer_norm.defvjp(_norm_forward, _norm_backward)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _along(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Returns a vector [D] with as many axes as x."""
    return vector.reshape(*(1,) * (x.ndim - 1), -1)
