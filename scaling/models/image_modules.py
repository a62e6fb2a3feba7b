"""Layers of images as Flax modules: convolutions, pools, and what early networks had beside them.

Dims: B batch, H, W, C image height, width and channels, K classes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from scaling.models import image_layers
from scaling.models.image_layers import Padding
from scaling.models.layers import Dims
from scaling.models.modules import Context, compute, implements, rngs_at, sampler


@implements(image_layers.Conv)
class Conv(nnx.Module):
    """A 2-D convolution, dense, grouped, depthwise, or with a table of connections."""

    def __init__(self, layer: image_layers.Conv, dims: Dims, key: jax.Array, path: str) -> None:
        self._layer = layer
        self.groups = layer.num_groups(dims)
        weights = layer.weights(dims)
        kernel = weights["kernel"]
        rngs = rngs_at(key, path)
        self.kernel = nnx.Param(sampler(layer.init, kernel.fan_in, kernel.fan_out)(rngs.params(), kernel.shape))
        if layer.bias:
            self.bias = nnx.Param(jnp.zeros(weights["bias"].shape))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        kernel = self.kernel[...]
        if self._layer.connections is not None:
            kernel = _dense_kernel(kernel, self._layer.connections, x.shape[-1])
        y = convolve(x, kernel, self._layer.stride, self._layer.padding, self.groups)  # [B, H, W, C]
        return y + self.bias[...].reshape(1, 1, 1, -1) if self._layer.bias else y


# XLA's convolution on CPUs loses its fast path inside loops, where training runs: a ResNet's step takes five times
# as long as with the same sum of matrix products. Kernels beyond 5 × 5 would be too many products to compile.
MAX_SHIFTED_AREA = 25


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int) -> jax.Array:
    """Returns the convolution of images [B, H, W, C] with a kernel [kh, kw, C / groups, out]."""
    window = kernel.shape[:2]
    is_depthwise = groups == x.shape[-1] == kernel.shape[-1]
    if jax.default_backend() == "cpu" and math.prod(window) <= MAX_SHIFTED_AREA and (groups == 1 or is_depthwise):
        return _shifted_products(x, kernel, stride, padding, is_depthwise and groups > 1)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=_both_sides(padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _shifted_products(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, is_depthwise: bool) -> jax.Array:
    """Returns a convolution as a sum over the kernel's places of a shifted image times that place's matrix."""
    window = kernel.shape[:2]
    sides = _both_sides(padding)
    pads = lax.padtype_to_pads(x.shape[1:3], window, (stride, stride), sides) if isinstance(sides, str) else sides
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = ((x.shape[1 + axis] - window[axis]) // stride + 1 for axis in (0, 1))
    total: Any = 0.0
    for i in range(window[0]):
        for j in range(window[1]):
            seen = x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
            total = total + (seen * kernel[i, j].reshape(1, 1, 1, -1) if is_depthwise else seen @ kernel[i, j])
    return total


def _dense_kernel(values: jax.Array, connections: tuple[tuple[int, ...], ...], channels: int) -> jax.Array:
    """Returns [kh, kw, C, maps] with the connections' [n, kh, kw] in their places, else 0."""
    rows = np.array([channel for seen in connections for channel in seen])
    columns = np.array([number for number, seen in enumerate(connections) for _ in seen])
    empty = jnp.zeros((channels, len(connections), *values.shape[1:]), values.dtype)
    return jnp.transpose(empty.at[rows, columns].set(values), (2, 3, 0, 1))


def _both_sides(padding: Padding) -> Any:
    return [(padding, padding)] * 2 if isinstance(padding, int) else padding


@implements(image_layers.Affine)
class Affine(nnx.Module):
    """gain · x + bias."""

    def __init__(self, layer: image_layers.Affine, dims: Dims, key: jax.Array, path: str) -> None:
        weights = layer.weights(dims)
        if "scale" in weights:
            self.scale = nnx.Param(jnp.ones(weights["scale"].shape))
        self.bias = nnx.Param(jnp.zeros(weights["bias"].shape))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        def spread(vector: jax.Array) -> jax.Array:
            return vector.reshape((1,) * (x.ndim - vector.ndim) + vector.shape)

        gained = x * spread(self.scale[...]) if hasattr(self, "scale") else x
        return gained + spread(self.bias[...])


def _pool(layer: image_layers.Pool, x: jax.Array, context: Context, path: str) -> jax.Array:
    window, stride = (layer.window,) * 2, (layer.stride,) * 2
    padding = _both_sides(layer.padding)
    if padding == "CEIL":
        outside = [(-(side - layer.window) % layer.stride) for side in x.shape[1:3]]
        padding = [(0, extra) for extra in outside]
    if layer.kind == "max":
        return nnx.max_pool(x, window, stride, padding)
    mean = nnx.avg_pool(x, window, stride, padding, count_include_pad=layer.count_padding)
    return mean if layer.kind == "mean" else mean * float(layer.window**2)


def _adaptive_pool(layer: image_layers.AdaptivePool, x: jax.Array, context: Context, path: str) -> jax.Array:
    def shares(side: int) -> np.ndarray:
        places = np.arange(side)[None]
        cell = np.arange(layer.size)[:, None]
        inside = (places >= cell * side // layer.size) & (places < -(-(cell + 1) * side // layer.size))
        return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)

    return jnp.einsum("bhwc,ih,jw->bijc", x, shares(x.shape[1]), shares(x.shape[2]))


def _local_response(layer: image_layers.LocalResponseNorm, x: jax.Array, context: Context, path: str) -> jax.Array:
    before = layer.size // 2
    sides = [(0, 0), (0, 0), (0, 0), (before, layer.size - 1 - before)]
    sums = lax.reduce_window(jnp.square(x), 0.0, lax.add, (1, 1, 1, layer.size), (1, 1, 1, 1), sides)
    return x / (layer.k + layer.alpha / layer.size * sums) ** layer.beta


def _radial_readout(layer: image_layers.RadialReadout, x: jax.Array, context: Context, path: str) -> jax.Array:
    """The paper draws its codes as pictures of the digits; these are as far apart, and drawn once by a fixed seed."""
    codes = np.random.default_rng(1998).choice([-1.0, 1.0], size=(layer.num_classes, x.shape[-1])).astype(np.float32)
    distances = jnp.square(x[:, None] - codes[None]).sum(axis=-1)  # [B, K]
    return -distances if layer.scale == 1.0 else -layer.scale * distances


compute(image_layers.Pool, _pool)
compute(image_layers.AdaptivePool, _adaptive_pool)
compute(image_layers.LocalResponseNorm, _local_response)
compute(image_layers.RadialReadout, _radial_readout)
