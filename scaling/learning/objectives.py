"""What a network is trained for: classes or numbers of examples, or tokens: next, masked, or in a permuted order.

Dims: B batch, T tokens, K classes, M numbers, V vocabulary.
"""

from typing import Any, Literal, NamedTuple, assert_never

import jax
import jax.numpy as jnp
import optax

from scaling.learning.cross_entropy import log_likelihood_parts
from scaling.models.network import Outputs
from scaling.specs.task import TaskShape

# Of masked language modelling (Devlin et al. 2018): the share of tokens to predict, and how many of these the network
# sees as the mask token, as a random token, or as they are.
MASKED_SHARE, SHOWN_AS_MASK, SHOWN_AT_RANDOM = 0.15, 0.8, 0.1

# Of permutation language modelling (Yang et al. 2019): one token in six, the last ones of the order, is predicted.
PREDICTED_SHARE = 1 / 6

CrossEntropy = Literal["auto", "plain", "lean"]


class Batch(NamedTuple):
    """What one step learns from.

    Attributes:
      inputs: the inputs of the network: numbers [B, …], tokens [B, T], or a dict of tokens and what is said of them.
      targets: [B] classes, [B] or [B, M] numbers in floating point, or [B, T] tokens.
      weights: one a prediction, [B] or [B, T]: 1 where the loss counts, else 0; None for everywhere.
    """

    inputs: Any
    targets: jax.Array
    weights: jax.Array | None


def make_batch(task: TaskShape, inputs: jax.Array, labels: jax.Array, key: jax.Array) -> Batch:
    """Returns inputs and targets of a task's objective.

    Args:
      task: with the objective.
      inputs: [B, …] examples; tokens [B, T + 1] for `next_token`, whose last ones are targets alone; else [B, T].
      labels: [B] classes, or [B] or [B, M] float32 numbers; ignored where tokens are predicted.
      key: draws masks and permutations.
    """
    match task.objective:
        case "next_token":
            return Batch(inputs[:, :-1], inputs[:, 1:], None)
        case "masked":
            return _mask(task, inputs, key)
        case "permuted":
            ranks = jnp.argsort(jax.random.uniform(key, inputs.shape), axis=-1)  # [B, T], a permutation a row
            first_predicted = round(inputs.shape[1] * (1 - PREDICTED_SHARE))
            weights = (ranks >= first_predicted).astype(jnp.float32)
            return Batch({"tokens": inputs, "ranks": ranks}, inputs, weights)
        case "classify" | "regress" | "none":
            return Batch(inputs, labels, None)
        case _:
            assert_never(task.objective)


def _mask(task: TaskShape, tokens: jax.Array, key: jax.Array) -> Batch:
    """Returns tokens of which some are hidden; the vocabulary's last token is the mask."""
    assert task.vocab_size is not None  # noqa: S101  (tokens have a vocabulary)
    chosen_key, how_key, token_key = jax.random.split(key, 3)
    chosen = jax.random.uniform(chosen_key, tokens.shape) < MASKED_SHARE  # [B, T]
    how = jax.random.uniform(how_key, tokens.shape)
    random = jax.random.randint(token_key, tokens.shape, 0, task.vocab_size - 1)
    shown = jnp.where(how < SHOWN_AS_MASK, task.vocab_size - 1, tokens)
    shown = jnp.where((how >= SHOWN_AS_MASK) & (how < SHOWN_AS_MASK + SHOWN_AT_RANDOM), random, shown)
    return Batch(jnp.where(chosen, shown, tokens), tokens, chosen.astype(jnp.float32))


def nats(logits: jax.Array, targets: jax.Array, implementation: CrossEntropy = "auto") -> jax.Array:
    """Returns negative log-likelihoods like targets, of logits with classes last; float32 whatever the logits are.

    `auto` is `plain` on CPUs, which there takes 0.8 of the time of `lean` for 256 classes; elsewhere it is `lean`,
    which keeps nothing as large as the logits but these, and leaves them divided among devices as they are.
    """
    if implementation == "plain" or (implementation == "auto" and jax.default_backend() == "cpu"):
        return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
    return log_likelihood_parts(logits, targets)[0]


def is_regression(batch: Batch) -> bool:
    """Returns whether targets are numbers: classes and tokens are integers."""
    return bool(jnp.issubdtype(batch.targets.dtype, jnp.floating))


def prediction_losses(logits: jax.Array, batch: Batch, cross_entropy: CrossEntropy = "auto") -> jax.Array:
    """Returns the loss of each prediction, [B] or [B, T]: the squared error of a number, the mean of M, else nats.

    Args:
      logits: [B, M] predicted numbers, or [B, K] or [B, T, V] logits.
      batch: with the targets.
      cross_entropy: as in `Execution`.
    """
    if is_regression(batch):
        squares = _squared_errors(logits, batch)
        return squares if squares.ndim == 1 else squares.mean(axis=-1)
    return nats(logits, batch.targets, cross_entropy)


def _squared_errors(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns the squared error of each number, like the targets."""
    return (logits.reshape(batch.targets.shape) - batch.targets) ** 2


def training_loss(
    outputs: Outputs, batch: Batch, z_loss: float = 0.0, cross_entropy: CrossEntropy = "auto"
) -> jax.Array:
    """Returns the mean loss of the predictions, with what auxiliary heads and experts add.

    Args:
      outputs: the outputs of the network.
      batch: with the targets.
      z_loss: weight of the mean of log² Z, where Z is what a prediction's softmax divides by.
      cross_entropy: as in `Execution`.
    """

    def mean(values: jax.Array) -> jax.Array:
        if batch.weights is None:
            return values.mean()
        return (values * batch.weights).sum() / jnp.maximum(batch.weights.sum(), 1.0)

    def mean_loss(logits: jax.Array) -> jax.Array:
        return mean(prediction_losses(logits, batch, cross_entropy))

    if z_loss:
        losses, log_z = log_likelihood_parts(outputs.logits, batch.targets)
        loss = mean(losses) + z_loss * mean(jnp.square(log_z)) + outputs.penalty
    else:
        loss = mean_loss(outputs.logits) + outputs.penalty
    return sum((weight * mean_loss(logits) for weight, logits in outputs.auxiliary), loss)


def keep_real(batch: Batch, is_real: jax.Array) -> Batch:
    """Returns a batch of which only some examples count.

    Args:
      batch: with targets [B], [B, M] or [B, T].
      is_real: [B], 1 for examples that count and 0 for padding.
    """
    weights = _weights(batch)
    return batch._replace(weights=weights * is_real.reshape(-1, *(1,) * (weights.ndim - 1)))


def _weights(batch: Batch) -> jax.Array:
    """Returns how much each prediction counts, [B] or [B, T]."""
    shape = batch.targets.shape[:1] if is_regression(batch) else batch.targets.shape
    return jnp.ones(shape) if batch.weights is None else batch.weights


def evaluation_sums(outputs: Outputs, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (summed loss, number predicted right, number of predictions).

    The loss is in nats, and the squared error where numbers are predicted, none of which counts as right; of M numbers
    [M], since each has a unit of its own.
    """
    weights = _weights(batch)
    if is_regression(batch):
        squares = _squared_errors(outputs.logits, batch)
        return (squares * weights.reshape(-1, *(1,) * (squares.ndim - 1))).sum(axis=0), jnp.zeros(()), weights.sum()
    loss = (prediction_losses(outputs.logits, batch) * weights).sum()
    right = outputs.logits.argmax(-1) == batch.targets
    return loss, (right * weights).sum(), weights.sum()
