"""Where a cell's examples wait for their step: resident on the device, or on the host, read ahead of it.

Both give the same batches. What is resident costs the host nothing a step.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data.order.subsets import Subset
from scaling.data.source import Source
from scaling.specs.data import AugmentationSpec

# The most that examples may take on the device: a share of its memory, or so much where it does not tell (CPUs).
RESIDENT_SHARE, RESIDENT_BYTES = 0.25, 2 << 30

# The most that subsets are padded to, so that those of every size have the shape of the whole pool.
PADDED_BYTES = 256 << 20

# Examples evaluated in one call: bounds memory, and one compilation serves the whole evaluation set.
EVALUATION_BATCH = 5_000
EVALUATION_NUMBERS, EVALUATION_TOKENS, EVALUATION_LOGITS = 1 << 24, 1 << 15, 1 << 26

# Carries an array from the host to the device, or to all of them.
Put = Callable[[Any], jax.Array]


class Standard(NamedTuple):
    """What a learner sees of numbers: (number - shift) · scale, in float32.

    Attributes:
      shift, scale: of inputs, [F] each; empty for tokens, which are seen as they are.
      label_shift, label_scale: of labels that are numbers, scalars, or [M] for M of them; classes are seen as they are.
    """

    shift: Any
    scale: Any
    label_shift: Any
    label_scale: Any


class DeviceData(NamedTuple):
    """Examples that are resident on the device, and the subset's place among them.

    Attributes:
      inputs: [n, F] numbers or [n, T] tokens: the whole pool, shared by all cells of a source, or the subset alone.
      labels: [n] int32 or float32, or [n, M] float32.
      order: [n] int32; its first m entries are the subset, the rest is padding so that m may vary.
      standard: how numbers are seen.
    """

    inputs: jax.Array
    labels: jax.Array
    order: jax.Array
    standard: Standard


@dataclasses.dataclass
class StreamedData:
    """Examples that stay on the host, read ahead in chunks of steps.

    Attributes:
      chunks: (stops, step to begin at) → chunks up to each of the stops in turn, dicts of `inputs` [S, B, …] and
        `labels` [S, B], or of this host's share of B.
      chunk_steps: the largest S.
      standard: as of `DeviceData`.
      waiting_seconds: how long the device has had nothing to do because the next chunk had not been read; at most this.
    """

    chunks: Callable[[Sequence[int], int], Iterator[dict[str, np.ndarray]]]
    chunk_steps: int
    standard: Standard
    waiting_seconds: float = 0.0

    def take_waiting_seconds(self) -> float:
        """Returns how long the device has waited, and counts anew from here."""
        taken, self.waiting_seconds = self.waiting_seconds, 0.0
        return taken


class EvaluationBatch(NamedTuple):
    """A part of the evaluation set; all parts have one shape, and `is_real` [B] float32 is 0 on what fills the last."""

    inputs: jax.Array
    labels: jax.Array
    is_real: jax.Array


def place_subset(
    subset: Subset,
    standard: Standard,
    *,
    batch_size: int,
    seed: int,
    augmentation: AugmentationSpec | None,
    num_workers: int = 0,
    put: Put = jnp.asarray,
    host_share: tuple[int, int] = (0, 1),
    chunk_steps: int | None = None,
) -> DeviceData | StreamedData:
    """Returns a subset's examples where they are best kept: the pool on the device, the subset there, or a stream.

    The last source's pool stays on the device for the next cell.

    Args:
      subset: the subset of the cell.
      standard: the scale of the subset's numbers.
      batch_size: B.
      seed: the seed of the order of batches.
      augmentation: the augmentation of images.
      num_workers: processes that read a stream; 0 for threads of this one.
      put: carries an array to the device, or to every device.
      host_share: which of how many equal parts of a streamed batch this host reads.
      chunk_steps: the most steps of a streamed chunk; None for as many as are worth carrying at once.
    """
    limit = resident_limit()
    moved = Standard(*map(put, standard))
    pool = subset.source.inputs
    if subset.rows is pool and isinstance(pool, np.ndarray) and _num_bytes(pool.shape, pool.dtype) <= limit:
        order = np.zeros(len(pool), np.int32)
        order[: subset.size] = subset.order[:]
        labels = _labels_or_none(subset.labels, len(pool))
        is_whole = subset.labels is subset.source.labels
        return DeviceData(
            _pool_on_device(subset.source, "inputs", pool, put),
            _pool_on_device(subset.source, "labels", labels, put) if is_whole else put(labels),
            put(order),
            moved,
        )
    room = _room(subset)
    if _num_bytes((room, *subset.rows.shape[1:]), subset.rows.dtype) <= limit:
        inputs, read = read_all(subset, room)
        return DeviceData(put(inputs), put(_labels_or_none(read, room)), put(np.arange(room, dtype=np.int32)), moved)
    from scaling.data.feeding.stream import CHUNK_STEPS, plan_chunks, steps_per_chunk, stream_chunks

    most = min(steps_per_chunk(subset, batch_size), chunk_steps or CHUNK_STEPS)
    host, num_hosts = host_share

    def chunks(stops: Sequence[int], start: int) -> Iterator[dict[str, np.ndarray]]:
        plan = plan_chunks(stops, start, most)
        return stream_chunks(
            subset,
            plan,
            batch_size,
            seed,
            augmentation=augmentation,
            host=host,
            num_hosts=num_hosts,
            num_workers=num_workers,
        )

    return StreamedData(chunks, most, moved)


def resident_limit() -> int:
    """Returns how many bytes of examples may be on the device."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return RESIDENT_BYTES if limit is None else int(limit * RESIDENT_SHARE)


def read_all(subset: Subset, room: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns inputs [room, …] and labels [room] of a whole subset, zeros after its m; `room` is m by default."""
    inputs = np.zeros((room or subset.size, *subset.rows.shape[1:]), subset.rows.dtype)
    for start in range(0, subset.size, 1 << 16):
        part = slice(start, min(start + (1 << 16), subset.size))
        inputs[part] = subset.rows[subset.order[part]]
    if subset.labels is None:
        return inputs, None
    labels = np.zeros((len(inputs), *subset.labels.shape[1:]), subset.labels.dtype)
    labels[: subset.size] = subset.labels[subset.order[:]]
    return inputs, labels


def _room(subset: Subset) -> int:
    """Returns how many rows to keep for a subset: as many for every m, so that one compilation serves them, if cheap.

    Else a power of two, so that there are few.
    """
    whole = subset.source.size
    if _num_bytes((whole, *subset.rows.shape[1:]), subset.rows.dtype) <= PADDED_BYTES:
        return whole
    return 1 << (subset.size - 1).bit_length()


def evaluation_batches(source: Source, shards: int = 1, put: Put = jnp.asarray) -> Iterable[EvaluationBatch]:
    """Returns the evaluation set in equal parts: on the device where it fits, else read each time.

    A part has at most EVALUATION_BATCH examples, and fewer of large ones, so that activations and logits fit too.

    Args:
      source: with the evaluation set.
      shards: the size of a part is a multiple of this.
      put: carries an array to the device, or to every device.
    """
    limit = resident_limit()
    if _num_bytes(source.eval_inputs.shape, source.eval_inputs.dtype) > limit:
        return _read_evaluation(source, shards, put)
    kept = _evaluations.pop((source, shards, put), None)
    if kept is None:
        kept = list(_read_evaluation(source, shards, put))
    _evaluations[source, shards, put] = kept  # the last one that was used
    while len(_evaluations) > 1 and sum(map(_bytes_on_device, _evaluations.values())) > limit:
        del _evaluations[next(iter(_evaluations))]
    return kept


# Evaluation sets on the device, the last used last; together they are no larger than one may be.
_evaluations: dict[tuple[Source, int, Put], list[EvaluationBatch]] = {}


def _bytes_on_device(batches: Sequence[EvaluationBatch]) -> int:
    return sum(int(batch.inputs.nbytes) for batch in batches)


def _read_evaluation(source: Source, shards: int, put: Put) -> Iterator[EvaluationBatch]:
    size, numbers = source.evaluation_size, int(np.prod(source.eval_inputs.shape[1:]))
    if source.labels is None:
        most = min(EVALUATION_TOKENS // numbers, EVALUATION_LOGITS // (numbers * source.num_classes))
    else:
        most = EVALUATION_NUMBERS // numbers
    part = -(-size // -(-size // max(1, min(EVALUATION_BATCH, most))))  # the fewest parts, equally large
    part = -(-part // shards) * shards
    for start in range(0, size, part):
        real = min(part, size - start)
        chosen = np.minimum(np.arange(start, start + part), start + real - 1)
        labels = np.zeros(part, np.int32) if source.eval_labels is None else source.eval_labels[chosen]
        is_real = (np.arange(part) < real).astype(np.float32)
        yield EvaluationBatch(put(source.eval_inputs[chosen]), put(labels), put(is_real))


def _num_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _labels_or_none(labels: np.ndarray | None, size: int) -> np.ndarray:
    """Returns labels; where there are none, something of their length that nobody reads."""
    return np.zeros(size, np.int8) if labels is None else labels


_pools: dict[tuple[Source, Put], dict[str, jax.Array]] = {}


def _pool_on_device(source: Source, name: str, array: np.ndarray, put: Put) -> jax.Array:
    if (source, put) not in _pools:
        _pools.clear()  # first, so that two pools are never there at once
        _pools[source, put] = {}
    kept = _pools[source, put]
    if name not in kept:
        kept[name] = put(array)
    return kept[name]
