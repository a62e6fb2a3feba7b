"""Layers of images as Flax modules: convolutions, pools, and what early networks had beside them.

Dims: B batch, H, W, C image height, width and channels, K classes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from scaling.models.kernels.convolution import (
    batch_norm,
    both_sides,
    convolve,
    map_batch_last,
    max_pool,
    mean_pool,
    relu,
    subsample,
    uses_products,
)
from scaling.models.layers import core as layers
from scaling.models.layers import image as image_layers
from scaling.models.layers.core import Dims
from scaling.models.modules import core as modules
from scaling.models.modules.context import Context
from scaling.models.modules.core import ACTIVATIONS, compute, implements, rngs_at, sampler


@implements(image_layers.Conv)
class Conv(nnx.Module):
    """A 2-D convolution, dense, grouped, depthwise, or with a table of connections."""

    def __init__(self, layer: image_layers.Conv, dims: Dims, key: jax.Array | None, path: str) -> None:
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
        form, bias = context.execution.convolution, self.bias[...] if self._layer.bias else None
        return convolve(x, kernel, self._layer.stride, self._layer.padding, self.groups, form, bias)  # [B, H, W, C]


def _dense_kernel(values: jax.Array, connections: tuple[tuple[int, ...], ...], channels: int) -> jax.Array:
    """Returns [kh, kw, C, maps] with the connections' [n, kh, kw] in their places, else 0."""
    rows = np.array([channel for seen in connections for channel in seen])
    columns = np.array([number for number, seen in enumerate(connections) for _ in seen])
    empty = jnp.zeros((channels, len(connections), *values.shape[1:]), values.dtype)
    return jnp.transpose(empty.at[rows, columns].set(values), (2, 3, 0, 1))


@implements(image_layers.Affine)
class Affine(nnx.Module):
    """gain · x + bias."""

    def __init__(self, layer: image_layers.Affine, dims: Dims, key: jax.Array | None, path: str) -> None:
        weights = layer.weights(dims)
        if "scale" in weights:
            self.scale = nnx.Param(jnp.ones(weights["scale"].shape))
        self.bias = nnx.Param(jnp.zeros(weights["bias"].shape))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        def spread(vector: jax.Array) -> jax.Array:
            return vector.reshape((1,) * (x.ndim - vector.ndim) + vector.shape)

        gained = x * spread(self.scale[...]) if hasattr(self, "scale") else x
        return gained + spread(self.bias[...])


# What follows, down to the activations, takes the place that `modules` gives it: images have faster forms of their own.


def _is_fast(x: jax.Array, context: Context) -> bool:
    return x.ndim == 4 and uses_products(context.execution.convolution, x.dtype)


@implements(layers.Residual)
class ImageResidual(modules.Residual):
    """shortcut(x) + scale · branch(x), of images or of anything else."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        if not _is_fast(x, context):
            return super().__call__(x, context)
        branch, scale = self.branch(x, context), self._layer.scale
        if "shortcut" in self._names:
            x = self.shortcut(x, context)
        elif self._layer.pad_shortcut and x.shape != branch.shape:
            x = subsample(x, -(-x.shape[1] // branch.shape[1]), branch.shape[-1])
        return map_batch_last(lambda x, y: x + y if scale == 1.0 else x + scale * y, x, branch)


@implements(layers.Norm)
def make_norm(layer: layers.Norm, dims: Dims, key: jax.Array | None, path: str) -> nnx.Module:
    """Returns the module of a normalisation, of images or of anything else."""
    if layer.kind == "batch" and len(dims) == 3:
        return ImageBatchNorm(layer, dims[-1], rngs_at(key, path))
    return modules.make_norm(layer, dims, key, path)


class ImageBatchNorm(modules.BatchNorm):
    """Batch normalisation of images, whose running statistics follow the batches of training."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        if not (context.train and uses_products(context.execution.convolution, x.dtype)):
            return super().__call__(x, context)
        assert self.bias is not None  # noqa: S101  (`modules.BatchNorm` always has one)
        gain = None if self.scale is None else self.scale[...]
        y, mean, variance = batch_norm(x, gain, self.bias[...], self.epsilon)
        self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
        self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * variance
        return y


def _activate(layer: layers.Activation, x: jax.Array, context: Context, path: str) -> jax.Array:
    if not _is_fast(x, context):
        return ACTIVATIONS[layer.kind](x)
    return map_batch_last(relu if layer.kind == "relu" else ACTIVATIONS[layer.kind], x)


def _pool(layer: image_layers.Pool, x: jax.Array, context: Context, path: str) -> jax.Array:
    if layer.window == layer.stride and uses_products(context.execution.convolution, x.dtype):
        if layer.kind == "max":
            return max_pool(x, layer.window, layer.padding)
        if layer.count_padding or layer.padding in ("VALID", 0):
            mean = mean_pool(x, layer.window, layer.padding)
            return mean if layer.kind == "mean" else mean * float(layer.window**2)
    window, stride = (layer.window,) * 2, (layer.stride,) * 2
    padding = both_sides(layer.padding)
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


compute(layers.Activation, _activate)
compute(image_layers.Pool, _pool)
compute(image_layers.AdaptivePool, _adaptive_pool)
compute(image_layers.LocalResponseNorm, _local_response)
compute(image_layers.RadialReadout, _radial_readout)
