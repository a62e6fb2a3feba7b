"""Layers of sequence models, as data: embeddings, positions, attention, recurrence, routed experts and readouts.

Dims (of one example): T tokens, D width, H heads, G key and value heads, K head size, F hidden width, V vocabulary,
E experts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Self

from scaling.models.layers.core import Dense, Dims, Initializer, Layer, Part, Role, Weight, walk
from scaling.specs.base import InputError


@dataclasses.dataclass(frozen=True)
class Embed(Layer):
    """scale · the table's rows of the tokens: [T] → [T, D]. A lookup costs nothing; as a product it would be 2·V·D.

    With a `boundary`, the token that ends a document, attention in later layers stops there.
    """

    vocab_size: int
    width: int
    init: Initializer = Initializer("normal", 0.02)
    group: str = "embedding"
    scale: float = 1.0
    boundary: int | None = None

    def output(self, dims: Dims) -> Dims:
        return (*dims, self.width)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        return {"embedding": Weight((self.vocab_size, self.width), self.group, "input", division="embedding")}

    def flops(self, dims: Dims) -> dict[str, float]:
        return {"embedding": 2.0 * dims[0] * self.vocab_size * self.width}


@dataclasses.dataclass(frozen=True)
class LearnedPositions(Layer):
    """x + a learnt vector for each of `length` places, of which the first T are used."""

    length: int
    init: Initializer = Initializer("normal", 0.02)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        if dims[0] > self.length:
            raise InputError(f"{dims[0]} tokens exceed the {self.length} learnt positions; choose at most that many")
        return {"embedding": Weight((self.length, dims[-1]), "positions", "input", division="positions")}


@dataclasses.dataclass(frozen=True)
class SinusoidalPositions(Layer):
    """scale · √D · x + fixed sines and cosines of the place (Vaswani et al. 2017)."""

    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Segments(Layer):
    """x + one of `count` learnt vectors, by the segment that the token belongs to (BERT); all are 0 unless told."""

    count: int
    init: Initializer = Initializer("normal", 0.02)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        return {"embedding": Weight((self.count, dims[-1]), "embedding", "input", division="positions")}


@dataclasses.dataclass(frozen=True)
class LearnedVector(Layer):
    """A learnt vector of width D: a `class_token` before the others, or the start of XLNet's `query_stream`.

    The query stream, T copies of the vector, follows the tokens' own stream where `is_used`; else the vector is idle.
    """

    use: Literal["class_token", "query_stream"]
    is_used: bool = True
    init: Initializer = Initializer("normal", 0.02)

    def output(self, dims: Dims) -> Dims:
        if not self.is_used:
            return dims
        return (dims[0] + 1, dims[1]) if self.use == "class_token" else (2 * dims[0], dims[1])

    def weights(self, dims: Dims) -> dict[str, Weight]:
        return {"embedding": Weight((dims[-1],), "embedding", "input")}


@dataclasses.dataclass(frozen=True)
class QueryStream(Layer):
    """The second of two streams: [2T, D] → [T, D]."""

    def output(self, dims: Dims) -> Dims:
        return dims[0] // 2, dims[1]


@dataclasses.dataclass(frozen=True)
class ImageTokens(Layer):
    """[H, W, C] → [H·W, C]."""

    def output(self, dims: Dims) -> Dims:
        return dims[0] * dims[1], dims[2]


@dataclasses.dataclass(frozen=True)
class Gated(Layer):
    """activation(x W_gate) · (x W_up): a gated hidden layer (Shazeer 2020)."""

    width: int
    activation: str
    bias: bool
    init: Initializer = Initializer("lecun")
    group: str = "mlp"
    term: str = "mlp"

    def output(self, dims: Dims) -> Dims:
        return (*dims[:-1], self.width)

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        dense = Dense(self.width, self.bias, init=self.init, group=self.group, term=self.term)
        return Part("gate", dense, dims), Part("up", dense, dims)


@dataclasses.dataclass(frozen=True)
class Attention(Layer):
    """Multi-head attention, [T, D] → [T, D], with G ≤ H heads of keys and values (Ainslie et al. 2023).

    Attributes:
      num_heads, head_size, num_kv_heads: H, K, G.
      mask: whether a token sees the earlier ones alone or all of them.
      positions: `rotary` turns queries and keys (Su et al. 2021); `relative` is Transformer-XL's scheme as in XLNet.
      bias, out_bias: of the projections of queries, keys and values, and of the output.
      dropout: rate on the attention weights.
      num_streams: 2 where queries come from T tokens and from T places of the query stream, keys from the tokens alone.
      has_memory: keys and values come from an encoder's output (cross-attention).
      has_segments: with `relative`, whether two tokens share a segment enters the score.
      init, out_init: of the projections.
      scale: factor on the scores' usual 1 / √K.
    """

    num_heads: int
    head_size: int
    num_kv_heads: int
    mask: Literal["causal", "full"]
    positions: Literal["none", "rotary", "relative"] = "none"
    bias: bool = True
    out_bias: bool = True
    dropout: float = 0.0
    num_streams: int = 1
    has_memory: bool = False
    has_segments: bool = False
    init: Initializer = Initializer("lecun")
    out_init: Initializer = Initializer("lecun")
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_kv_heads={self.num_kv_heads} does not divide the {self.num_heads} heads; choose a divisor"
            )

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        def dense(width: int, bias: bool, init: Initializer) -> Dense:
            return Dense(width, bias, init=init, group="attention", term="attention_projections")

        keys = (dims[0] // self.num_streams, dims[1])
        inner, narrow = self.num_heads * self.head_size, self.num_kv_heads * self.head_size
        found = [
            Part("query", dense(inner, self.bias, self.init), dims),
            Part("key", dense(narrow, self.bias, self.init), keys),
            Part("value", dense(narrow, self.bias, self.init), keys),
        ]
        if self.positions == "relative":
            found.append(Part("relative", dense(inner, False, self.init), (2 * keys[0], dims[1])))
        out = dataclasses.replace(dense(dims[-1], self.out_bias, self.out_init), division="rows")
        found.append(Part("out", out, (dims[0], inner)))
        return tuple(found)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        if self.positions != "relative":
            return {}
        by_head = Weight((self.num_heads, self.head_size), "attention")
        found = {"content_bias": by_head, "position_bias": by_head}
        if self.has_segments:
            table = Weight((2, self.num_heads, self.head_size), "attention")
            found |= {"segment_bias": by_head, "segment_embedding": table}
        return found

    def flops(self, dims: Dims) -> dict[str, float]:
        """Returns `attention` (scores and weighted values, every pair of tokens) and `softmax` (3 a pair and head)."""
        pairs = float(self.num_heads * dims[0] * (dims[0] // self.num_streams))
        position_scores = 2.0 * pairs * 2 * self.head_size if self.positions == "relative" else 0.0
        return {"attention": 4.0 * pairs * self.head_size + position_scores, "softmax": 3.0 * pairs}


@dataclasses.dataclass(frozen=True)
class LSTM(Layer):
    """A long short-term memory, [T, D] → [T, width], with one bias for each gate and a forget bias of 1.

    `role` is that of the matrix on the inputs, which is `input` where their number does not grow with the width.
    """

    width: int
    init: Initializer = Initializer("lecun")
    role: Role = "hidden"

    def output(self, dims: Dims) -> Dims:
        return dims[0], self.width

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        gates = Dense(4 * self.width, True, init=self.init, group="recurrent", term="recurrent", division="gates")
        recurrent = dataclasses.replace(gates, bias=False)
        inputs = dataclasses.replace(gates, role=self.role)
        return Part("input", inputs, dims), Part("recurrent", recurrent, (dims[0], self.width))


@dataclasses.dataclass(frozen=True)
class Experts(Layer):
    """E feed-forward networks of which a router lets each token use `top_k` (Shazeer et al. 2017).

    Attributes:
      num_experts, top_k: E, and how many of them a token uses.
      width: F of each expert.
      activation, is_gated, bias: as in a dense feed-forward block.
      balance_weight: the weight of the load-balancing penalty (Fedus et al. 2021, eq. 4).
      router_init, router_scale: how the router starts, and the factor on its input.
    """

    num_experts: int
    top_k: int
    width: int
    activation: str
    is_gated: bool = False
    bias: bool = False
    init: Initializer = Initializer("lecun")
    out_init: Initializer = Initializer("lecun")
    balance_weight: float = 0.01
    router_init: Initializer = Initializer("lecun")
    router_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise InputError(
                f"top_k={self.top_k} is not between 1 and num_experts={self.num_experts}; choose one that is"
            )

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        init, scale = self.router_init, self.router_scale
        router = Dense(self.num_experts, False, "output", init, "router", "router", scale, "router")
        return (Part("router", router, dims),)

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        (router,) = parts
        assert isinstance(router, Dense)  # noqa: S101  (its only part is one)
        return dataclasses.replace(self, router_init=router.init, router_scale=router.scale)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        experts, width, active = self.num_experts, self.width, self.top_k / self.num_experts
        up = Weight((experts, dims[-1], width), "mlp", "hidden", dims[-1], width, True, active, "expert_columns")
        down = Weight((experts, width, dims[-1]), "mlp", "hidden", width, dims[-1], True, active, "expert_rows")
        found = {"up": up, "down": down} | ({"gate": up} if self.is_gated else {})
        if self.bias:
            found |= {
                "up_bias": Weight((experts, width), "mlp", active=active),
                "down_bias": Weight((experts, dims[-1]), "mlp", active=active),
            }
        return found

    def flops(self, dims: Dims) -> dict[str, float]:
        matrices = 3 if self.is_gated else 2
        return {"mlp": 2.0 * dims[0] * self.top_k * matrices * dims[-1] * self.width}


@dataclasses.dataclass(frozen=True)
class TiedReadout(Layer):
    """scale · x Wᵀ (+ b) with the embedding's table as W: [T, D] → [T, V]; only the bias is its own."""

    vocab_size: int
    bias: bool = False
    scale: float = 1.0

    def output(self, dims: Dims) -> Dims:
        return (*dims[:-1], self.vocab_size)

    def weights(self, dims: Dims) -> dict[str, Weight]:
        return {"bias": Weight((self.vocab_size,), "head")} if self.bias else {}

    def flops(self, dims: Dims) -> dict[str, float]:
        return {"logits": 2.0 * dims[0] * dims[-1] * self.vocab_size}


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(Layer):
    """A source and a target of T tokens each → the target's logits, [T, V]; both use one embedding table."""

    embedding: Layer
    encoder: Layer
    decoder: Layer
    readout: Layer

    def output(self, dims: Dims) -> Dims:
        return self.readout.output(self.embedding.output(dims))

    def parts(self, dims: Dims) -> tuple[Part, ...]:
        embedded = self.embedding.output(dims)
        return (
            Part("embedding", self.embedding, dims),
            Part("encoder", self.encoder, embedded),
            Part("decoder", self.decoder, embedded),
            Part("readout", self.readout, embedded),
        )

    def with_parts(self, parts: Sequence[Layer]) -> Self:
        embedding, encoder, decoder, readout = parts
        return dataclasses.replace(self, embedding=embedding, encoder=encoder, decoder=decoder, readout=readout)

    def flops(self, dims: Dims) -> dict[str, float]:
        """Returns those of the embedding once more: its part stands for the source, and the target passes it too."""
        found: dict[str, float] = {}
        for visit in walk(self.embedding, dims):
            for term, flops in visit.layer.flops(visit.dims).items():
                found[term] = found.get(term, 0.0) + flops * visit.copies
        return found
