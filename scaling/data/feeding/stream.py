"""Batches of subsets that do not fit on the device, read ahead of the step by Grain, from any step on.

Dims: S steps of a chunk, B batch, H hosts.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from absl import flags

from scaling.data.feeding.transforms import Crop, Flip
from scaling.data.order.batches import indices_at
from scaling.data.order.subsets import Order, Subset, read_examples
from scaling.data.source import Rows
from scaling.specs.base import InputError
from scaling.specs.data import AugmentationSpec

# Chunks that wait, read, for their turn; and threads that read them. Both bound memory: a chunk is at most CHUNK_BYTES.
CHUNKS_AHEAD, NUM_THREADS = 4, 4
CHUNK_BYTES = 32 << 20
CHUNK_STEPS = 64

Chunk = dict[str, np.ndarray]


def plan_chunks(stops: Sequence[int], start: int, steps_per_chunk: int) -> list[tuple[int, int]]:
    """Returns consecutive (first step, step after the last) from `start` on; none goes beyond one of the stops.

    >>> plan_chunks([5, 8], start=1, steps_per_chunk=3)
    [(1, 4), (4, 5), (5, 8)]
    """
    chunks = []
    for stop in stops:
        while start < stop:
            end = min(start + steps_per_chunk, stop)
            chunks.append((start, end))
            start = end
    return chunks


def steps_per_chunk(subset: Subset, batch_size: int) -> int:
    """Returns how many steps' batches travel to the device at once."""
    bytes_per_step = batch_size * int(np.prod(subset.rows.shape[1:])) * subset.rows.dtype.itemsize
    return max(1, min(CHUNK_STEPS, CHUNK_BYTES // max(bytes_per_step, 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class ReadChunk(grain.transforms.Map):
    """From (first step, step after the last) to one host's part of these steps' batches.

    Attributes:
      rows, labels, order: of the subset; without its source, since worker processes receive a copy.
      batch_size: B, of all hosts together.
      seed: the seed of the order.
      host, num_hosts: this host takes examples host · B / H … of every batch.
    """

    rows: Rows
    labels: np.ndarray | None
    order: Order
    batch_size: int
    seed: int
    host: int = 0
    num_hosts: int = 1

    def map(self, element: tuple[int, int]) -> Chunk:
        """Returns `inputs` [S, B / H, …], `labels` [S, B / H] and `positions` [S, B / H] in the whole run, uint32."""
        first, end = element
        share = self.batch_size // self.num_hosts
        mine = slice(self.host * share, (self.host + 1) * share)
        run = np.arange(first * self.batch_size, end * self.batch_size).astype(np.uint32)
        positions = run.reshape(end - first, self.batch_size)[:, mine]  # [S, B / H]
        chosen = indices_at(np, positions, np.uint32(len(self.order)), np.uint32(self.seed))
        inputs, labels = read_examples(self.rows, self.labels, self.order, chosen.reshape(-1))
        return {
            "inputs": inputs.reshape(*chosen.shape, *inputs.shape[1:]),
            "labels": np.zeros(chosen.shape, np.int32)
            if labels is None
            else labels.reshape(*chosen.shape, *labels.shape[1:]),
            "positions": positions,
        }


def stream_chunks(
    subset: Subset,
    chunks: Sequence[tuple[int, int]],
    batch_size: int,
    seed: int,
    *,
    augmentation: AugmentationSpec | None = None,
    host: int = 0,
    num_hosts: int = 1,
    num_workers: int = 0,
) -> Iterator[Chunk]:
    """Returns an iterator over chunks of batches, in order, read ahead by threads or by worker processes.

    What a step's batch holds depends on nothing but the subset, the batch size, the seed and the step: not on the
    number of hosts, threads or workers, and not on where reading began.

    Args:
      subset: to read from.
      chunks: (first step, step after the last) of each, for instance of `plan_chunks`.
      batch_size: B, of all hosts together.
      seed: the seed of the order of batches.
      augmentation: the augmentation of images.
      host: which part of each batch to read.
      num_hosts: H.
      num_workers: processes; 0 reads in threads of this one.

    Raises:
      InputError: the hosts cannot share the batch equally.
    """
    if batch_size % num_hosts:
        raise InputError(
            f"training.batch_size={batch_size} cannot be shared equally by {num_hosts} hosts; choose a multiple"
        )
    dataset = grain.MapDataset.source(list(chunks)).map(
        ReadChunk(subset.rows, subset.labels, subset.order, batch_size, seed, host, num_hosts)
    )
    shape = subset.source.image_shape
    if augmentation is not None and shape is not None:
        if augmentation.crop:
            dataset = dataset.map(Crop(shape, augmentation.crop, seed))
        if augmentation.flip:
            dataset = dataset.map(Flip(shape, seed))
    threads = grain.ReadOptions(num_threads=NUM_THREADS, prefetch_buffer_size=CHUNKS_AHEAD)
    reading = dataset.to_iter_dataset(threads)
    if num_workers:
        if not flags.FLAGS.is_parsed():  # Grain hands absl's flags to its processes; a library call has none
            flags.FLAGS.mark_as_parsed()
        reading = reading.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return iter(reading)
