"""Layers as Flax modules: containers, dense layers, convolutions, normalisation and pooling.

Dims: B batch, H, W, C image height, width and channels, D features, K classes; `…` is any number of dims.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from scaling.models import image_layers, layers
from scaling.models.image_layers import Padding
from scaling.models.layers import Dims, Initializer, Layer

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "tanh": jnp.tanh,
    "sigmoid": nnx.sigmoid,
    "gelu": nnx.gelu,
    "silu": nnx.silu,
    "elu": nnx.elu,
    "leaky_relu": nnx.leaky_relu,
    "scaled_tanh": lambda x: 1.7159 * jnp.tanh(2.0 / 3.0 * x),  # LeCun et al. 1998, appendix A
}


@dataclasses.dataclass
class Context:
    """What one forward pass shares between layers; lives while the pass is traced.

    Attributes:
      train: whether dropout and batch statistics are on.
      key: of dropout; None when nothing is random.
      taps: receives the output of every named layer; None for none.
      auxiliary, penalties: what layers add to the loss.
      table: the token embedding, for a tied readout.
      memory: an encoder's output, for cross-attention.
      ranks: [B, T], the place of each token in the order of prediction (permutation language modelling).
      segments: [B, T], the segment of each token.
    """

    train: bool
    key: jax.Array | None
    taps: dict[str, jax.Array] | None = None
    auxiliary: list[tuple[float, jax.Array]] = dataclasses.field(default_factory=list)
    penalties: list[jax.Array] = dataclasses.field(default_factory=list)
    table: jax.Array | None = None
    memory: jax.Array | None = None
    ranks: jax.Array | None = None
    segments: jax.Array | None = None

    def tap(self, path: str, x: jax.Array) -> None:
        """Keeps a layer's output for who asked for it."""
        if self.taps is not None:
            self.taps[path] = x

    def drop(self, x: jax.Array, rate: float, path: str) -> jax.Array:
        """Returns x with a share of it zeroed and the rest scaled up, in training."""
        if not self.train or rate == 0.0:
            return x
        assert self.key is not None  # noqa: S101  (the trainer passes a key when it trains)
        kept = jax.random.bernoulli(jax.random.fold_in(self.key, zlib.crc32(path.encode())), 1.0 - rate, x.shape)
        return jnp.where(kept, x / (1.0 - rate), 0.0)


MODULES: dict[type[Layer], Any] = {}


def implements(layer: type[Layer]) -> Callable[[Any], Any]:
    """Returns a decorator that names a module as the implementation of a layer."""

    def register(module: Any) -> Any:
        MODULES[layer] = module
        return module

    return register


def make_module(layer: Layer, dims: Dims, key: jax.Array, path: str = "") -> Any:
    """Returns the Flax module of a layer on inputs of these dims; called with (inputs, context) afterwards.

    Every layer draws its initial values from its own path, so inserting one leaves the others alone.
    """
    from scaling.models import sequence_modules  # noqa: F401  (registers its modules; it imports this one)

    return MODULES[type(layer)](layer, dims, key, path)


def rngs_at(key: jax.Array, path: str) -> nnx.Rngs:
    """Returns the random stream of the layer at a path."""
    return nnx.Rngs(jax.random.fold_in(key, zlib.crc32(path.encode())))


def sampler(initializer: Initializer, fan_in: int, fan_out: int) -> Callable[..., jax.Array]:
    """Returns (key, shape, dtype) → initial values."""
    scale = initializer.scale

    def sample(key: jax.Array, shape: Dims, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        match initializer.kind:
            case "zeros":
                return jnp.zeros(shape, dtype)
            case "glorot":
                return _uniform(key, shape, dtype, scale * math.sqrt(6.0 / (fan_in + fan_out)))
            case "uniform":
                return _uniform(key, shape, dtype, scale / math.sqrt(fan_in))
            case "he":
                return scale * math.sqrt(2.0 / fan_in) * jax.random.normal(key, shape, dtype)
            case "lecun":
                return scale / math.sqrt(fan_in) * jax.random.normal(key, shape, dtype)
            case "normal":
                return scale * jax.random.normal(key, shape, dtype)

    return sample


def _uniform(key: jax.Array, shape: Dims, dtype: Any, bound: float) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


# --- containers -----------------------------------------------------------------------------------------------------


class Container(nnx.Module):
    """Holds the modules of a layer's parts under their names; by itself, runs one after the other."""

    def __init__(self, layer: Layer, dims: Dims, key: jax.Array, path: str) -> None:
        self._layer: Any = layer
        self._path = path
        self._names = self._add_parts(layer, dims, key, path)

    if TYPE_CHECKING:  # parts are attributes under their names

        def __getattr__(self, name: str) -> Any: ...

    def _add_parts(self, layer: Layer, dims: Dims, key: jax.Array, path: str) -> tuple[str, ...]:
        names = []
        for part in layer.parts(dims):
            for copy in range(part.copies):
                name = f"{part.name}_{copy}" if isinstance(layer, layers.Repeat) else part.name
                setattr(self, name, make_module(part.layer, part.dims, key, f"{path}/{name}"))
                names.append(name)
        return tuple(names)

    def __call__(self, x: Any, context: Context) -> Any:
        for name in self._names:
            x = getattr(self, name)(x, context)
            context.tap(f"{self._path}/{name}", x)
        return x


implements(layers.Sequential)(Container)
implements(layers.Repeat)(Container)


@implements(layers.Residual)
class Residual(Container):
    """shortcut(x) + scale · branch(x)."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        branch = self.branch(x, context)
        if "shortcut" in self._names:
            x = self.shortcut(x, context)
        elif self._layer.pad_shortcut and x.shape != branch.shape:
            stride = -(-x.shape[1] // branch.shape[1])
            extra = branch.shape[-1] - x.shape[-1]
            x = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))
        return x + branch if self._layer.scale == 1.0 else x + self._layer.scale * branch


@implements(layers.Branches)
class Branches(Container):
    """Side by side, joined along the channels."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        return jnp.concatenate([getattr(self, name)(x, context) for name in self._names], axis=-1)


@implements(layers.Auxiliary)
class Auxiliary(Container):
    """Passes x on; in training, its own logits join the loss."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        if context.train:
            context.auxiliary.append((self._layer.loss_weight, self.head(x, context)))
        return x


# --- layers with arrays ---------------------------------------------------------------------------------------------


@implements(layers.Dense)
class Dense(nnx.Linear):
    """scale · x W + b."""

    def __init__(self, layer: layers.Dense, dims: Dims, key: jax.Array, path: str) -> None:
        super().__init__(
            dims[-1],
            layer.width,
            use_bias=layer.bias,
            kernel_init=sampler(layer.init, dims[-1], layer.width),
            rngs=rngs_at(key, path),
        )
        self.scale = layer.scale

    def __call__(self, x: jax.Array, context: Context | None = None) -> jax.Array:
        return super().__call__(x if self.scale == 1.0 else self.scale * x)  # […, D]


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
        y = lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(self._layer.stride, self._layer.stride),
            padding=_both_sides(self._layer.padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )  # [B, H, W, C]
        return y + self.bias[...].reshape(1, 1, 1, -1) if self._layer.bias else y


def _dense_kernel(values: jax.Array, connections: tuple[tuple[int, ...], ...], channels: int) -> jax.Array:
    """Returns [kh, kw, C, maps] with the connections' [n, kh, kw] in their places, else 0."""
    rows = np.array([channel for seen in connections for channel in seen])
    columns = np.array([number for number, seen in enumerate(connections) for _ in seen])
    empty = jnp.zeros((channels, len(connections), *values.shape[1:]), values.dtype)
    return jnp.transpose(empty.at[rows, columns].set(values), (2, 3, 0, 1))


def _both_sides(padding: Padding) -> Any:
    return [(padding, padding)] * 2 if isinstance(padding, int) else padding


@implements(layers.Norm)
def make_norm(layer: layers.Norm, dims: Dims, key: jax.Array, path: str) -> nnx.Module:
    """Returns the module of a normalisation."""
    return {"batch": BatchNorm, "layer": LayerNorm, "group": GroupNorm, "rms": RMSNorm}[layer.kind](layer, dims[-1])


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation, whose running statistics follow the batches of training."""

    def __init__(self, layer: layers.Norm, channels: int) -> None:
        super().__init__(channels, epsilon=layer.epsilon, momentum=0.9, use_scale=layer.use_gain, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x, use_running_average=not context.train)


class LayerNorm(nnx.LayerNorm):
    """Layer normalisation over channels."""

    def __init__(self, layer: layers.Norm, channels: int) -> None:
        super().__init__(channels, epsilon=layer.epsilon, use_scale=layer.use_gain, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x)


class GroupNorm(nnx.GroupNorm):
    """Normalisation over places and groups of channels."""

    def __init__(self, layer: layers.Norm, channels: int) -> None:
        groups = layer.groups_of(channels)
        super().__init__(channels, num_groups=groups, epsilon=layer.epsilon, use_scale=layer.use_gain, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x)


class RMSNorm(nnx.RMSNorm):
    """Division by the root mean square over channels."""

    def __init__(self, layer: layers.Norm, channels: int) -> None:
        super().__init__(channels, epsilon=layer.epsilon, use_scale=layer.use_gain, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x)


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


# --- layers without arrays ------------------------------------------------------------------------------------------


class Plain(nnx.Module):
    """A layer without arrays: a function of (layer, x, context, path)."""

    def __init__(self, layer: Layer, dims: Dims, key: jax.Array, path: str) -> None:
        self._layer, self._path = layer, path

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        return FUNCTIONS[type(self._layer)](self._layer, x, context, self._path)


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


def _global_pool(layer: layers.GlobalPool, x: jax.Array, context: Context, path: str) -> jax.Array:
    if layer.kind == "mean":
        return x.mean(axis=tuple(range(1, x.ndim - 1)))  # [B, C]
    return x[:, 0] if layer.kind == "first" else x[:, -1]


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


FUNCTIONS: dict[type[Layer], Callable[..., jax.Array]] = {
    layers.Activation: lambda layer, x, context, path: ACTIVATIONS[layer.kind](x),
    layers.Dropout: lambda layer, x, context, path: context.drop(x, layer.rate, path),
    layers.Flatten: lambda layer, x, context, path: x.reshape(x.shape[0], -1),
    image_layers.Pool: _pool,
    layers.GlobalPool: _global_pool,
    image_layers.AdaptivePool: _adaptive_pool,
    image_layers.LocalResponseNorm: _local_response,
    image_layers.RadialReadout: _radial_readout,
}

for _layer in FUNCTIONS:
    implements(_layer)(Plain)
