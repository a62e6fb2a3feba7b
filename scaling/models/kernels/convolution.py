"""Convolutions, pools and batch normalisation as matrix products and plain loops, which CPUs run fast.

XLA's convolution on CPUs is ten times slower inside a loop, where training runs, and its pools and their gradients are
slow everywhere. Here every function takes and returns images [B, H, W, C] and works on [C, H, W, B], where a row of
memory is a row of the image times the whole batch: long, whatever the channels, and shifts are copies of long rows. XLA
moves the transpositions at both ends through what is element-wise between two layers, and they cancel.

Dims: B batch, H, W, C image height, width and channels, G groups, kh, kw the kernel's height and width, D channels out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from scaling.models.kernels.products import PRODUCT
from scaling.models.layers.image import Padding

Form = Literal["auto", "products", "native"]
Pads = tuple[tuple[int, int], tuple[int, int]]

# By rows, the products cover rows that no window starts at; gathering the windows covers none.
MAX_WASTE = 1.25


def uses_products(form: Form, dtype: Any) -> bool:
    """Returns whether this form means matrix products on the device at hand; `auto` does on CPUs, of float32."""
    return form == "products" or (form == "auto" and jax.default_backend() == "cpu" and dtype == jnp.float32)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: Padding,
    groups: int,
    form: Form = "auto",
    bias: jax.Array | None = None,
) -> jax.Array:
    """Returns the convolution of images with a kernel, plus a bias.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C / G, D].
      stride: between windows, on both axes.
      padding: "SAME", "VALID" or zeros on each side.
      groups: G, the parts of the channels that do not see each other.
      form: as in `Execution.convolution`.
      bias: [D].
    """
    if not uses_products(form, x.dtype):
        y = lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(stride, stride),
            padding=both_sides(padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)
    (height, width), (rows, columns, inputs, outputs) = x.shape[1:3], kernel.shape
    pads = _pads((height, width), (rows, columns), stride, padding)
    num_rows = (height + sum(pads[0]) - rows) // stride + 1
    x = _batch_last(x)  # [C, H, W, B]
    if inputs == 1 and outputs == groups > 1:
        y = _depthwise(x, kernel, stride, pads)
    elif (
        stride == groups == 1
        and height <= MAX_WASTE * num_rows
        and (columns * inputs + rows * outputs) * height < rows * columns * inputs * num_rows
    ):
        y = _by_rows(x, kernel, pads)
    else:
        y = _gathered(x, kernel, stride, pads, groups)
    y = checkpoint_name(y, PRODUCT)
    return _batch_first(y if bias is None else y + _by_channel(bias))


def both_sides(padding: Padding) -> Any:
    """Returns a padding as `lax` takes it."""
    return [(padding, padding)] * 2 if isinstance(padding, int) else padding


def _pads(sides: tuple[int, int], window: tuple[int, int], stride: int, padding: Padding) -> Pads:
    """Returns the zeros before and after each axis."""
    if padding == "CEIL":
        return (0, (window[0] - sides[0]) % stride), (0, (window[1] - sides[1]) % stride)
    found = both_sides(padding)
    first, second = lax.padtype_to_pads(sides, window, (stride, stride), found) if isinstance(found, str) else found
    return first, second


def _batch_last(x: jax.Array) -> jax.Array:
    return jnp.transpose(x, (3, 1, 2, 0))


_batch_first = _batch_last  # the first and the last axis change places


def map_batch_last(function: Callable[..., jax.Array], *images: jax.Array) -> jax.Array:
    """Returns a function of images, [B, H, W, C], that it is given, and gives, as [C, H, W, B].

    Between layers of this file, nothing is then copied from one order to the other: XLA cannot always tell by itself.
    """
    return _batch_first(function(*map(_batch_last, images)))


def subsample(x: jax.Array, stride: int, channels: int) -> jax.Array:
    """Returns every `stride`-th place of images [B, H, W, C], between as many channels of zeros as make `channels`."""
    extra = channels - x.shape[-1]

    def shrink(x: jax.Array) -> jax.Array:
        return _pad(x[:, ::stride, ::stride], 0, extra // 2, extra - extra // 2)

    return map_batch_last(shrink, x)


def _pad(x: jax.Array, axis: int, low: int, high: int, value: float = 0.0) -> jax.Array:
    """Returns x with an axis longer by `low` and `high`, which may be negative."""
    if low == high == 0:
        return x
    sides = [(0, 0, 0)] * x.ndim
    sides[axis] = (low, high, 0)
    return lax.pad(x, jnp.asarray(value, x.dtype), sides)


def _add(terms: Sequence[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _product(a: jax.Array, b: jax.Array, contract: tuple[int, int] = (1, 0)) -> jax.Array:
    """Returns the product of two matrices over one axis of each, in float32 or wider."""
    wide = jnp.promote_types(jnp.result_type(a, b), jnp.float32)
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((), ())), preferred_element_type=wide)


# --- convolutions, of [C, H, W, B] ----------------------------------------------------------------------------------


def _gathered(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    """Returns the product of the kernel with the windows side by side: one product with as many terms as a window."""
    rows, columns, inputs, outputs = kernel.shape
    dtype = jnp.result_type(x, kernel)
    x = _pad(_pad(x, 1, *pads[0]), 2, *pads[1])
    _, height, width, batch = x.shape
    windows = x.reshape(groups, inputs, height, width, batch)
    # Columns first, then rows of all columns: kw + kh copies of long pieces in place of kh · kw.
    windows = jnp.stack(_shifts(windows, 3, columns, stride), axis=1)  # [G, kw, C/G, H, W', B]
    windows = jnp.stack(_shifts(windows, 3, rows, stride), axis=1)  # [G, kh, kw, C/G, H', W', B]
    places = windows.shape[4:]
    windows = windows.reshape(groups, rows * columns * inputs, -1)
    matrices = kernel.reshape(rows * columns * inputs, groups, outputs // groups)
    if groups == 1:
        y = _product(matrices[:, 0].T, windows[0])
    else:
        wide = jnp.promote_types(dtype, jnp.float32)
        y = jnp.einsum("kgd,gkp->gdp", matrices, windows, preferred_element_type=wide)
    return y.astype(dtype).reshape(outputs, *places)


def _shifts(x: jax.Array, axis: int, window: int, stride: int) -> list[jax.Array]:
    """Returns what each place of a window sees along one axis."""
    count = (x.shape[axis] - window) // stride + 1
    return [lax.slice_in_dim(x, i, i + stride * (count - 1) + 1, stride, axis) for i in range(window)]


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Returns a sum of shifted images, each times one number per channel."""
    rows, columns, _, channels = kernel.shape
    x = _pad(_pad(x, 1, *pads[0]), 2, *pads[1])
    terms = [
        seen * kernel[i, j, 0].reshape(channels, 1, 1, 1)
        for i, row in enumerate(_shifts(x, 1, rows, stride))
        for j, seen in enumerate(_shifts(row, 2, columns, stride))
    ]
    return _add(terms)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_rows(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Returns a convolution with stride 1 as one product for all rows of the kernel, whose parts are shifted and added.

    The image is repeated kw times and the product is kh parts: less to write than kh · kw copies of the image. The
    backward pass writes as little; that of XLA would write each part into zeros.
    """
    rows, _, _, outputs = kernel.shape
    wide = _side_by_side(x, kernel.shape[1], pads[1])  # [kw · C, H, W', B]
    parts = _product(_row_matrix(kernel), wide.reshape(wide.shape[0], -1))
    parts = parts.reshape(rows, outputs, *wide.shape[1:])  # [kh, D, H, W', B]
    low, high = pads[0]
    y = _add([_pad(parts[i], 1, low - i, high - (rows - 1 - i)) for i in range(rows)])
    return y.astype(jnp.result_type(x, kernel))


def _by_rows_forward(x: jax.Array, kernel: jax.Array, pads: Pads) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _by_rows(x, kernel, pads), (x, kernel)


def _by_rows_backward(
    pads: Pads, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    rows, columns, inputs, outputs = kernel.shape
    wide = _side_by_side(x, columns, pads[1])
    low, high = pads[0]
    parts = jnp.concatenate([_pad(gradient, 1, i - low, rows - 1 - i - high) for i in range(rows)])
    flat = parts.reshape(rows * outputs, -1)
    of_matrix = _product(flat, wide.reshape(wide.shape[0], -1), (1, 1)).reshape(rows, outputs, columns, inputs)
    of_wide = _product(_row_matrix(kernel), flat, (0, 0)).reshape(columns, inputs, *wide.shape[1:])
    low, high = pads[1]
    of_x = _add([_pad(of_wide[j], 2, j - low, columns - 1 - j - high) for j in range(columns)])
    return of_x.astype(x.dtype), jnp.transpose(of_matrix, (0, 2, 3, 1)).astype(kernel.dtype)


_by_rows.defvjp(_by_rows_forward, _by_rows_backward)


def _side_by_side(x: jax.Array, columns: int, pads: tuple[int, int]) -> jax.Array:
    """Returns the image as each column of a kernel sees it, one above the other: [kw · C, H, W', B]."""
    low, high = pads
    return jnp.concatenate([_pad(x, 2, low - j, high - (columns - 1 - j)) for j in range(columns)])


def _row_matrix(kernel: jax.Array) -> jax.Array:
    rows, columns, inputs, outputs = kernel.shape
    return jnp.transpose(kernel, (0, 3, 1, 2)).reshape(rows * outputs, columns * inputs)


# --- pools ----------------------------------------------------------------------------------------------------------


def max_pool(x: jax.Array, window: int, padding: Padding) -> jax.Array:
    """Returns the maximum of each of the windows that lie side by side, images [B, H, W, C].

    Of equal maxima the first, by rows, gets the gradient, as in XLA's pool and PyTorch's. Padding never wins.
    """
    return _batch_first(_max_of_cells(_cells(x, window, padding, -jnp.inf)))


def mean_pool(x: jax.Array, window: int, padding: Padding) -> jax.Array:
    """Returns the mean of each of the windows that lie side by side, where padding counts as zeros; [B, H, W, C]."""
    return _batch_first(_cells(x, window, padding, 0.0).mean(axis=(2, 4)))


def _cells(x: jax.Array, window: int, padding: Padding, fill: float) -> jax.Array:
    """Returns [C, H', window, W', window, B], without what fills no window."""
    x = _batch_last(x)
    pads = _pads((x.shape[1], x.shape[2]), (window, window), window, padding)
    for axis, (low, high) in zip((1, 2), pads, strict=True):
        extra = (x.shape[axis] + low + high) % window
        x = _pad(x, axis, low, high - extra, fill)
    channels, height, width, batch = x.shape
    return x.reshape(channels, height // window, window, width // window, window, batch)


@jax.custom_vjp
def _max_of_cells(cells: jax.Array) -> jax.Array:
    return cells.max(axis=(2, 4))


def _max_forward(cells: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    found = _max_of_cells(cells)
    return found, (cells, found)


def _max_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    cells, found = kept

    def spread(x: jax.Array) -> jax.Array:
        return jnp.expand_dims(x, (2, 4))

    window = cells.shape[2]
    shape = (1, 1, window, 1, window, 1)
    place = jnp.arange(window**2, dtype=jnp.int32).reshape(shape)
    first = jnp.where(cells == spread(found), place, window**2).min(axis=(2, 4))
    return (jnp.where(spread(first) == place, spread(gradient), 0),)


_max_of_cells.defvjp(_max_forward, _max_backward)


# --- element by element, and by channel -----------------------------------------------------------------------------


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """Returns max(x, 0), whose backward pass needs its output alone; the gradient at 0 is 0."""
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu(x)
    return y, y


def _relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, gradient, 0),)


relu.defvjp(_relu_forward, _relu_backward)


def batch_norm(
    x: jax.Array, gain: jax.Array | None, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns images normalised by the batch, and the batch's mean and variance of each channel.

    gain · (x - mean) / √(variance + epsilon) + bias, in float32 or wider. No gradient passes through the mean and the
    variance that come back: they are for running statistics.

    Args:
      x: [B, H, W, C].
      gain: [C], or none for a gain of 1.
      bias: [C].
      epsilon: added to the variance.
    """
    gain = jnp.ones_like(bias) if gain is None else gain
    y, mean, variance = _normalize(_batch_last(x), gain, bias, epsilon)
    return _batch_first(y), mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(
    x: jax.Array, gain: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _normalize_forward(x, gain, bias, epsilon)[0]


def _normalize_forward(x: jax.Array, gain: jax.Array, bias: jax.Array, epsilon: float) -> Any:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean(axis=(1, 2, 3))
    variance = jnp.maximum(0.0, jnp.square(wide).mean(axis=(1, 2, 3)) - jnp.square(mean))
    inverse = lax.rsqrt(variance + epsilon)
    y = (wide - _by_channel(mean)) * _by_channel(inverse * gain) + _by_channel(bias)
    return (y.astype(jnp.result_type(x, gain, bias)), mean, variance), (x, mean, inverse, gain, bias)


def _normalize_backward(epsilon: float, kept: Any, gradients: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, inverse, gain, bias = kept
    gradient = gradients[0].astype(mean.dtype)
    centred = x.astype(mean.dtype) - _by_channel(mean)
    of_bias = gradient.sum(axis=(1, 2, 3))  # [C]
    of_gain = (gradient * centred).sum(axis=(1, 2, 3)) * inverse
    count = x.size // x.shape[0]
    shift = _by_channel(of_bias / count) + centred * _by_channel(of_gain * inverse / count)
    of_x = (gradient - shift) * _by_channel(inverse * gain)
    return of_x.astype(x.dtype), of_gain.astype(gain.dtype), of_bias.astype(bias.dtype)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _by_channel(vector: jax.Array) -> jax.Array:
    return vector.reshape(-1, 1, 1, 1)
