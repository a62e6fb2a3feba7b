"""Multilayer perceptrons of any size; token inputs are embedded and laid side by side (Bengio et al. 2003).

Dims: B batch, F features, T tokens, V vocabulary, E embedding width, D hidden width, L hidden layers, K classes.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.cell import MLPSpec
from scaling.models import Model, TaskShape, as_model, named_rngs
from scaling.spec import InputError

# A request that no width meets within this factor is refused, not rounded.
MAX_MISS = 1.5

ACTIVATIONS = {"relu": nnx.relu, "tanh": jnp.tanh, "sigmoid": nnx.sigmoid, "gelu": nnx.gelu}

# Variance of x·W keeps the activations' scale: 2 after ReLU and GELU (He et al. 2015), else 1 (LeCun et al. 1998).
GAINS = {"relu": 2.0, "gelu": 2.0, "tanh": 1.0, "sigmoid": 1.0}


@dataclasses.dataclass(frozen=True)
class MLPShape:
    """Everything that decides a network's arrays.

    Attributes:
      task: inputs and classes.
      embedding_width: E; 0 for inputs that are numbers.
      width: D.
      depth: L.
      activation: name of the nonlinearity.
    """

    task: TaskShape
    embedding_width: int
    width: int
    depth: int
    activation: str

    @property
    def fan_ins(self) -> list[int]:
        """Inputs of each hidden layer."""
        first = self.task.num_features * (self.embedding_width or 1)
        return [first] + [self.width] * (self.depth - 1)


def shape(spec: MLPSpec, task: TaskShape) -> MLPShape:
    """Returns the shape whose parameter count is nearest to the request; only the width varies.

    Raises:
      InputError: the request is smaller or coarser than this family can be.
    """
    embedding_width = spec.embedding_width if task.vocab_size is not None else 0

    def at(width: int) -> MLPShape:
        return MLPShape(task, embedding_width, width, spec.depth, spec.activation)

    def count(width: int) -> int:
        return sum(count_params(at(width)).values())

    low, high = 1, 2
    while count(high) < spec.num_params:
        low, high = high, high * 2
    while high - low > 1:  # count(low) <= request <= count(high), or the request is below count(1)
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= spec.num_params else (low, middle)
    best = min((low, high), key=lambda width: abs(count(width) - spec.num_params))
    miss = max(count(best) / spec.num_params, spec.num_params / count(best))
    if miss > MAX_MISS:
        raise InputError(
            f"model.num_params={spec.num_params}: the nearest mlp of depth {spec.depth} and embedding width "
            f"{embedding_width} here has {count(best)}; ask for at least {math.ceil(count(1) / MAX_MISS)}, or make "
            "embedding_width smaller"
        )
    return at(best)


def count_params(shape: MLPShape) -> dict[str, int]:
    """Returns parameters by group: `embedding` V·E, `hidden` matrices and biases, `head` D·K + K."""
    return {
        "embedding": (shape.task.vocab_size or 0) * shape.embedding_width,
        "hidden": sum(fan_in * shape.width + shape.width for fan_in in shape.fan_ins),
        "head": shape.width * shape.task.num_classes + shape.task.num_classes,
    }


def count_flops(shape: MLPShape) -> dict[str, float]:
    """Returns training FLOPs an example by term, counting a multiply-add as 2 and element-wise work as 0.

    Forward x·W costs 2·in·out; the backward pass costs that twice, for the weights and for the inputs. A first layer
    on numbers needs no gradient of its inputs. An embedding is a lookup: 0.
    """
    hidden = [2.0 * fan_in * shape.width for fan_in in shape.fan_ins]
    unneeded = 0.0 if shape.embedding_width else hidden[0]
    logits = 2.0 * shape.width * shape.task.num_classes
    return {"hidden": 3.0 * sum(hidden) - unneeded, "logits": 3.0 * logits}


def build(shape: MLPShape) -> Model:
    """Returns the network as two pure functions; outputs are logits, [B, K] float32."""
    return as_model(lambda key: MLP(shape, key))


class MLP(nnx.Module):
    """Embedding (for tokens), hidden layers, linear head."""

    def __init__(self, shape: MLPShape, key: jax.Array) -> None:
        self.activation = shape.activation
        gain = GAINS[shape.activation]
        if shape.embedding_width:
            assert shape.task.vocab_size is not None  # noqa: S101  (an embedding width means tokens)
            self.embedding = nnx.Embed(
                shape.task.vocab_size,
                shape.embedding_width,
                embedding_init=nnx.initializers.normal(1.0),
                rngs=named_rngs(key, "embedding"),
            )
        self.hidden: nnx.Dict[nnx.Linear] = nnx.Dict()
        for layer, fan_in in enumerate(shape.fan_ins):
            name = f"layer_{layer}"
            self.hidden[name] = nnx.Linear(
                fan_in,
                shape.width,
                kernel_init=nnx.initializers.variance_scaling(gain, "fan_in", "normal"),
                rngs=named_rngs(key, f"hidden/{name}"),
            )
        self.head = nnx.Linear(
            shape.width,
            shape.task.num_classes,
            kernel_init=nnx.initializers.variance_scaling(1.0, "fan_in", "normal"),
            rngs=named_rngs(key, "head"),
        )

    def __call__(self, inputs: jax.Array, *, train: bool, key: jax.Array | None) -> jax.Array:
        """Returns logits, [B, K], for numbers [B, F] or tokens [B, T]."""
        del train, key  # nothing here is random or keeps state
        x: Any = inputs
        if hasattr(self, "embedding"):
            # As a product with one-hot rows: XLA's scatter, the gradient of a lookup, is many times slower on CPUs.
            one_hot = jax.nn.one_hot(x, self.embedding.num_embeddings)  # [B, T, V]
            x = one_hot @ self.embedding.embedding[...]  # [B, T, E]
            x = x.reshape(x.shape[0], -1)  # [B, T·E]
        for layer in self.hidden.values():
            x = ACTIVATIONS[self.activation](layer(x))  # [B, D]
        return self.head(x)  # [B, K]
