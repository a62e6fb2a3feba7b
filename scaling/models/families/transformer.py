"""Transformers over tokens: decoders, encoders and pairs of them (Vaswani et al. 2017), and the blocks that ViT shares.

Dims (of one example): T tokens, V vocabulary, D width, H heads, G key and value heads, K head size, F hidden width,
L blocks, E experts.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, Literal

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import hidden_initializer, normalize, require_tokens
from scaling.models.families.transformer_presets import PRESETS as PRESETS
from scaling.models.layers.core import (
    Activation,
    Dense,
    Dropout,
    GlobalPool,
    Initializer,
    Layer,
    Repeat,
    Residual,
    Sequential,
    sequential,
)
from scaling.models.layers.sequence import (
    Attention,
    Embed,
    EncoderDecoder,
    Experts,
    Gated,
    LearnedPositions,
    LearnedVector,
    QueryStream,
    Segments,
    SinusoidalPositions,
    TiedReadout,
)
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.models import TransformerSpec, ViTSpec
from scaling.specs.task import TaskShape, token_task

TASK = token_task(256, 256)  # bytes

# What each form can learn: only an encoder sees both sides of a hidden token, and only without seeing the later ones
# is there something to learn in predicting them.
OBJECTIVES = {
    "decoder": ("next_token", "classify", "regress", "none"),
    "encoder": ("masked", "permuted", "classify", "regress", "none"),
    "encoder_decoder": ("next_token",),
}

# Head sizes to aim at: 64 is that of GPT-2, BERT and ViT; narrow networks get smaller heads so that they have several.
HEAD_SIZE, NARROW_HEAD_SIZE = 64, 16
MIN_HEAD_SIZE, MIN_GROUPED_HEAD_SIZE, MAX_HEAD_SIZE = 32, 8, 128

# Gated hidden layers have a width of some fraction of D (8/3, say), which is rounded to what vector units like.
GATED_MULTIPLE = 8


def shape(spec: TransformerSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for.

    Raises:
      InputError: the form cannot learn this objective, or no network of the family is near the request.
    """
    require_tokens(task, "transformer")
    if task.objective not in OBJECTIVES[spec.form]:
        fits = " or ".join(f"model.form={form}" for form, found in OBJECTIVES.items() if task.objective in found)
        raise InputError(f"model.form={spec.form} cannot learn the objective {task.objective}; choose {fits}")
    if task.objective == "permuted" and spec.positions not in ("relative", "rotary"):
        raise InputError(
            f"model.positions={spec.positions} does not tell the objective permuted which token it is to predict; "
            "choose model.positions=relative or rotary"
        )
    if spec.document_mask and (task.boundary is None or task.objective not in ("next_token", "masked")):
        raise InputError(
            "model.document_mask=true needs sequences packed from documents, to predict their next_token or masked "
            "tokens; leave it out, or choose such data (data.source.kind=text)"
        )
    if spec.positions == "rotary" and spec.head_size is not None and spec.head_size % 2:
        raise InputError(
            f"model.head_size={spec.head_size} is odd, but rotary positions turn pairs; choose an even one"
        )

    def admits(width: int) -> bool:
        return can_split(width, spec.head_size, spec.num_kv_heads)

    return find_shape(settle_depth(spec), task, layers, admits=admits)


def layers(shape: Shape) -> Layer:
    """Returns embedding → blocks → norm → readout, or those of an encoder and a decoder.

    On labelled sequences and for features, the tokens are pooled: the first one where the network has a pooler, else
    the last one of a decoder, which alone has seen all, and the mean of an encoder.
    """
    spec, task = shape.spec, shape.task
    block = block_of(shape)
    if spec.form == "encoder_decoder":
        return EncoderDecoder(
            embedding=_embedding(shape),
            encoder=sequential(blocks=block.stack("full", shape.depth), norm=block.final_norm()),
            decoder=sequential(
                blocks=block.stack("causal", shape.depth, has_memory=True),
                norm=block.final_norm(),
            ),
            readout=_readout(shape, bias=False),
        )
    is_decoder = spec.form == "decoder"
    return sequential(
        embedding=_embedding(shape),
        blocks=block.stack("causal" if is_decoder else "full", shape.depth),
        norm=block.final_norm(),
        queries=QueryStream() if task.objective == "permuted" else None,
        head=_token_head(shape, block) if task.predicts_tokens and task.objective != "none" else _pooled_head(shape),
    )


def details(shape: Shape) -> dict[str, Any]:
    """Returns the sizes inside the blocks, by name."""
    return block_of(shape).sizes()


def _embedding(shape: Shape) -> Sequential:
    spec, task = shape.spec, shape.task
    positions = {
        "learned": LearnedPositions(task.num_features),
        "sinusoidal": SinusoidalPositions(),
    }.get(spec.positions)
    # The query stream of XLNet knows a token's place but not the token, so it starts as one vector for all places.
    # Features are those of the pre-trained network, which still has the vector.
    is_permuted = task.objective == "permuted"
    has_query = is_permuted or (spec.form, spec.positions, task.objective) == ("encoder", "relative", "none")
    return sequential(
        tokens=Embed(task.vocab_size or 0, shape.width, boundary=task.boundary if spec.document_mask else None),
        positions=positions,
        segments=Segments(spec.num_segments) if spec.num_segments and spec.positions != "relative" else None,
        query=LearnedVector("query_stream", is_used=is_permuted) if has_query else None,
        norm=normalize(spec.normalization) if spec.has_embedding_norm else None,
        dropout=dropout(spec.dropout),
    )


def _token_head(shape: Shape, block: "Block") -> Sequential:
    """Returns a readout for every token, which follows a dense layer where tokens are masked (BERT)."""
    spec, objective = shape.spec, shape.task.objective
    if objective != "masked":
        return sequential(readout=_readout(shape, bias=objective == "permuted"))
    return sequential(
        dense=Dense(shape.width, init=block.init, group="head"),
        activation=Activation(spec.activation),
        norm=normalize(spec.normalization),
        readout=_readout(shape, bias=True),
    )


def _readout(shape: Shape, bias: bool) -> Layer:
    vocab_size = shape.task.vocab_size or 0
    if shape.spec.tied:
        return TiedReadout(vocab_size, bias)
    return Dense(vocab_size, bias, role="output", group="head", term="logits")


def _pooled_head(shape: Shape) -> Sequential:
    """Returns pool [→ pooler] → classes or a number; for features, the tokens themselves where there is no pooler."""
    spec, task = shape.spec, shape.task
    is_labelled = task.objective in ("classify", "regress")
    pooler = sequential(
        dense=Dense(shape.width, init=initializer(spec), group="pooler"),
        activation=Activation("tanh"),
    )
    kind: Literal["first", "last", "mean"] = "last" if spec.form == "decoder" else "mean"
    return sequential(
        pool=GlobalPool("first" if spec.has_pooler else kind) if spec.has_pooler or is_labelled else None,
        pooler=pooler if spec.has_pooler else None,
        readout=Dense(task.num_classes, role="output", group="head", term="logits") if is_labelled else None,
    )


# --- blocks, for text and images alike ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Block:
    """A transformer block: attention and a feed-forward network, each with its norm and its shortcut.

    Attributes:
      width, num_heads, head_size, num_kv_heads, ff_width: D, H, K, G, F.
      activation, is_gated, bias, residual, dropout, init: as specified.
      normalization, norm_position, epsilon: which norm, `pre` or `post` the sublayer, and its epsilon.
      positions: which of them enter the attention.
      has_segments: whether segments do.
      num_streams: 2 where a query stream follows the tokens (XLNet).
      num_experts, top_k: of routed experts; 0 for a dense feed-forward network.
    """

    width: int
    num_heads: int
    head_size: int
    num_kv_heads: int
    ff_width: int
    activation: str
    normalization: str
    residual: bool
    dropout: float
    init: Initializer
    is_gated: bool = False
    bias: bool = True
    norm_position: Literal["pre", "post"] = "pre"
    epsilon: float = 1e-5
    positions: Literal["none", "rotary", "relative"] = "none"
    has_segments: bool = False
    num_streams: int = 1
    num_experts: int = 0
    top_k: int = 1

    def sizes(self) -> dict[str, Any]:
        """Returns the sizes inside, by name."""
        names = ("num_heads", "head_size", "num_kv_heads", "ff_width")
        sizes = {name: getattr(self, name) for name in names}
        return sizes | ({"num_experts": self.num_experts, "top_k": self.top_k} if self.num_experts else {})

    def stack(self, mask: Literal["causal", "full"], depth: int, *, has_memory: bool = False) -> Repeat:
        """Returns `depth` blocks; with `has_memory`, each attends to an encoder's output too."""
        block = sequential(
            attention=self._sublayer(self._attention(mask)),
            cross_attention=self._sublayer(self._attention("full", has_memory=True)) if has_memory else None,
            mlp=self._sublayer(self._feed_forward()),
        )
        return Repeat("block", block, depth)

    def final_norm(self) -> Layer | None:
        """Returns the norm after the last block: sums of `pre` blocks have none yet, those of `post` blocks do."""
        return normalize(self.normalization, self.epsilon) if self.norm_position == "pre" else None

    def _sublayer(self, main: Layer) -> Layer:
        """Returns x + main(norm(x)), or norm(x + main(x))."""
        norm = normalize(self.normalization, self.epsilon)
        before = self.norm_position == "pre"
        branch: Layer = sequential(norm=norm if before else None, main=main, dropout=dropout(self.dropout))
        if self.residual:
            branch = Residual(branch)
        return branch if before else sequential(sum=branch, norm=norm)

    def _attention(self, mask: Literal["causal", "full"], *, has_memory: bool = False) -> Attention:
        # The places of an encoder's tokens and a decoder's are not on one line, so distances between them mean nothing.
        positions = "none" if has_memory else self.positions
        # Transformer-XL's score has its own biases and its projections none (Dai et al. 2019, section 3.3).
        bias = self.bias and positions != "relative"
        return Attention(
            self.num_heads,
            self.head_size,
            self.num_kv_heads,
            mask,
            positions,
            bias=bias,
            out_bias=bias,
            dropout=self.dropout,
            num_streams=self.num_streams,
            has_memory=has_memory,
            has_segments=self.has_segments and positions == "relative",
            init=self.init,
            out_init=self.init,
        )

    def _feed_forward(self) -> Layer:
        if self.num_experts:
            return Experts(
                self.num_experts,
                self.top_k,
                self.ff_width,
                self.activation,
                self.is_gated,
                self.bias,
                init=self.init,
                out_init=self.init,
            )
        dense = Dense(self.ff_width, self.bias, init=self.init, group="mlp", term="mlp")
        down = dataclasses.replace(dense, width=self.width, division="rows")
        if self.is_gated:
            return sequential(hidden=Gated(self.ff_width, self.activation, self.bias, self.init), down=down)
        return sequential(up=dense, activation=Activation(self.activation), down=down)


def block_of(shape: Shape) -> Block:
    """Returns what all blocks of a text transformer have in common."""
    spec = shape.spec
    heads, head_size = split_heads(shape.width, spec.head_size, spec.num_kv_heads)
    return Block(
        width=shape.width,
        num_heads=heads,
        head_size=head_size,
        num_kv_heads=spec.num_kv_heads or heads,
        ff_width=find_ff_width(shape.width, spec.ff_ratio, is_gated=spec.is_gated),
        activation=spec.activation,
        normalization=spec.normalization,
        residual=spec.residual,
        dropout=spec.dropout,
        init=initializer(spec),
        is_gated=spec.is_gated,
        bias=spec.bias,
        norm_position=spec.norm_position,
        positions=spec.positions if spec.positions in ("rotary", "relative") else "none",
        has_segments=spec.num_segments > 0,
        num_streams=2 if shape.task.objective == "permuted" else 1,
        num_experts=spec.num_experts,
        top_k=spec.top_k,
    )


def split_heads(width: int, head_size: int | None = None, num_kv_heads: int | None = None) -> tuple[int, int]:
    """Returns H and K, so that H · K is the width, and G divides H.

    Unless told, K is even (rotary positions turn pairs) and of all that fit the nearest in ratio to 64, within 32 and
    128; nearest to 16 for widths under 64. K may go down to 8 where G asks for more heads.

    >>> split_heads(768), split_heads(1280), split_heads(96), split_heads(32), split_heads(1536, 96)
    ((12, 64), (20, 64), (2, 48), (2, 16), (16, 96))
    >>> split_heads(768, num_kv_heads=8)
    (16, 48)

    Raises:
      InputError: the width does not split so.
    """
    fits = _head_sizes(width, head_size, num_kv_heads)
    if not fits:
        told = f" of model.head_size={head_size}" if head_size else " of even size"
        told += f" in model.num_kv_heads={num_kv_heads} groups" if num_kv_heads else ""
        multiple = (head_size or 32) * (num_kv_heads or 1)
        raise InputError(f"model.width={width} does not split into heads{told}; choose a multiple of {multiple}")
    aim = HEAD_SIZE if width >= HEAD_SIZE else NARROW_HEAD_SIZE
    best = min(fits, key=lambda size: abs(math.log(size / aim)))
    return width // best, best


def can_split(width: int, head_size: int | None = None, num_kv_heads: int | None = None) -> bool:
    """Returns whether a width splits into heads.

    >>> [width for width in range(126, 140) if can_split(width)]
    [126, 128, 132, 136, 138]
    """
    return bool(_head_sizes(width, head_size, num_kv_heads))


@functools.lru_cache(maxsize=4096)
def _head_sizes(width: int, head_size: int | None, num_kv_heads: int | None) -> tuple[int, ...]:
    """Returns the head sizes that a width can have."""
    if head_size is not None:
        sizes: Iterable[int] = (head_size,)
    elif width < HEAD_SIZE:
        sizes = range(2, width + 1, 2)
    else:
        sizes = range(MIN_GROUPED_HEAD_SIZE if num_kv_heads else MIN_HEAD_SIZE, MAX_HEAD_SIZE + 1, 2)
    return tuple(size for size in sizes if width % (size * (num_kv_heads or 1)) == 0)


def find_ff_width(width: int, ratio: float, *, is_gated: bool = False) -> int:
    """Returns F.

    >>> find_ff_width(768, 4.0), find_ff_width(512, 8 / 3, is_gated=True)
    (3072, 1368)
    """
    if is_gated and width >= HEAD_SIZE:
        return max(1, round(ratio * width / GATED_MULTIPLE)) * GATED_MULTIPLE
    return max(1, round(ratio * width))


def initializer(spec: TransformerSpec | ViTSpec) -> Initializer:
    """Returns how the hidden matrices start: `auto` is lecun, for a norm stands before every sublayer's activations."""
    return Initializer("lecun") if spec.initializer == "auto" else hidden_initializer(spec)


def settle_depth(spec: TransformerSpec | ViTSpec) -> TransformerSpec | ViTSpec:
    """Returns a specification whose depth, where it has one beside `num_params`, rules in place of the aspect."""
    if spec.depth is None or spec.num_params is None:
        return spec
    return spec.model_copy(update={"aspect": "fixed_depth"})


def dropout(rate: float) -> Layer | None:
    """Returns a dropout layer, or None where the rate is 0."""
    return Dropout(rate) if rate else None
