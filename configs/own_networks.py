"""Networks that this package does not have, beside one that it has: does gating, or a recurrence, pay at equal N?

Question: at 10,000 parameters and equal steps, which of three networks predicts the next token best as the data grows:
an LSTM of this package, a gated MLP over the last tokens, or a small state-space model? The last two are Flax modules
of this file, one of Linen and one of NNX; a module of your own takes their place.

Task: a Markov language of known entropy (`MarkovSource`), 16 tokens at a time. The loss is in nats a token.

Command: `scaling run own_networks`, then `scaling report runs/own_networks`; `scaling models --study
configs/own_networks.py --family own_networks:state_space --params 10k --set task.vocab_size=32 --set
task.objective=next_token --set task.image_shape=null --set task.num_features=16` shows what each array is taken for.

Expected: all three approach the language's entropy of 2.876 nats from above; fitted floors of 2.89 (95 %: 2.85 to
2.92), 2.92 and 2.92. The LSTM is ahead on little data, the state-space model from about 3,800 tokens on.
Cost: a minute and a quarter on two CPU cores.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from scaling import (
    AdamWSpec,
    Cell,
    DataSpec,
    LSTMSpec,
    MarkovSource,
    ModelSpec,
    Series,
    Study,
    TaskShape,
    TrainingSpec,
    from_module,
    ladder,
)

# Dims: B batch, T tokens, D width, V vocabulary, W tokens that the gated MLP sees.


class GatedMLP(linen.Module):
    """A gated feed-forward block over the embeddings of the last W tokens."""

    width: int
    task: TaskShape
    window: int = 4

    @linen.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns logits [B, T, V] of tokens [B, T]."""
        x = linen.Embed(self.task.vocab_size, self.width)(tokens)  # [B, T, D]
        shifted = [jnp.pad(x, ((0, 0), (back, 0), (0, 0)))[:, : x.shape[1]] for back in range(self.window)]
        x = jnp.concatenate(shifted, axis=-1)  # [B, T, W·D]
        x = linen.silu(linen.Dense(2 * self.width)(x)) * linen.Dense(2 * self.width)(x)  # [B, T, 2D]
        return linen.Dense(self.task.num_classes)(linen.Dense(self.width)(x))  # [B, T, V]


def gated_mlp(width: int, task: TaskShape, window: int = 4) -> linen.Module:
    """Returns the gated MLP of a width."""
    return GatedMLP(width, task, window)


class StateSpace(nnx.Module):
    """A linear recurrence by element, gated: h ← a h + (1 - a) u."""

    def __init__(self, width: int, task: TaskShape, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(task.vocab_size, width, rngs=rngs)
        self.decay = nnx.Param(jnp.linspace(-2.0, 3.0, width))
        self.inputs = nnx.Linear(width, 2 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.head = nnx.Linear(width, task.num_classes, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns logits [B, T, V] of tokens [B, T]."""
        x = self.embed(tokens)  # [B, T, D]
        u, gate = jnp.split(self.inputs(x), 2, axis=-1)  # [B, T, D] each
        keep = nnx.sigmoid(self.decay[...])[None]  # [1, D]

        def step(state: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = keep * state + (1.0 - keep) * value
            return state, state

        _, states = jax.lax.scan(step, jnp.zeros_like(u[:, 0]), u.swapaxes(0, 1))  # [T, B, D]
        return self.head(x + self.out(states.swapaxes(0, 1) * nnx.silu(gate)))  # [B, T, V]


def state_space(width: int, task: TaskShape, rngs: nnx.Rngs) -> nnx.Module:
    """Returns the state-space model of a width."""
    return StateSpace(width, task, rngs)


def study(num_params: int = 10_000, num_seeds: int = 2, largest: int = 1_600, steps: int = 400) -> Study:
    """Returns the study.

    Args:
      num_params: N of each network.
      num_seeds: repeats of each cell.
      largest: m, in sequences, of the largest subset.
      steps: optimiser steps of each cell.
    """
    source = MarkovSource(vocab_size=32, sequence_length=16, num_sequences=4_000)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=5e-3, weight_decay=0.1), batch_size=64, num_steps=steps)

    def series(label: str, model: ModelSpec) -> Series:
        sizes = [(size, seed) for size in ladder(100, largest) for seed in range(num_seeds)]
        data: dict[int, Any] = {size: DataSpec(source=source, size=size, evaluation_size=500) for size, _ in sizes}
        cells = (Cell(model=model, data=data[size], training=training, seed=seed) for size, seed in sizes)
        return Series(label=label, cells=tuple(cells))

    return Study(
        name="own_networks",
        question="Which of three networks of equal size learns a Markov language best?",
        metric="loss",
        series=(
            series("LSTM", LSTMSpec(num_params=num_params, depth=1)),
            series("gated MLP", from_module(gated_mlp, num_params=num_params)),
            series("state space", from_module(state_space, num_params=num_params)),
        ),
    )
