"""What every source gives: a training pool, read by index, and a fixed evaluation set that never meets it."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from scaling.data.permutation import shuffled
from scaling.specs.base import InputError
from scaling.specs.task import Objective, TaskShape

# The split of a source into pool and evaluation set is part of the data, not of a cell: one seed for everyone.
SPLIT_SEED = 0x5EED


class Rows(Protocol):
    """Examples by index: a NumPy array, in memory or mapped, or anything that reads, decodes or cuts them on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …): number of examples, and the dims of one."""

    @property
    def dtype(self) -> np.dtype:
        """Of the examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Returns examples [k, …], by a slice or an array [k] of indices, in that order."""


class SelectedRows:
    """Some rows of others in a dtype of choice, read when they are asked for.

    Attributes:
      rows: [n, …], in memory or mapped.
      indices: [k] of those that are meant; None for all.
    """

    def __init__(self, rows: Rows, indices: np.ndarray | None = None, dtype: np.dtype | None = None):
        self.rows = rows
        self.indices = indices
        self._dtype = rows.dtype if dtype is None else np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(k, …)."""
        return (len(self), *self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""
        return self._dtype

    def __len__(self) -> int:
        return len(self.rows) if self.indices is None else len(self.indices)

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Returns rows [j, …] in memory, by a slice or an array [j] of indices."""
        wanted = indices if self.indices is None else self.indices[indices]
        return np.array(self.rows[wanted], self._dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Examples to train on, and others to evaluate on.

    Attributes:
      name: for people.
      inputs: the pool; [n, T] tokens below `vocab_size` ([n, T + 1] where the next token is predicted), or [n, F]
        numbers, the rows of an image included.
      labels: [n] int32 in 0 … num_classes - 1 to classify, float32 to regress: [n], or [n, M] for several numbers; None
        where tokens are predicted.
      eval_inputs, eval_labels: the fixed evaluation set, disjoint from the pool.
      num_classes: K; M to regress; V where tokens are predicted.
      objective: what is learned.
      vocab_size: V for token inputs; None for numbers.
      scaling: `unit` when `inputs * unit` is of order one; `standardize` when columns have units of their own and a
        learner scales them by the mean and standard deviation of its own subset.
      unit: the factor for `unit` scaling.
      image_shape: (H, W, C) where the F numbers are an image, row by row.
      groups: [n] int64, the group of each example, where it matters; no group is in the evaluation set too.
      pack: (seed, m) → the first m examples or more of the pool under that seed, where they are not rows of a fixed
        table: sequences, cut from documents in the seed's order. `inputs` then holds those of some fixed order.
      boundary: the token that ends each document; None where sequences are not packed from documents.
      bytes_per_token: the bytes per token of the evaluation set's text; None for what is no text.
      scarce: the corpus of a mixture that runs out first.
      facts: what else a record should keep: numbers of documents, of examples passed over, hashes.
      known_hashes: of the pool and of the evaluation set, where reading all of them for a hash would be too much.
    """

    name: str
    inputs: Rows
    labels: np.ndarray | None
    eval_inputs: Rows
    eval_labels: np.ndarray | None
    num_classes: int
    objective: Objective = "classify"
    vocab_size: int | None = None
    scaling: str = "unit"
    unit: float = 1.0
    image_shape: tuple[int, int, int] | None = None
    groups: np.ndarray | None = None
    pack: Callable[[int, int], Rows] | None = None
    boundary: int | None = None
    bytes_per_token: float | None = None
    scarce: str | None = None
    facts: dict[str, int | float | str] = dataclasses.field(default_factory=dict)
    known_hashes: tuple[str, str] | None = None

    @property
    def size(self) -> int:
        """Examples in the pool."""
        return len(self.inputs)

    @property
    def evaluation_size(self) -> int:
        """Examples in the evaluation set."""
        return len(self.eval_inputs)

    @property
    def example_tokens(self) -> int:
        """Tokens of an example that a network sees; 1 where examples are counted and not tokens."""
        if self.labels is not None:
            return 1
        return self.inputs.shape[1] - (self.objective == "next_token")

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the pool."""
        return self.known_hashes[0] if self.known_hashes else hash_examples(self.inputs, self.labels)

    @functools.cached_property
    def eval_sha256(self) -> str:
        """Hash of the evaluation set."""
        return self.known_hashes[1] if self.known_hashes else hash_examples(self.eval_inputs, self.eval_labels)


def draw_evaluation(num_examples: int, evaluation_size: int) -> np.ndarray:
    """Returns which of the examples that come for evaluation are used: the first of an order that is everyone's."""
    return shuffled(num_examples, SPLIT_SEED)[:evaluation_size]


def hold_out(
    name: str, num_examples: int, evaluation_size: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sorted indices of pool and evaluation set of examples that come without a split of their own.

    With groups, whole ones are held out until they have enough examples; what the last one has too many is left out of
    both, so that the evaluation set has exactly `evaluation_size` and shares no group with the pool.

    Raises:
      InputError: nothing would be left to train on.
    """
    if evaluation_size >= num_examples:
        raise InputError(
            f"data.evaluation_size={evaluation_size} leaves none of the {num_examples} examples of {name} to train on; "
            f"choose fewer than {num_examples}"
        )
    if groups is None:
        order = shuffled(num_examples, SPLIT_SEED)
        return np.sort(order[evaluation_size:]), np.sort(order[:evaluation_size])
    _, members = np.unique(groups, return_inverse=True)
    counts = np.bincount(members)
    order = shuffled(len(counts), SPLIT_SEED)
    num_held_out = int(np.searchsorted(np.cumsum(counts[order]), evaluation_size)) + 1
    if num_held_out >= len(counts):
        raise InputError(
            f"data.evaluation_size={evaluation_size} needs all {len(counts)} groups of {name} and leaves none to train "
            "on; choose fewer"
        )
    is_held_out = np.isin(members, order[:num_held_out])
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)[:evaluation_size]


def split_examples(
    name: str,
    inputs: np.ndarray,
    labels: np.ndarray,
    evaluation_size: int,
    groups: np.ndarray | None = None,
    **how: Any,
) -> Source:
    """Returns a source whose evaluation set is drawn once and for all from examples without a split of their own.

    Args:
      name: the name of the source.
      inputs: [n, …].
      labels: [n] classes, or [n] or [n, M] numbers.
      evaluation_size: examples to hold out.
      groups: [n] that must not be torn apart.
      **how: further fields of the source.
    """
    pool, held_out = hold_out(name, len(labels), evaluation_size, groups)
    regress = how.get("objective") == "regress"
    labels = labels.astype(np.float32 if regress else np.int32)
    return Source(
        name=name,
        inputs=inputs[pool],
        labels=labels[pool],
        eval_inputs=inputs[held_out],
        eval_labels=labels[held_out],
        num_classes=count_numbers(labels) if regress else int(labels.max()) + 1,
        groups=None if groups is None else np.unique(groups, return_inverse=True)[1][pool],
        **how,
    )


def count_numbers(labels: np.ndarray) -> int:
    """Returns M, how many numbers a label [n] or [n, M] is."""
    return labels.shape[1] if labels.ndim == 2 else 1


def drop_single(numbers: np.ndarray) -> np.ndarray:
    """Returns numbers [n, 1] as [n], as sources have one a label; others as they are."""
    return numbers[:, 0] if numbers.shape[1:] == (1,) else numbers


def hash_examples(inputs: Rows, labels: np.ndarray | None) -> str:
    """Returns the sha256 of dtype, shape and content of inputs and labels."""
    digest = hashlib.sha256()
    for rows in (inputs,) if labels is None else (inputs, labels):
        digest.update(f"{rows.dtype.str}{tuple(rows.shape)}".encode())
        for start in range(0, len(rows), 1 << 16):
            digest.update(np.ascontiguousarray(rows[start : start + (1 << 16)]).data)
    return digest.hexdigest()


def task_shape(source: Source) -> TaskShape:
    """Returns what a model must fit to learn from a source."""
    num_features = source.example_tokens if source.labels is None else source.inputs.shape[1]
    return TaskShape(
        num_features, source.vocab_size, source.num_classes, source.image_shape, source.objective, source.boundary
    )
