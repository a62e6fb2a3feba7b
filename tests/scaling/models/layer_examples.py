"""One small example of every layer and of each of its forms, with all that it counts, computed by hand."""

from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import scaling.models.network  # noqa: F401  (modules of all kinds register themselves)
from scaling.models.layers.core import (
    Activation,
    Auxiliary,
    Branches,
    Dense,
    Dims,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    Norm,
    Repeat,
    Residual,
    sequential,
    walk,
)
from scaling.models.layers.image import (
    AdaptivePool,
    Affine,
    Conv,
    LocalResponseNorm,
    Pool,
    RadialReadout,
)
from scaling.models.layers.sequence import (
    LSTM,
    Attention,
    Embed,
    EncoderDecoder,
    Experts,
    Gated,
    ImageTokens,
    LearnedPositions,
    LearnedVector,
    QueryStream,
    Segments,
    SinusoidalPositions,
    TiedReadout,
)
from scaling.models.modules.context import Context
from scaling.models.modules.core import make_module
from scaling.models.modules.repeat import split_module


class Example(NamedTuple):
    """A layer on inputs of some dims.

    Attributes:
      layer, dims: what it is, and the dims that reach it.
      output: the dims that leave it.
      arrays: the shape of every array in it, by path.
      flops: of one example, by term.
    """

    layer: Layer
    dims: Dims
    output: Dims
    arrays: dict[str, Dims]
    flops: dict[str, float]


TWO, THREE, FOUR = Dense(2), Dense(3), Dense(4)

CORE = {
    "sequential": Example(
        sequential(first=THREE, none=None, second=TWO),
        (4,),
        (2,),
        {"first/kernel": (4, 3), "first/bias": (3,), "second/kernel": (3, 2), "second/bias": (2,)},
        {"hidden": 2 * 4 * 3 + 2 * 3 * 2},
    ),
    "repeat": Example(
        Repeat("block", Dense(4, bias=False), 3),
        (4,),
        (4,),
        {"block_0/kernel": (4, 4), "block_1/kernel": (4, 4), "block_2/kernel": (4, 4)},
        {"hidden": 3 * 2 * 4 * 4},
    ),
    "repeat nothing": Example(Repeat("block", FOUR, 0), (4,), (4,), {}, {}),
    "residual": Example(
        Residual(THREE, Dense(3, bias=False)),
        (4,),
        (3,),
        {"branch/kernel": (4, 3), "branch/bias": (3,), "shortcut/kernel": (4, 3)},
        {"hidden": 2 * 2 * 4 * 3},
    ),
    "residual with an identity": Example(
        Residual(FOUR), (4,), (4,), {"branch/kernel": (4, 4), "branch/bias": (4,)}, {"hidden": 2 * 4 * 4}
    ),
    "residual with a padded shortcut": Example(
        Residual(Conv(6, (1, 1), stride=2, bias=False), pad_shortcut=True),
        (4, 4, 3),
        (2, 2, 6),
        {"branch/kernel": (1, 1, 3, 6)},
        {"conv": 2 * 3 * 6 * 4},
    ),
    "branches": Example(
        Branches((("a", TWO), ("b", THREE))),
        (4,),
        (5,),
        {"a/kernel": (4, 2), "a/bias": (2,), "b/kernel": (4, 3), "b/bias": (3,)},
        {"hidden": 2 * 4 * 5},
    ),
    "auxiliary": Example(
        Auxiliary(THREE, 0.3), (4,), (4,), {"head/kernel": (4, 3), "head/bias": (3,)}, {"hidden": 2 * 4 * 3}
    ),
    "dense": Example(Dense(5), (3, 4), (3, 5), {"kernel": (4, 5), "bias": (5,)}, {"hidden": 2 * 3 * 4 * 5}),
    "dense readout": Example(
        Dense(5, bias=False, role="output", term="logits", scale=0.5), (4,), (5,), {"kernel": (4, 5)}, {"logits": 40}
    ),
    "batch norm": Example(Norm("batch"), (6,), (6,), {"scale": (6,), "bias": (6,)}, {"norm": 7 * 6}),
    "batch norm of images": Example(
        Norm("batch"), (2, 2, 6), (2, 2, 6), {"scale": (6,), "bias": (6,)}, {"norm": 7 * 24}
    ),
    "layer norm": Example(Norm("layer"), (2, 6), (2, 6), {"scale": (6,), "bias": (6,)}, {"norm": 7 * 12}),
    "group norm": Example(
        Norm("group", num_groups=4), (2, 2, 6), (2, 2, 6), {"scale": (6,), "bias": (6,)}, {"norm": 7 * 24}
    ),
    "rms norm": Example(Norm("rms"), (2, 6), (2, 6), {"scale": (6,)}, {"norm": 4 * 12}),
    "norm without a gain": Example(Norm("layer", use_gain=False), (6,), (6,), {"bias": (6,)}, {"norm": 7 * 6}),
    "activation": Example(Activation("gelu"), (2, 6), (2, 6), {}, {}),
    "dropout": Example(Dropout(0.5), (6,), (6,), {}, {}),
    "mean": Example(GlobalPool(), (2, 3, 6), (6,), {}, {}),
    "first token": Example(GlobalPool("first"), (3, 6), (6,), {}, {}),
    "last token": Example(GlobalPool("last"), (3, 6), (6,), {}, {}),
    "flatten": Example(Flatten(), (2, 3, 6), (36,), {}, {}),
}

IMAGE = {
    "convolution": Example(
        Conv(8, (3, 3)), (6, 5, 4), (6, 5, 8), {"kernel": (3, 3, 4, 8), "bias": (8,)}, {"conv": 2 * 9 * 4 * 8 * 30}
    ),
    "depthwise convolution": Example(
        Conv(None, (3, 3), stride=2, depthwise=True, bias=False),
        (6, 6, 4),
        (3, 3, 4),
        {"kernel": (3, 3, 1, 4)},
        {"conv": 2 * 9 * 4 * 9},
    ),
    "grouped convolution": Example(
        Conv(8, (1, 1), groups=2),
        (6, 6, 4),
        (6, 6, 8),
        {"kernel": (1, 1, 2, 8), "bias": (8,)},
        {"conv": 2 * 2 * 8 * 36},
    ),
    "padded convolution": Example(
        Conv(2, (3, 3), padding=2, bias=False), (4, 4, 1), (6, 6, 2), {"kernel": (3, 3, 1, 2)}, {"conv": 2 * 18 * 36}
    ),
    "convolution with a table of connections": Example(
        Conv(2, (2, 2), padding="VALID", connections=((0,), (0, 1))),
        (4, 4, 2),
        (3, 3, 2),
        {"kernel": (3, 2, 2), "bias": (2,)},
        {"conv": 2 * 3 * 4 * 9},
    ),
    "gain and bias by channel": Example(Affine(), (4, 4, 3), (4, 4, 3), {"scale": (3,), "bias": (3,)}, {}),
    "bias by place": Example(Affine(by_place=True), (4, 4, 3), (4, 4, 3), {"bias": (4, 4, 3)}, {}),
    "maximum": Example(Pool("max", 2, 2), (6, 5, 4), (3, 2, 4), {}, {}),
    "maximum that may stick out": Example(Pool("max", 3, 2, "CEIL"), (6, 6, 4), (3, 3, 4), {}, {}),
    "mean of real places": Example(Pool("mean", 3, 1, "SAME", count_padding=False), (4, 4, 2), (4, 4, 2), {}, {}),
    "sum": Example(Pool("sum", 2, 2), (4, 4, 2), (2, 2, 2), {}, {}),
    "adaptive pool": Example(AdaptivePool(2), (5, 7, 3), (2, 2, 3), {}, {}),
    "response norm": Example(LocalResponseNorm(), (4, 4, 8), (4, 4, 8), {}, {}),
    "radial readout": Example(RadialReadout(10), (84,), (10,), {}, {}),
}

PROJECTIONS = {
    "query/kernel": (8, 8),
    "query/bias": (8,),
    "key/kernel": (8, 4),
    "key/bias": (4,),
    "value/kernel": (8, 4),
    "value/bias": (4,),
    "out/kernel": (8, 8),
    "out/bias": (8,),
}
PROJECTION_FLOPS = 2 * 5 * 8 * (8 + 4 + 4 + 8)
PAIRS = 2 * 5 * 5  # heads, queries, keys

SEQUENCE = {
    "embedding": Example(Embed(7, 4), (5,), (5, 4), {"embedding": (7, 4)}, {"embedding": 2 * 5 * 7 * 4}),
    "embedding of documents": Example(
        Embed(7, 4, boundary=6), (5,), (5, 4), {"embedding": (7, 4)}, {"embedding": 2 * 5 * 7 * 4}
    ),
    "learnt positions": Example(LearnedPositions(8), (5, 4), (5, 4), {"embedding": (8, 4)}, {}),
    "sinusoidal positions": Example(SinusoidalPositions(), (5, 4), (5, 4), {}, {}),
    "segments": Example(Segments(2), (5, 4), (5, 4), {"embedding": (2, 4)}, {}),
    "class token": Example(LearnedVector("class_token"), (5, 4), (6, 4), {"embedding": (4,)}, {}),
    "two streams": Example(LearnedVector("query_stream"), (5, 4), (10, 4), {"embedding": (4,)}, {}),
    "idle vector": Example(LearnedVector("query_stream", is_used=False), (5, 4), (5, 4), {"embedding": (4,)}, {}),
    "query stream": Example(QueryStream(), (10, 4), (5, 4), {}, {}),
    "image as tokens": Example(ImageTokens(), (3, 2, 4), (6, 4), {}, {}),
    "gated": Example(
        Gated(6, "silu", bias=True),
        (5, 4),
        (5, 6),
        {"gate/kernel": (4, 6), "gate/bias": (6,), "up/kernel": (4, 6), "up/bias": (6,)},
        {"mlp": 2 * 2 * 5 * 4 * 6},
    ),
    "attention": Example(
        Attention(2, 4, 1, "causal"),
        (5, 8),
        (5, 8),
        PROJECTIONS,
        {"attention_projections": PROJECTION_FLOPS, "attention": 4 * PAIRS * 4, "softmax": 3 * PAIRS},
    ),
    "rotary attention": Example(
        Attention(2, 4, 2, "full", "rotary", bias=False, out_bias=False),
        (5, 8),
        (5, 8),
        {"query/kernel": (8, 8), "key/kernel": (8, 8), "value/kernel": (8, 8), "out/kernel": (8, 8)},
        {"attention_projections": 4 * 2 * 5 * 8 * 8, "attention": 4 * PAIRS * 4, "softmax": 3 * PAIRS},
    ),
    "relative attention": Example(
        Attention(2, 4, 1, "full", "relative", has_segments=True),
        (5, 8),
        (5, 8),
        PROJECTIONS
        | {
            "relative/kernel": (8, 8),
            "content_bias": (2, 4),
            "position_bias": (2, 4),
            "segment_bias": (2, 4),
            "segment_embedding": (2, 2, 4),
        },
        {
            "attention_projections": PROJECTION_FLOPS + 2 * 10 * 8 * 8,  # distances from -T to T
            "attention": 4 * PAIRS * 4 + 2 * (2 * PAIRS) * 4,  # and scores of all of them
            "softmax": 3 * PAIRS,
        },
    ),
    "lstm": Example(
        LSTM(3),
        (5, 4),
        (5, 3),
        {"input/kernel": (4, 12), "input/bias": (12,), "recurrent/kernel": (3, 12)},
        {"recurrent": 2 * 5 * (4 + 3) * 12},
    ),
    "experts": Example(
        Experts(4, 2, 6, "gelu", bias=True),
        (5, 8),
        (5, 8),
        {"router/kernel": (8, 4), "up": (4, 8, 6), "down": (4, 6, 8), "up_bias": (4, 6), "down_bias": (4, 8)},
        {"router": 2 * 5 * 8 * 4, "mlp": 2 * 5 * 2 * (2 * 8 * 6)},
    ),
    "gated experts": Example(
        Experts(4, 1, 6, "silu", is_gated=True),
        (5, 8),
        (5, 8),
        {"router/kernel": (8, 4), "up": (4, 8, 6), "down": (4, 6, 8), "gate": (4, 8, 6)},
        {"router": 2 * 5 * 8 * 4, "mlp": 2 * 5 * (3 * 8 * 6)},
    ),
    "tied readout": Example(TiedReadout(7), (5, 4), (5, 7), {}, {"logits": 2 * 5 * 4 * 7}),
    "tied readout with a bias": Example(
        TiedReadout(7, bias=True), (5, 4), (5, 7), {"bias": (7,)}, {"logits": 2 * 5 * 4 * 7}
    ),
    "encoder and decoder": Example(
        EncoderDecoder(Embed(7, 4), FOUR, FOUR, TiedReadout(7)),
        (5,),
        (5, 7),
        {
            "embedding/embedding": (7, 4),
            "encoder/kernel": (4, 4),
            "encoder/bias": (4,),
            "decoder/kernel": (4, 4),
            "decoder/bias": (4,),
        },
        {"embedding": 2 * 2 * 5 * 7 * 4, "hidden": 2 * 2 * 5 * 4 * 4, "logits": 2 * 5 * 4 * 7},
    ),
}


def counted_arrays(layer: Layer, dims: Dims) -> dict[str, Dims]:
    """Returns the shape of every array that a layer counts, by path."""
    return {
        "/".join((*visit.path, name)): weight.shape
        for visit in walk(layer, dims, expand=True)
        for name, weight in visit.layer.weights(visit.dims).items()
    }


def counted_flops(layer: Layer, dims: Dims) -> dict[str, float]:
    """Returns the FLOPs that a layer counts, its parts' included, by term."""
    found: dict[str, float] = {}
    for visit in walk(layer, dims):
        for term, flops in visit.layer.flops(visit.dims).items():
            found[term] = found.get(term, 0.0) + flops * visit.copies
    return found


def kinds_in(module: ModuleType) -> list[type[Layer]]:
    """Returns the layers that a module defines, in its order."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Layer) and kind.__module__ == module.__name__ and kind != Layer
    ]


def real_arrays(layer: Layer, dims: Dims) -> dict[str, Dims]:
    """Returns the shape of every array that a layer's module has, by path."""
    module = nnx.eval_shape(lambda: make_module(layer, dims, jax.random.key(0)))
    leaves = jax.tree_util.tree_leaves_with_path(split_module(module)[1])
    return {"/".join(str(key.key) for key in path): leaf.shape for path, leaf in leaves}


def real_output(layer: Layer, dims: Dims, *, batch: int = 2, train: bool = True) -> Dims:
    """Returns the dims of one example that leave a layer's module; nothing is computed."""
    is_tokens = isinstance(layer, Embed | EncoderDecoder)
    inputs = jax.ShapeDtypeStruct((batch, *dims), jnp.int32 if is_tokens else jnp.float32)
    table = jnp.zeros((7, dims[-1])) if isinstance(layer, TiedReadout) else None

    def run(x: jax.Array) -> jax.Array:
        context = Context(train=train, key=jax.random.key(1), table=table)
        return make_module(layer, dims, jax.random.key(0))(x, context)

    return jax.eval_shape(run, inputs).shape[1:]
