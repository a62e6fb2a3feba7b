"""What one forward pass shares between layers."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp

from scaling.specs.execution import DEFAULT, Execution


@dataclasses.dataclass
class Context:
    """What one forward pass shares between layers; lives while the pass is traced.

    Attributes:
      train: whether dropout and batch statistics are on.
      key: the key of dropout; None when nothing is random.
      taps: receives the output of every named layer; None for none.
      auxiliary, penalties: what layers add to the loss.
      table: the token embedding, for a tied readout.
      memory: an encoder's output, for cross-attention.
      ranks: [B, T], the place of each token in the order of prediction (permutation language modelling).
      segments: [B, T], the segment of each token.
      documents: [B, T], the number of each token's document, where attention stops at their ends.
      execution: the implementations to run with.
      root: path of the copy of a repeated layer that this is inside of; its random bits do not depend on it.
      in_block: whether this is inside of what is computed again as a whole.
    """

    train: bool
    key: jax.Array | None
    taps: dict[str, jax.Array] | None = None
    auxiliary: list[tuple[float, jax.Array]] = dataclasses.field(default_factory=list)
    penalties: list[jax.Array] = dataclasses.field(default_factory=list)
    table: jax.Array | None = None
    memory: jax.Array | None = None
    ranks: jax.Array | None = None
    segments: jax.Array | None = None
    documents: jax.Array | None = None
    execution: Execution = DEFAULT
    root: str = ""
    in_block: bool = False

    @property
    def computes_again(self) -> bool:
        """Whether a block that starts here forgets what is inside; who asks for taps wants the insides."""
        return self.execution.remat != "none" and not self.in_block and self.taps is None

    def key_at(self, path: str) -> jax.Array | None:
        """Returns the key of the layer at a path; None when nothing is random."""
        inside = path.removeprefix(self.root)
        return None if self.key is None else jax.random.fold_in(self.key, zlib.crc32(inside.encode()))

    def tap(self, path: str, x: jax.Array) -> None:
        """Keeps a layer's output for who asked for it."""
        if self.taps is not None:
            self.taps[path] = x

    def drop(self, x: jax.Array, rate: float, path: str) -> jax.Array:
        """Returns x with a share of it zeroed and the rest scaled up, in training."""
        if not self.train or rate == 0.0:
            return x
        key = self.key_at(path)
        assert key is not None  # noqa: S101  (the trainer passes a key when it trains)
        kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
        return jnp.where(kept, x / (1.0 - rate), 0.0)
