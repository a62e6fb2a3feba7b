"""Nested subsets: subset m is the first m of one seeded permutation, and records can prove it."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from scaling.data.permutation import mix, permute, shuffled
from scaling.data.source import Rows, Source
from scaling.specs.data import DataSpec, count_unique

# What a seed is used for: each draws from a hash of its own.
ORDER, NOISE, NEW_CLASS, REPEATED = 0x0BD3, 0x4015, 0x4016, 0xD0B2
CHUNK = 1 << 20  # indices hashed at once
KEPT = 1 << 16  # indices that are computed once and kept, at most
COMPARED_BYTES = 1 << 30  # of a pool that is compared with its evaluation set, at most


class KeyedOrder:
    """The first m of a seeded permutation of n indices, computed where it is read: no memory, whatever m and n."""

    def __init__(self, size: int, pool_size: int, seed: int) -> None:
        self.size, self.pool_size = size, pool_size
        self.key = mix(np, np.uint32(seed), np.uint32(ORDER))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, positions: Any) -> np.ndarray:
        """Returns the indices, int64, at positions below m: a slice or an array of integers."""
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(self.size))
        where = np.asarray(positions, np.uint32)
        return permute(np, where, np.uint32(self.pool_size), self.key).astype(np.int64)


Order = np.ndarray | KeyedOrder


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """What one cell may see of a source.

    Attributes:
      source: the source of the examples.
      rows: the table that `order` points into.
      labels: the labels of the whole table, with this seed's noise; None where tokens are predicted.
      order: [m] rows, in the order of the permutation; repeats only where duplicates were asked for.
      num_unique: distinct examples among the m.
      noisy: [n] which labels are not the source's; None without noise.
    """

    source: Source
    rows: Rows
    labels: np.ndarray | None
    order: Order
    num_unique: int
    noisy: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Its number of examples, m."""
        return len(self.order)

    def read(self, positions: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns inputs [k, …] and labels [k] of the examples at positions below m, a slice or an array."""
        return read_examples(self.rows, self.labels, self.order, positions)

    def identities(self) -> Order:
        """Returns what tells the examples apart, in order: rows [m], or first and last token of sequences [m, 2]."""
        return self.rows.spans(self.order[:]) if hasattr(self.rows, "spans") else self.order

    def class_counts(self) -> tuple[int, ...]:
        """Returns the examples of each class as they are labelled; nothing where there are no classes."""
        if self.source.objective != "classify" or self.labels is None:
            return ()
        counts = np.zeros(self.source.num_classes, np.int64)
        for start in range(0, self.size, CHUNK):
            counts += np.bincount(self.labels[self.order[start : start + CHUNK]], minlength=len(counts))
        return tuple(counts.tolist())

    def num_noisy(self) -> int:
        """Returns how many of the m have another label than the source gives them."""
        return 0 if self.noisy is None else int(self.noisy[self.order[:]].sum())

    def num_in_evaluation(self, source: Source | None = None) -> int | None:
        """Returns how many of the m have the inputs of an evaluation example; None where looking would take long.

        Args:
          source: with the evaluation set; None for the subset's own.
        """
        shared = _rows_in_evaluation(self.source, source or self.source)
        return None if shared is None else int(shared[self.order[:]].sum())


def read_examples(
    rows: Rows, labels: np.ndarray | None, order: Order, positions: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns inputs [k, …] and labels [k] of the examples at positions of an order."""
    chosen = order[positions]
    return rows[chosen], None if labels is None else labels[chosen]


def draw_subset(data: DataSpec, source: Source, seed: int) -> Subset:
    """Returns the subset of a cell; those of the same source, order and seed nest.

    Args:
      data: checked by `check_data`.
      source: the source of the examples.
      seed: the seed of the cell.
    """
    rows: Rows
    order: Order
    if source.pack is not None:
        rows, order = source.pack(seed, data.size), np.arange(data.size)
    else:
        rows, order = source.inputs, draw_order(source, data.order, seed, data.size)
    num_unique = data.size
    if data.duplication:
        places, num_unique = repeat_places(data.size, data.duplication, seed)
        order = order[places]
    labels, noisy = source.labels, None
    if data.label_noise and labels is not None:
        labels, noisy = change_labels(labels, source.num_classes, data.label_noise, seed)
    return Subset(source, rows, labels, order, num_unique, noisy)


def draw_order(source: Source, order: str, seed: int, size: int) -> Order:
    """Returns the first `size` indices of a seeded permutation of a source's examples, [size] int64.

    A longer draw with the same source, order and seed starts with a shorter one: subsets nest.

    Args:
      source: with n examples.
      order: `independent` (the plain permutation), `stratified` (every prefix holds each class within one example of
        its share), `balanced` (any two classes within one of each other) or `grouped` (group after group).
      seed: the seed of the permutation.
      size: m, at most n; for `balanced` at most K times the rarest class.
    """
    permutation = KeyedOrder(source.size, source.size, seed)
    if order == "independent":
        keyed = KeyedOrder(size, source.size, seed)
        return keyed[:] if size <= KEPT else keyed
    if order == "grouped":
        assert source.groups is not None  # noqa: S101  (check_data)
        _, members = np.unique(source.groups, return_inverse=True)
        ranks = np.empty(source.size, np.int64)
        ranks[permutation[:]] = np.arange(source.size)
        num_groups = int(members.max()) + 1
        return np.lexsort((ranks, KeyedOrder(num_groups, num_groups, seed)[members]))[:size]
    assert source.labels is not None  # noqa: S101  (check_data)
    shuffled_rows = permutation[:]
    by_class = [shuffled_rows[source.labels[shuffled_rows] == k] for k in range(source.num_classes)]
    tie_order = shuffled(source.num_classes, seed)
    if order == "stratified":
        classes = _spread_classes(np.array([len(members) for members in by_class])[tie_order], size)
    else:
        classes = np.arange(size) % source.num_classes
    drawn = np.empty(size, np.int64)
    for position, k in enumerate(tie_order):
        places = np.flatnonzero(classes == position)
        drawn[places] = by_class[k][: len(places)]
    return drawn


def change_labels(labels: np.ndarray, num_classes: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels of which a share is replaced by another class, and which they are; both [n].

    Each example is drawn by itself from (seed, index), so that a larger subset changes the labels of a smaller one
    alike. The new class is any of the others, all equally likely: symmetric noise.
    """
    index = np.arange(len(labels), dtype=np.uint32)
    noisy = _uniforms(seed, NOISE, index) < share
    shift = 1 + (_uniforms(seed, NEW_CLASS, index) * (num_classes - 1)).astype(labels.dtype)
    return np.where(noisy, (labels + shift) % num_classes, labels).astype(labels.dtype), noisy


def repeat_places(size: int, share: float, seed: int) -> tuple[np.ndarray, int]:
    """Returns which example of a plain order stands at each place when a share repeats earlier ones.

    Repeats are spread evenly, floor(share · k) among the first k, so their number does not depend on the seed. Each
    repeats the example at an earlier place, all equally likely; the other places hold the examples of the plain order
    in turn. So shorter draws begin longer ones.

    Returns:
      places [size] int64, and the number of distinct ones.
    """
    place = np.arange(size, dtype=np.int64)
    repeats = np.floor((place + 1) * share) > np.floor(place * share)
    origin = np.where(repeats, (_uniforms(seed, REPEATED, place.astype(np.uint32)) * place).astype(np.int64), place)
    while repeats[origin].any():  # a repeat of a repeat: follow both to the example that was there first
        origin = origin[origin]
    new = np.cumsum(~repeats) - 1
    return new[origin], count_unique(size, share)


def _uniforms(seed: int, use: int, values: np.ndarray) -> np.ndarray:
    """Returns numbers in [0, 1) that are a hash of (seed, use, value), float64 like `values`."""
    key = mix(np, np.uint32(seed), np.uint32(use))
    return mix(np, key, values).astype(np.float64) / 2.0**32


@functools.lru_cache(maxsize=8)
def _rows_in_evaluation(source: Source, of: Source) -> np.ndarray | None:
    """Returns which rows of a source's pool, [n], equal an evaluation row of another in content, or of its own.

    None for rows that are no array in memory, and for large arrays.
    """
    pool, held_out = source.inputs, of.eval_inputs
    if not (isinstance(pool, np.ndarray) and isinstance(held_out, np.ndarray)) or pool.nbytes > COMPARED_BYTES:
        return None
    held_out = held_out.astype(pool.dtype, copy=False)
    candidates = np.isin(_hash_rows(pool), _hash_rows(held_out))
    found = {row.tobytes() for row in held_out}
    candidates[candidates] = [row.tobytes() in found for row in pool[candidates]]
    return candidates


def _hash_rows(rows: np.ndarray) -> np.ndarray:
    """Returns a hash of each row's bytes, [n] uint64; equal rows have equal hashes."""
    content = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)  # [n, bytes]
    hashes = np.zeros(len(content), np.uint64)
    for start in range(0, content.shape[1], 8):
        word = np.zeros((len(content), 8), np.uint8)
        part = content[:, start : start + 8]
        word[:, : part.shape[1]] = part
        hashes = (hashes ^ word.view(np.uint64)[:, 0]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _spread_classes(counts: np.ndarray, size: int) -> np.ndarray:
    """Returns a sequence of classes, [size], whose every prefix is within one of the classes' proportions.

    Tijdeman's solution of the chairman assignment problem (Discrete Mathematics 32, 1980): among the classes that may
    take the next place without getting ahead, the one whose deadline comes first takes it. The deviation from
    proportion stays at most 1 - 1 / (2K - 2). In integers, so nothing depends on rounding.
    """
    present = np.flatnonzero(counts)
    if len(present) == 1:
        return np.full(size, present[0])
    counts = counts[present].astype(np.int64)
    total, slack = int(counts.sum()), 2 * len(present) - 2
    taken = np.zeros(len(present), np.int64)
    # Everything times `slack`: class i may take place t when slack·(t·p_i - taken_i) >= 1, and must by the first t with
    # slack·(t·p_i - taken_i) >= slack - 1 at its old count.
    deadlines = _deadline(taken, counts, total, slack)
    sequence = np.empty(size, np.int64)
    for place in range(size):
        may = slack * ((place + 1) * counts - taken * total) >= total
        chosen = int(np.argmin(np.where(may, deadlines, np.iinfo(np.int64).max)))
        sequence[place] = chosen
        taken[chosen] += 1
        deadlines[chosen] = _deadline(taken[chosen], counts[chosen], total, slack)
    return present[sequence]


def _deadline(taken: np.ndarray, counts: np.ndarray, total: int, slack: int) -> np.ndarray:
    """Returns the last place by which classes that were taken so often must be taken again (a ceiling)."""
    return -(-(slack * (taken + 1) - 1) * total // (slack * counts))


def digest_prefixes(identities: Order, sizes: Iterable[int]) -> dict[str, str]:
    """Returns the sha256 of the first so many examples, for every size up to their number.

    Each digest continues the one before (little-endian 64-bit integers into one running hash), so equal digests at a
    size mean equal first examples in equal order.

    Args:
      identities: [m] or [m, 2], of `Subset.identities`.
      sizes: to digest at; larger ones than m are passed over.

    >>> digests = digest_prefixes(np.array([7, 3, 5]), [2, 3])
    >>> digests["2"] == digest_prefixes(np.array([7, 3]), [2])["2"]
    True
    """
    running = hashlib.sha256()
    digests, done = {}, 0
    for size in sorted({size for size in sizes if size <= len(identities)}):
        for start in range(done, size, CHUNK):
            running.update(identities[start : min(start + CHUNK, size)].astype("<i8").tobytes())
        digests[str(size)] = running.hexdigest()
        done = size
    return digests
