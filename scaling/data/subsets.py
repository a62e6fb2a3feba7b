"""Nested subsets: subset m is the first m of one seeded permutation, and records can prove it."""

import hashlib
from collections.abc import Iterable

import numpy as np


def shuffled(size: int, seed: int) -> np.ndarray:
    """Returns a permutation of 0 … size - 1 that is the same on every platform and NumPy, [size] int64.

    It sorts the raw output of the Philox counter generator (Salmon et al. 2011), which is fixed by its definition,
    while the streams of `Generator.permutation` may change between NumPy releases.

    >>> shuffled(5, seed=0).tolist()
    [0, 2, 1, 4, 3]
    """
    return np.argsort(np.random.Philox(key=seed).random_raw(size), kind="stable")


def draw_order(labels: np.ndarray, num_classes: int, order: str, seed: int, size: int) -> np.ndarray:
    """Returns the first `size` indices of a seeded permutation of the examples, [size] int64.

    A longer draw with the same labels, order and seed starts with a shorter one: subsets nest.

    Args:
      labels: [n] classes of the pool.
      num_classes: K.
      order: `independent` (the plain permutation), `stratified` (every prefix holds each class within one example of
        its share) or `balanced` (any two classes within one of each other).
      seed: of the permutation.
      size: m, at most n; for `balanced` at most K times the rarest class.
    """
    permutation = shuffled(len(labels), seed)
    if order == "independent":
        return permutation[:size]
    by_class = [permutation[labels[permutation] == k] for k in range(num_classes)]
    tie_order = shuffled(num_classes, seed)
    if order == "stratified":
        classes = _spread_classes(np.array([len(members) for members in by_class])[tie_order], size)
    else:
        classes = np.arange(size) % num_classes
    drawn = np.empty(size, np.int64)
    for position, k in enumerate(tie_order):
        places = np.flatnonzero(classes == position)
        drawn[places] = by_class[k][: len(places)]
    return drawn


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


def digest_prefixes(indices: np.ndarray, sizes: Iterable[int]) -> dict[str, str]:
    """Returns the sha256 of the first so many indices, for every size up to their number.

    Each digest continues the one before (little-endian 64-bit indices into one running hash), so equal digests at a
    size mean equal first examples in equal order.

    >>> digests = digest_prefixes(np.array([7, 3, 5]), [2, 3])
    >>> digests["2"] == digest_prefixes(np.array([7, 3]), [2])["2"]
    True
    """
    running = hashlib.sha256()
    digests, done = {}, 0
    for size in sorted({size for size in sizes if size <= len(indices)}):
        running.update(indices[done:size].astype("<i8").tobytes())
        digests[str(size)] = running.hexdigest()
        done = size
    return digests
