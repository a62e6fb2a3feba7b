"""Attention over queries, keys and values: scores at once, in blocks with a lean backward pass, or the device's kernel.

Dims: B batch, T queries, S keys, G key and value heads, R = H / G query heads for each of them, K head size, M rows of
a block.
"""

import functools
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp

Implementation = Literal["auto", "plain", "blocked", "fused"]

# Queries of a block, at the least: below it, what is skipped costs more than it saves (measured on CPUs, K = 16 to 64).
MIN_BLOCK = 64

# Blocks, at the most: each is compiled by itself, and the eighth of the pairs that 8 blocks do in vain is all but gone.
MAX_BLOCKS = 8

# What cuDNN's kernel takes: half precision, and heads of a multiple of 8 up to 128 (NVIDIA's cuDNN documentation).
CUDNN_DTYPES = (jnp.bfloat16, jnp.float16)
CUDNN_MULTIPLE, CUDNN_MAX_HEAD_SIZE = 8, 128


def attend(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    causal: bool,
    scale: float,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Returns softmax(scale · q kᵀ) v, [B, T, G, R, K]; scores and softmax are in float32 whatever the inputs are.

    Args:
      query: [B, T, G, R, K].
      keys: [B, S, G, K].
      values: [B, S, G, K].
      causal: whether query t sees the keys 0 … t alone.
      scale: factor on the scores, usually 1 / √K.
      implementation: see `choose`.
    """
    match choose(implementation, query, keys, causal=causal):
        case "blocked":
            return _blocked(query * scale, keys, values, causal)
        case "fused":
            return _fused(query, keys, values, causal=causal, scale=scale)
        case "plain":
            scores = plain_scores(query * scale, keys)
            seen = causal_mask(query.shape[1], keys.shape[1]) if causal else None
            return mix(softmax(scores, seen), values)


def choose(
    implementation: Implementation, query: jax.Array, keys: jax.Array, *, causal: bool, backend: str | None = None
) -> Literal["plain", "blocked", "fused"]:
    """Returns the implementation for queries [B, T, G, R, K] and keys [B, S, G, K] on a backend, by default JAX's.

    `auto` is `blocked` on CPUs, whatever the mask: with one block there is still the lean backward pass, which takes
    a third of the time of XLA's. On GPUs it is `fused` where cuDNN has a kernel; elsewhere it is `plain`. Blocks of
    queries need their own keys in front of them, so a causal mask on other places (S ≠ T) is always `plain`.
    """
    if causal and query.shape[1] != keys.shape[1]:
        return "plain"
    if implementation != "auto":
        return implementation
    backend = backend or jax.default_backend()
    if backend == "cpu":
        return "blocked"
    return "fused" if backend == "gpu" and _suits_cudnn(query) else "plain"


def _suits_cudnn(query: jax.Array) -> bool:
    size = query.shape[-1]
    return query.dtype in CUDNN_DTYPES and size % CUDNN_MULTIPLE == 0 and size <= CUDNN_MAX_HEAD_SIZE


# --- scores at once -------------------------------------------------------------------------------------------------


def plain_scores(query: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns q kᵀ, float32 [B, G, R, T, S]."""
    return jnp.einsum("btgrk,bsgk->bgrts", query, keys, preferred_element_type=jnp.float32)


def causal_mask(num_queries: int, num_keys: int) -> jax.Array:
    """Returns [1, T, S]: whether query t sees key s."""
    return (jnp.arange(num_keys)[None] <= jnp.arange(num_queries)[:, None])[None]


def softmax(scores: jax.Array, seen: jax.Array | None) -> jax.Array:
    """Returns the weights of scores [B, G, R, T, S], of the keys that are seen, [B or 1, T, S]; None for all."""
    if seen is not None:
        scores = jnp.where(seen[:, None, None], scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)


def mix(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Returns weights · v, [B, T, G, R, K], in the dtype of the values."""
    return jnp.einsum("bgrts,bsgk->btgrk", weights.astype(values.dtype), values)


# --- the device's kernel --------------------------------------------------------------------------------------------


def _fused(query: jax.Array, keys: jax.Array, values: jax.Array, *, causal: bool, scale: float) -> jax.Array:
    batch, num_queries, groups, ratio, size = query.shape
    on_cudnn = jax.default_backend() == "gpu" and _suits_cudnn(query)
    mixed = jax.nn.dot_product_attention(
        query.reshape(batch, num_queries, groups * ratio, size),
        keys,
        values,
        scale=scale,
        is_causal=causal,
        implementation="cudnn" if on_cudnn else "xla",
    )
    return mixed.reshape(query.shape)


# --- in blocks ------------------------------------------------------------------------------------------------------
#
# Block [lo, hi) of the queries sees the keys [0, hi) alone, and only there are scores computed. Kept for the backward
# pass are e = exp(score - maximum) and 1 / Σ e: dividing the narrow results, [M, K], in place of the wide weights,
# [M, S], saves two passes over the latter, and computing e again was measured slower than keeping it. Heads stand
# before places, and the R heads that share keys are rows of one matrix, M = R · (hi - lo): XLA's products of batched
# matrices are fast on CPUs, those of more dims are not.


def _spans(num_queries: int, num_keys: int, causal: bool) -> list[tuple[int, int, int]]:
    """Returns (lo, hi, number of keys) of the blocks; one for everything where there is no mask.

    >>> _spans(100, 100, True), _spans(1100, 1100, True)[-1]
    ([(0, 64, 64), (64, 100, 100)], (966, 1100, 1100))
    """
    if not causal:
        return [(0, num_queries, num_keys)]
    length = max(MIN_BLOCK, -(-num_queries // MAX_BLOCKS))
    ends = [(lo, min(lo + length, num_queries)) for lo in range(0, num_queries, length)]
    return [(lo, hi, hi) for lo, hi in ends]


def _product(letters: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(letters, left, right, preferred_element_type=jnp.float32)


def _rows(x: jax.Array, lo: int, hi: int) -> jax.Array:
    """Returns a block [B, G, M, K] of [B, G, R, T, K]."""
    return x[:, :, :, lo:hi].reshape(*x.shape[:2], -1, x.shape[-1])


def _join(blocks: list[jax.Array], ratio: int) -> jax.Array:
    """Returns [B, T, G, R, K] of blocks [B, G, M, K]."""
    parts = [x.reshape(*x.shape[:2], ratio, -1, x.shape[-1]) for x in blocks]
    return jnp.moveaxis(jnp.concatenate(parts, axis=3), 3, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _blocked(query: jax.Array, keys: jax.Array, values: jax.Array, causal: bool) -> jax.Array:
    return _forward(query, keys, values, causal)[0]


def _forward(query: jax.Array, keys: jax.Array, values: jax.Array, causal: bool) -> tuple[jax.Array, Any]:
    q = jnp.moveaxis(query, 1, 3)  # [B, G, R, T, K]
    k, v = jnp.swapaxes(keys, 1, 2), jnp.swapaxes(values, 1, 2)  # [B, G, S, K]
    ratio = q.shape[2]
    mixed, exponentials, shares = [], [], []
    for lo, hi, num_keys in _spans(query.shape[1], keys.shape[1], causal):
        scores = _product("bgmk,bgsk->bgms", _rows(q, lo, hi), k[:, :, :num_keys])
        if causal:
            seen = jnp.tile(jnp.arange(lo, hi), ratio)[:, None] >= jnp.arange(num_keys)[None]  # [M, S]
            scores = jnp.where(seen[None, None], scores, jnp.finfo(scores.dtype).min)
        e = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        share = 1.0 / e.sum(axis=-1, keepdims=True)  # [B, G, M, 1]
        e = e.astype(v.dtype)
        mixed.append((_product("bgms,bgsk->bgmk", e, v[:, :, :num_keys]) * share).astype(v.dtype))
        exponentials.append(e)
        shares.append(share)
    return _join(mixed, ratio), (q, k, v, mixed, exponentials, shares)


def _backward(causal: bool, kept: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, mixed, exponentials, shares = kept
    d_out = jnp.moveaxis(cotangent, 1, 3)  # [B, G, R, T, K]
    d_query, d_keys, d_values = [], [], []
    spans = _spans(q.shape[3], k.shape[2], causal)
    for (lo, hi, num_keys), out, e, share in zip(spans, mixed, exponentials, shares, strict=True):
        d_mixed = _rows(d_out, lo, hi) * share  # [B, G, M, K]
        # Σ_s weight · ∂weight is the same for all keys of a query, and is its output times its output's cotangent.
        common = (d_mixed * out).sum(axis=-1, keepdims=True)  # [B, G, M, 1]
        d_mixed = d_mixed.astype(v.dtype)
        d_weights = _product("bgmk,bgsk->bgms", d_mixed, v[:, :, :num_keys])
        d_scores = (e * (d_weights - common)).astype(v.dtype)
        d_query.append(_product("bgms,bgsk->bgmk", d_scores, k[:, :, :num_keys]).astype(q.dtype))
        d_keys.append(_product("bgms,bgmk->bgsk", d_scores, _rows(q, lo, hi)))
        d_values.append(_product("bgms,bgmk->bgsk", e, d_mixed))
    d_k, d_v = _add(d_keys).astype(k.dtype), _add(d_values).astype(v.dtype)
    return _join(d_query, q.shape[2]), jnp.swapaxes(d_k, 1, 2), jnp.swapaxes(d_v, 1, 2)


_blocked.defvjp(_forward, _backward)


def _add(parts: list[jax.Array]) -> jax.Array:
    """Returns the sum of [B, G, S, K] of which all but the last have fewer keys, the first ones."""
    ends = [0, *(part.shape[2] for part in parts)]
    stretches = [
        functools.reduce(jnp.add, [part[:, :, low:high] for part in parts[number:]])
        for number, (low, high) in enumerate(itertools.pairwise(ends))
    ]
    return jnp.concatenate(stretches, axis=2)
