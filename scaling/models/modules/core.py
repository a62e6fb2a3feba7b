"""Layers as Flax modules: containers, dense layers, normalisation and what needs no arrays.

Dims: B batch, H, W, C image height, width and channels, D features, K classes; `…` is any number of dims.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_never

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling.models.kernels import products
from scaling.models.layers import core as layers
from scaling.models.layers.core import Dims, Initializer, Layer
from scaling.models.modules.context import Context
from scaling.models.modules.repeat import is_block, run_block, scan_blocks

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


MODULES: dict[type[Layer], Any] = {}


def implements(layer: type[Layer]) -> Callable[[Any], Any]:
    """Returns a decorator that names a module as the implementation of a layer."""

    def register(module: Any) -> Any:
        MODULES[layer] = module
        return module

    return register


def make_module(layer: Layer, dims: Dims, key: jax.Array | None, path: str = "") -> Any:
    """Returns the Flax module of a layer on inputs of these dims; called with (inputs, context) afterwards.

    Every layer draws its initial values from its own path, so inserting one leaves the others alone. Without a key
    they are 0, for whoever asks for shapes alone: drawing is half of the time that a deep network's tracing takes.
    """
    return MODULES[type(layer)](layer, dims, key, path)


class Keys:
    """The random stream of one layer, for Flax's layers, which ask for `params()`.

    Flax's own streams count in a traced array, at a cost that grows with the square of the number of layers: minutes
    for a hundred blocks.
    """

    def __init__(self, key: jax.Array | None) -> None:
        self._key, self._count = key, 0

    def params(self) -> jax.Array | None:
        """Returns the next key."""
        self._count += 1
        return None if self._key is None else jax.random.fold_in(self._key, self._count)


def rngs_at(key: jax.Array | None, path: str) -> Any:
    """Returns the random stream of the layer at a path."""
    return Keys(None if key is None else jax.random.fold_in(key, zlib.crc32(path.encode())))


def sampler(initializer: Initializer, fan_in: int, fan_out: int) -> Callable[..., jax.Array]:
    """Returns (key, shape, dtype) → initial values; zeros without a key."""
    scale = initializer.scale

    def sample(key: jax.Array | None, shape: Dims, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        if key is None or initializer.kind == "zeros":
            return jnp.zeros(shape, dtype)
        match initializer.kind:
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
            case _:
                assert_never(initializer.kind)

    return sample


def _uniform(key: jax.Array, shape: Dims, dtype: Any, bound: float) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


# --- containers -----------------------------------------------------------------------------------------------------


class Container(nnx.Module):
    """Holds the modules of a layer's parts under their names; by itself, runs one after the other."""

    def __init__(self, layer: Layer, dims: Dims, key: jax.Array | None, path: str) -> None:
        self._layer: Any = layer
        self._dims = dims
        self._path = path
        self._names = self._add_parts(layer, dims, key, path)

    if TYPE_CHECKING:  # parts are attributes under their names

        def __getattr__(self, name: str) -> Any: ...

    def _add_parts(self, layer: Layer, dims: Dims, key: jax.Array | None, path: str) -> tuple[str, ...]:
        names = []
        for part in layer.parts(dims):
            for copy in range(part.copies):
                name = f"{part.name}_{copy}" if isinstance(layer, layers.Repeat) else part.name
                setattr(self, name, make_module(part.layer, part.dims, key, f"{path}/{name}"))
                names.append(name)
        return tuple(names)

    def __call__(self, x: Any, context: Context) -> Any:
        for name, part in zip(self._names, self._layer.parts(self._dims), strict=True):
            module = getattr(self, name)
            is_again = context.computes_again and is_block(part.layer, part.dims)
            x = run_block(module, x, context) if is_again else module(x, context)
            context.tap(f"{self._path}/{name}", x)
        return x


implements(layers.Sequential)(Container)


@implements(layers.Repeat)
class Repeat(Container):
    """Copies of one layer, one after the other; each draws its random bits from its number, scanned or not."""

    def __call__(self, x: Any, context: Context) -> Any:
        own_key = context.key_at(self._path)
        # Who asks for taps looks inside every copy.
        if context.execution.scan_blocks and len(self._names) > 1 and context.taps is None:
            first = dataclasses.replace(context, root=f"{self._path}/{self._names[0]}")
            copies = [getattr(self, name) for name in self._names]
            return scan_blocks(copies, x, first, lambda number: _numbered(own_key, number))
        for number, name in enumerate(self._names):
            path = f"{self._path}/{name}"
            inside = dataclasses.replace(context, root=path, key=_numbered(own_key, number))
            x = run_block(getattr(self, name), x, inside)
            context.tap(path, x)
        return x


def _numbered(key: jax.Array | None, number: Any) -> jax.Array | None:
    """Returns the key of a copy."""
    return None if key is None else jax.random.fold_in(key, number)


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


def multiply_in_float32(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
    """Returns the product of two arrays, summed and given in float32, as logits must be.

    Args:
      lhs: a factor; two of bfloat16 are multiplied as such, forward and backward.
      rhs: the other, of the same dtype.
      dimension_numbers: as for `lax.dot_general`.
      options: as for `lax.dot_general`, where the factors are not bfloat16.
    """
    if lhs.dtype == rhs.dtype == jnp.bfloat16:
        return _multiply_bfloat16(lhs, rhs, dimension_numbers)
    return lax.dot_general(lhs, rhs, dimension_numbers, **options)


# JAX's own gradient would multiply float32 with bfloat16, which devices do at the pace of float32.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _multiply_bfloat16(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> jax.Array:
    return lax.dot_general(lhs, rhs, dimension_numbers, preferred_element_type=jnp.float32)


def _multiply_forward(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> tuple[jax.Array, Any]:
    return _multiply_bfloat16(lhs, rhs, dimension_numbers), (lhs, rhs)


def _multiply_backward(dimension_numbers: Any, factors: Any, gradient: jax.Array) -> Any:
    _, pull_back = jax.vjp(lambda lhs, rhs: lax.dot_general(lhs, rhs, dimension_numbers), *factors)
    return pull_back(gradient.astype(jnp.bfloat16))


_multiply_bfloat16.defvjp(_multiply_forward, _multiply_backward)


@implements(layers.Dense)
class Dense(nnx.Linear):
    """scale · x W + b; of a readout in float32."""

    def __init__(self, layer: layers.Dense, dims: Dims, key: jax.Array | None, path: str) -> None:
        super().__init__(
            dims[-1],
            layer.width,
            use_bias=layer.bias,
            kernel_init=sampler(layer.init, dims[-1], layer.width),
            dot_general=multiply_in_float32 if layer.role == "output" else products.dot_general,
            rngs=rngs_at(key, path),
        )
        self.scale = layer.scale

    def __call__(self, x: jax.Array, context: Context | None = None) -> jax.Array:
        return super().__call__(x if self.scale == 1.0 else self.scale * x)  # […, D]


@implements(layers.Norm)
def make_norm(layer: layers.Norm, dims: Dims, key: jax.Array | None, path: str) -> nnx.Module:
    """Returns the module of a normalisation."""
    rngs = rngs_at(key, path)
    match layer.kind:
        case "batch":
            return BatchNorm(layer, dims[-1], rngs)
        case "layer":
            return LayerNorm(layer, dims[-1], rngs)
        case "group":
            return GroupNorm(layer, dims[-1], rngs)
        case "rms":
            return RMSNorm(layer, dims[-1], rngs)
        case _:
            assert_never(layer.kind)


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation, whose running statistics follow the batches of training, in float32 as all norms' are."""

    def __init__(self, layer: layers.Norm, channels: int, rngs: Any) -> None:
        super().__init__(channels, epsilon=layer.epsilon, momentum=0.9, use_scale=layer.use_gain, rngs=rngs)

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x, use_running_average=not context.train).astype(x.dtype)


class LayerNorm(nnx.LayerNorm):
    """Layer normalisation over channels."""

    def __init__(self, layer: layers.Norm, channels: int, rngs: Any) -> None:
        super().__init__(channels, epsilon=layer.epsilon, use_scale=layer.use_gain, rngs=rngs)

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        if products.is_for_cpu(x) and self.scale is not None and self.bias is not None:
            return products.layer_norm(x, self.scale[...], self.bias[...], self.epsilon)
        return super().__call__(x)


class GroupNorm(nnx.GroupNorm):
    """Normalisation over places and groups of channels."""

    def __init__(self, layer: layers.Norm, channels: int, rngs: Any) -> None:
        groups = layer.groups_of(channels)
        super().__init__(channels, num_groups=groups, epsilon=layer.epsilon, use_scale=layer.use_gain, rngs=rngs)

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x)


class RMSNorm(nnx.RMSNorm):
    """Division by the root mean square over channels."""

    def __init__(self, layer: layers.Norm, channels: int, rngs: Any) -> None:
        super().__init__(channels, epsilon=layer.epsilon, use_scale=layer.use_gain, rngs=rngs)

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:  # type: ignore[override]
        return super().__call__(x)


# --- layers without arrays ------------------------------------------------------------------------------------------


class Plain(nnx.Module):
    """A layer without arrays: a function of (layer, x, context, path)."""

    def __init__(self, layer: Layer, dims: Dims, key: jax.Array | None, path: str) -> None:
        self._layer, self._path = layer, path

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        return FUNCTIONS[type(self._layer)](self._layer, x, context, self._path)


def _global_pool(layer: layers.GlobalPool, x: jax.Array, context: Context, path: str) -> jax.Array:
    match layer.kind:
        case "mean":
            return x.mean(axis=tuple(range(1, x.ndim - 1)))  # [B, C]
        case "first":
            return x[:, 0]  # [B, C]
        case "last":
            return x[:, -1]  # [B, C]
        case _:
            assert_never(layer.kind)


FUNCTIONS: dict[type[Layer], Callable[..., jax.Array]] = {}


def compute(layer: type[Layer], function: Callable[..., jax.Array]) -> None:
    """Names a function of (layer, x, context, path) as the implementation of a layer without arrays."""
    FUNCTIONS[layer] = function
    MODULES[layer] = Plain


compute(layers.Activation, lambda layer, x, context, path: ACTIVATIONS[layer.kind](x))
compute(layers.Dropout, lambda layer, x, context, path: context.drop(x, layer.rate, path))
compute(layers.GlobalPool, _global_pool)
compute(layers.Flatten, lambda layer, x, context, path: x.reshape(x.shape[0], -1))
