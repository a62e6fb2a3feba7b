"""FLOPs of a network, from its layers: by named term, forward and in training, under a stated convention."""

import dataclasses
from typing import Literal

from scaling.models.counting.params import count_active
from scaling.models.layers.core import Visit, walk
from scaling.models.layers.sequence import Attention
from scaling.models.layers.traced import TracedModule
from scaling.models.shape import Shape, make_layers

# Raise when what `flops` and `train_flops` of a record count changes meaning.
FLOPS_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Convention:
    """What a FLOP count includes. A multiply-add is 2; element-wise work is left out unless switched on.

    Attributes:
      embedding: token embedding as the product with one-hot rows that it is not, 2·V·D a token (Hoffmann et al. 2022).
      logits: the readout.
      attention: scores and weighted values: of every pair of tokens (`full`), of the pairs that a causal mask lets
        through, (T + 1) / 2 of T (`causal`), or none.
      softmax, norms: element-wise work of attention and of normalisation.
      remat: recompute all blocks in the backward pass; changes `hardware` FLOPs alone.
    """

    embedding: bool = False
    logits: bool = True
    attention: Literal["full", "causal", "none"] = "full"
    softmax: bool = False
    norms: bool = False
    remat: bool = False


DEFAULT = Convention()
EVERY_TERM = Convention(embedding=True, softmax=True, norms=True)  # what records keep, for any convention afterwards


@dataclasses.dataclass(frozen=True)
class Flops:
    """Counts of one example, or of one token where tokens are predicted.

    Attributes:
      forward: by term.
      train: by term: three times forward (one for each factor's gradient), less the first layer's unneeded input
        gradient.
      hardware: the hardware of a training step, with what is recomputed.
      six_n: the rule of thumb, 6 · N, with the parameters that one token uses.
      unit: `per example` or `per token`.
    """

    forward: dict[str, float]
    train: dict[str, float]
    hardware: float
    six_n: float
    unit: str


def count_flops(shape: Shape, convention: Convention = DEFAULT) -> Flops:
    """Returns a network's FLOPs; terms that the convention leaves out are absent."""
    per = shape.task.num_features if shape.task.predicts_tokens else 1
    forward: dict[str, float] = {}
    train: dict[str, float] = {}
    needs_no_input_gradient = shape.task.vocab_size is None
    for visit in walk(make_layers(shape), shape.task.dims):
        traced = visit.layer.train_flops(visit.dims)
        for term, flops in visit.layer.flops(visit.dims).items():
            share = _share(term, visit, convention) * visit.copies / per
            factor = 3.0 if traced is None or not flops else traced[term] / flops
            if (
                traced is None
                and needs_no_input_gradient
                and any(w.is_matmul for w in visit.layer.weights(visit.dims).values())
            ):
                needs_no_input_gradient, factor = False, 2.0
            if share and not visit.in_auxiliary:
                forward[term] = forward.get(term, 0.0) + flops * share
            if share:
                train[term] = train.get(term, 0.0) + factor * flops * share
    recomputed = sum(flops for term, flops in forward.items() if term not in ("logits", "embedding"))
    return Flops(
        forward=forward,
        train=train,
        hardware=sum(train.values()) + (recomputed if convention.remat else 0.0),
        six_n=6.0 * count_active(shape),
        unit="per token" if shape.task.predicts_tokens else "per example",
    )


def _share(term: str, visit: Visit, convention: Convention) -> float:
    """Returns which share of a term's FLOPs counts."""
    if isinstance(visit.layer, TracedModule):  # its terms are names of a user's modules, but for the readout's
        return float(convention.logits or term != "logits")
    if term in ("attention", "softmax"):
        layer, num_tokens = visit.layer, visit.dims[0]
        is_causal = isinstance(layer, Attention) and layer.mask == "causal"
        causal = (num_tokens + 1) / (2 * num_tokens) if is_causal else 1.0
        share = {"full": 1.0, "causal": causal, "none": 0.0}[convention.attention]
        return share if term == "attention" or convention.softmax else 0.0
    switches = {"embedding": convention.embedding, "logits": convention.logits, "norm": convention.norms}
    return float(switches.get(term, True))
