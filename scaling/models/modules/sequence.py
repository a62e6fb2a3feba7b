"""Sequence layers as Flax modules: embeddings, positions, attention, recurrence, routed experts and readouts.

Dims: B batch, T tokens, S keys, D width, H heads, G key and value heads, K head size, F hidden width, V vocabulary,
E experts, N = B · T tokens of a batch.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling.models.kernels import attention
from scaling.models.layers import sequence as layers
from scaling.models.layers.core import Dims, Initializer
from scaling.models.modules.context import Context
from scaling.models.modules.core import ACTIVATIONS, Container, implements, multiply_in_float32, rngs_at, sampler

# Up to this vocabulary an embedding is a product with one-hot rows: XLA's scatter, the gradient of a lookup, is many
# times slower on CPUs, and the product is small.
MAX_ONE_HOT = 512

# Wavelengths of sines and cosines, and of rotations, go up to 2π times this (Vaswani et al. 2017; Su et al. 2021).
LONGEST_WAVE = 10_000.0


class Lookup(nnx.Module):
    """Holds a layer's one array, `embedding`."""

    def __init__(self, layer: Any, dims: Dims, key: jax.Array | None, path: str) -> None:
        self._layer = layer
        shape = layer.weights(dims)["embedding"].shape
        self.embedding = nnx.Param(sampler(layer.init, 1, 1)(rngs_at(key, path).params(), shape))


@implements(layers.Embed)
class Embed(Lookup):
    """The table's rows of the tokens."""

    def __call__(self, x: Any, context: Context) -> jax.Array:
        if isinstance(x, dict):  # tokens with what an objective says of them
            context.ranks, context.segments = x.get("ranks"), x.get("segments")
            x = x["tokens"]
        table = self.embedding[...]
        context.table = table
        if self._layer.boundary is not None:
            ends = (x == self._layer.boundary).astype(jnp.int32)
            context.documents = jnp.cumsum(ends, axis=-1) - ends  # [B, T]; a boundary belongs to what it ends
        is_small = len(table) <= MAX_ONE_HOT
        rows = jax.nn.one_hot(x, len(table), dtype=table.dtype) @ table if is_small else table[x]  # [B, T, D]
        return rows if self._layer.scale == 1.0 else self._layer.scale * rows


@implements(layers.LearnedPositions)
class LearnedPositions(Lookup):
    """x + a learnt vector for each place; both streams have the same places."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        streams = 1 if context.ranks is None else x.shape[1] // context.ranks.shape[1]
        places = jnp.tile(self.embedding[...][: x.shape[1] // streams], (streams, 1))  # [T, D]
        return x + places[None]


@implements(layers.SinusoidalPositions)
class SinusoidalPositions(nnx.Module):
    """scale · √D · x + sines and cosines of the place."""

    def __init__(self, layer: layers.SinusoidalPositions, dims: Dims, key: jax.Array | None, path: str) -> None:
        self.width = dims[-1]
        self.factor = layer.scale * self.width**0.5

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        places = jnp.arange(x.shape[1], dtype=jnp.float32)
        return x * self.factor + _waves(places, self.width)[None].astype(x.dtype)


def _waves(places: jax.Array, width: int) -> jax.Array:
    """Returns [T, D]: sines, then cosines, of places [T]."""
    half = (width + 1) // 2
    rates = LONGEST_WAVE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = places[:, None] * rates[None]  # [T, D/2]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, :width]


@implements(layers.Segments)
class Segments(Lookup):
    """x + the vector of each token's segment."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        table = self.embedding[...]
        if context.segments is None:
            return x + table[:1][None]
        return x + jax.nn.one_hot(context.segments, len(table), dtype=table.dtype) @ table


@implements(layers.LearnedVector)
class LearnedVector(Lookup):
    """A class token before the others, or a query stream behind them."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        if not self._layer.is_used:
            return x
        copies = 1 if self._layer.use == "class_token" else x.shape[1]
        vectors = jnp.broadcast_to(self.embedding[...].reshape(1, 1, -1), (x.shape[0], copies, x.shape[2]))
        pair = (vectors, x) if self._layer.use == "class_token" else (x, vectors)
        return jnp.concatenate(pair, axis=1)  # [B, 1 + T, D] or [B, 2T, D]


@implements(layers.QueryStream)
class QueryStream(nnx.Module):
    """The second of two streams."""

    def __init__(self, layer: layers.QueryStream, dims: Dims, key: jax.Array | None, path: str) -> None:
        pass

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        return x[:, x.shape[1] // 2 :]  # [B, T, D]


@implements(layers.ImageTokens)
class ImageTokens(nnx.Module):
    """Places of an image as tokens."""

    def __init__(self, layer: layers.ImageTokens, dims: Dims, key: jax.Array | None, path: str) -> None:
        pass

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        return x.reshape(x.shape[0], -1, x.shape[-1])  # [B, T, D]


@implements(layers.Gated)
class Gated(Container):
    """activation(x W_gate) · (x W_up)."""

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        return ACTIVATIONS[self._layer.activation](self.gate(x)) * self.up(x)  # [B, T, F]


@implements(layers.Attention)
class Attention(Container):
    """Multi-head attention; scores and weights in float32."""

    def __init__(self, layer: layers.Attention, dims: Dims, key: jax.Array | None, path: str) -> None:
        super().__init__(layer, dims, key, path)
        as_in_xlnet = sampler(Initializer("normal", 0.02), 1, 1)
        for name, weight in layer.weights(dims).items():
            setattr(self, name, nnx.Param(as_in_xlnet(rngs_at(key, f"{path}/{name}").params(), weight.shape)))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        layer = self._layer
        heads, groups, size = layer.num_heads, layer.num_kv_heads, layer.head_size
        batch, num_queries, _ = x.shape
        source = x[:, : num_queries // layer.num_streams]
        if layer.has_memory:
            assert context.memory is not None  # noqa: S101  (an encoder has run before)
            source = context.memory
        query = self.query(x).reshape(batch, num_queries, groups, heads // groups, size)  # [B, T, G, H/G, K]
        keys = self.key(source).reshape(batch, -1, groups, size)  # [B, S, G, K]
        values = self.value(source).reshape(batch, -1, groups, size)  # [B, S, G, K]
        places = jnp.arange(num_queries) % (num_queries // layer.num_streams)  # [T]
        scale = layer.scale * size**-0.5
        if layer.positions == "rotary":
            query = _rotate(query, places)
            keys = _rotate(keys, jnp.arange(keys.shape[1]))
        if self._shows_scores(context):
            mixed = self._mix_seen(query, keys, values, places, scale, context)
        else:
            mixed = attention.attend(
                query,
                keys,
                values,
                causal=layer.mask == "causal" and not layer.has_memory,
                scale=scale,
                implementation=context.execution.attention,
            )
        return self.out(mixed.reshape(batch, num_queries, heads * size))  # [B, T, D]

    def _shows_scores(self, context: Context) -> bool:
        """Returns whether something needs the scores or weights themselves, which only the plain way has."""
        drops = context.train and self._layer.dropout > 0.0
        in_order = context.ranks is not None and not self._layer.has_memory
        is_packed = context.documents is not None and not self._layer.has_memory
        return context.taps is not None or drops or in_order or is_packed or self._layer.positions == "relative"

    def _mix_seen(
        self, query: jax.Array, keys: jax.Array, values: jax.Array, places: jax.Array, scale: float, context: Context
    ) -> jax.Array:
        """Returns [B, T, G, H/G, K]: values mixed by weights that are tapped, dropped or masked on the way."""
        layer = self._layer
        if layer.positions == "relative":
            scores = self._relative_scores(query, keys, places, context) * scale
        else:
            scores = attention.plain_scores(query * scale, keys)
        context.tap(f"{self._path}/scores", scores)
        seen = self._seen(query.shape[1], keys.shape[1], context)  # [B or 1, T, S], or None for everything
        weights = attention.softmax(scores, seen)
        if seen is not None and context.ranks is not None:  # the first predicted token sees nothing
            weights = jnp.where(seen[:, None, None], weights, 0.0)
        return attention.mix(context.drop(weights, layer.dropout, f"{self._path}/weights"), values)

    def _seen(self, num_queries: int, num_keys: int, context: Context) -> jax.Array | None:
        """Returns which keys a query may see: earlier places, or those earlier in the order of prediction."""
        if self._layer.has_memory:
            return None
        if context.ranks is not None:
            ranks = context.ranks
            earlier = ranks[:, None, :] < ranks[:, :, None]  # [B, T, S]
            itself = ranks[:, None, :] <= ranks[:, :, None]
            if self._layer.num_streams == 1:
                return itself
            return jnp.concatenate([itself, earlier], axis=1)  # [B, 2T, S]: content sees itself, queries do not
        causal = attention.causal_mask(num_queries, num_keys) if self._layer.mask == "causal" else None
        if context.documents is None:
            return causal
        same = context.documents[:, :, None] == context.documents[:, None, :]  # [B, T, S]
        return same if causal is None else same & causal

    def _relative_scores(self, query: jax.Array, keys: jax.Array, places: jax.Array, context: Context) -> jax.Array:
        """Returns [B, G, H/G, T, S] scores of content, distance and segment (Dai et al. 2019; Yang et al. 2019)."""
        by_head = (1, 1, *query.shape[2:])

        def scores(bias: Any, against: jax.Array, letters: str) -> jax.Array:
            return jnp.einsum(letters, query + bias[...].reshape(by_head), against, preferred_element_type=jnp.float32)

        num_keys = keys.shape[1]
        found = scores(self.content_bias, keys, "btgqk,bsgk->bgqts")
        distances = jnp.arange(num_keys, -num_keys, -1, dtype=jnp.float32)  # [2S]
        waves = _waves(distances, self.relative.in_features)
        encoded = self.relative(waves).reshape(2 * num_keys, *query.shape[2:])  # [2S, G, H/G, K]
        by_distance = scores(self.position_bias, encoded, "btgqk,sgqk->bgqts")  # [B, G, H/G, T, 2S]
        # Query at place i and key at place j are i - j apart, which is entry S - (i - j).
        entry = num_keys - (places[:, None] - jnp.arange(num_keys)[None])  # [T, S]
        found += jnp.take_along_axis(by_distance, entry.reshape(1, 1, 1, *entry.shape), axis=-1)
        if self._layer.has_segments:
            table = self.segment_embedding[...].reshape(2, *query.shape[2:])
            by_segment = scores(self.segment_bias, table, "btgqk,sgqk->bgqts")  # [B, G, H/G, T, 2]
            if context.segments is None:
                return found + by_segment[..., :1]
            other = context.segments[:, places][:, :, None] != context.segments[:, None, :]  # [B, T, S]
            found += jnp.where(other[:, None, None], by_segment[..., 1:], by_segment[..., :1])
        return found


def _rotate(x: jax.Array, places: jax.Array) -> jax.Array:
    """Returns [B, T, …, K] with each pair of features (k, k + K/2) turned by its place's angle."""
    half = x.shape[-1] // 2
    rates = LONGEST_WAVE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = places.astype(jnp.float32)[:, None] * rates[None]  # [T, K/2]
    angles = angles.reshape(1, len(places), *(1,) * (x.ndim - 3), half)
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


@implements(layers.LSTM)
class LSTM(Container):
    """A long short-term memory; gates in the order input, forget, cell, output, and the cell in float32.

    What a cell remembers changes by less and less of it, which bfloat16 would round away.
    """

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        width = self._layer.width
        from_input = jnp.swapaxes(self.input(x), 0, 1)  # [T, B, 4D], all steps in one product
        recurrent = self.recurrent.kernel[...]

        def step(carry: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            hidden, cell = carry
            gates = gates + hidden @ recurrent  # [B, 4D]
            entry, forget, new, out = jnp.split(gates, 4, axis=-1)
            # A forget bias of 1 lets a new network remember (Jozefowicz et al. 2015).
            cell = jax.nn.sigmoid(forget + 1.0) * cell + jax.nn.sigmoid(entry) * jnp.tanh(new)
            hidden = (jax.nn.sigmoid(out) * jnp.tanh(cell)).astype(x.dtype)
            return (hidden, cell), hidden

        start = jnp.zeros((x.shape[0], width), x.dtype)
        _, hidden = lax.scan(step, (start, start.astype(jnp.float32)), from_input)
        return jnp.swapaxes(hidden, 0, 1)  # [B, T, D]


@implements(layers.Experts)
class Experts(Container):
    """Tokens sorted by expert, then one ragged product for all experts: nothing is dropped or padded."""

    def __init__(self, layer: layers.Experts, dims: Dims, key: jax.Array | None, path: str) -> None:
        super().__init__(layer, dims, key, path)
        for name, weight in layer.weights(dims).items():
            if name.endswith("bias"):
                setattr(self, name, nnx.Param(jnp.zeros(weight.shape)))
            else:
                init = sampler(layer.out_init if name == "down" else layer.init, weight.fan_in, weight.fan_out)
                setattr(self, name, nnx.Param(init(rngs_at(key, f"{path}/{name}").params(), weight.shape)))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        layer = self._layer
        tokens = x.reshape(-1, x.shape[-1])  # [N, D]
        routed = self.router(tokens)  # [N, E] float32, as all that follows from it
        context.tap(f"{self._path}/router", routed)
        probabilities = jax.nn.softmax(routed)
        gates, chosen = lax.top_k(probabilities, layer.top_k)  # [N, k]
        gates = gates / gates.sum(axis=-1, keepdims=True)
        if context.train:
            used = jax.nn.one_hot(chosen, layer.num_experts).mean(axis=(0, 1))  # [E], sums to 1
            balance = layer.num_experts * jnp.sum(used * probabilities.mean(axis=0))
            context.penalties.append(layer.balance_weight * balance)
        order = jnp.argsort(chosen.reshape(-1), stable=True)  # [N·k], by expert
        expert = chosen.reshape(-1)[order]
        sizes = jnp.bincount(expert, length=layer.num_experts).astype(jnp.int32)
        mixed = self._run(tokens[order // layer.top_k], expert, sizes)  # [N·k, D]
        weighted = mixed * gates.reshape(-1)[order].reshape(-1, 1).astype(mixed.dtype)
        return jnp.zeros_like(tokens).at[order // layer.top_k].add(weighted).reshape(x.shape)

    def _run(self, x: jax.Array, expert: jax.Array, sizes: jax.Array) -> jax.Array:
        """Returns [M, D] of rows [M, D] that lie sorted by expert, `sizes` of them for each."""

        def product(rows: jax.Array, name: str) -> jax.Array:
            found = lax.ragged_dot(rows, getattr(self, name)[...], sizes)
            return found + getattr(self, f"{name}_bias")[...][expert] if hasattr(self, f"{name}_bias") else found

        activation = ACTIVATIONS[self._layer.activation]
        up = product(x, "up")  # [M, F]
        hidden = activation(product(x, "gate")) * up if self._layer.is_gated else activation(up)
        return product(hidden, "down")


@implements(layers.TiedReadout)
class TiedReadout(nnx.Module):
    """scale · x Wᵀ (+ b) with the embedding's table, in float32."""

    def __init__(self, layer: layers.TiedReadout, dims: Dims, key: jax.Array | None, path: str) -> None:
        self._layer = layer
        if layer.bias:
            self.bias = nnx.Param(jnp.zeros(layer.vocab_size))

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        assert context.table is not None  # noqa: S101  (an embedding has run before)
        scaled = x if self._layer.scale == 1.0 else self._layer.scale * x
        logits = multiply_in_float32(scaled, context.table, (((2,), (1,)), ((), ())))  # [B, T, V]
        return logits + self.bias[...].reshape(1, 1, -1) if self._layer.bias else logits


@implements(layers.EncoderDecoder)
class EncoderDecoder(Container):
    """Reads `source`, [B, S], and predicts `tokens`, [B, T]; a plain array of tokens is both."""

    def __call__(self, x: Any, context: Context) -> jax.Array:
        source, tokens = (x["source"], x["tokens"]) if isinstance(x, dict) else (x, x)
        context.memory = self.encoder(self.embedding(source, context), context)  # [B, S, D]
        decoded = self.decoder(self.embedding(tokens, context), context)  # [B, T, D]
        return self.readout(decoded, context)  # [B, T, V]
