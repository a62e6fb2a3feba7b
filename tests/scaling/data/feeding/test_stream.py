"""Streams: the batch of a step is the same on any number of hosts and workers, from any step on."""

import hashlib

import numpy as np
import pytest

from scaling.data.feeding.stream import plan_chunks, steps_per_chunk, stream_chunks
from scaling.data.order.batches import batch_indices
from scaling.data.order.subsets import draw_subset
from scaling.data.source import Source
from scaling.specs.base import InputError
from scaling.specs.data import AugmentationSpec, DataSpec, DigitsSource

STEPS, BATCH, SEED = 1000, 64, 3


@pytest.fixture(scope="module")
def subset():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (5000, 4 * 4 * 3)).astype(np.uint8)
    labels = generator.integers(0, 10, 5000).astype(np.int32)
    source = Source("images", images, labels, images[:1], labels[:1], 10, image_shape=(4, 4, 3))
    return draw_subset(DataSpec(source=DigitsSource(), size=3000, label_noise=0.1, duplication=0.1), source, SEED)


def hash_batches(subset, *, first: int = 0, hosts: int = 1, workers: int = 0, per_chunk: int = 7, augmentation=None):
    """Returns the hash of every global batch from a step on."""
    chunks = plan_chunks([STEPS], first, per_chunk)
    parts = [
        stream_chunks(
            subset, chunks, BATCH, SEED, augmentation=augmentation, host=host, num_hosts=hosts, num_workers=workers
        )
        for host in range(hosts)
    ]
    hashes = []
    for chunk in zip(*parts, strict=True):
        inputs = np.concatenate([part["inputs"] for part in chunk], axis=1)  # [S, B, F]
        labels = np.concatenate([part["labels"] for part in chunk], axis=1)
        hashes += [hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() for x, y in zip(inputs, labels, strict=True)]
    return hashes


@pytest.fixture(scope="module")
def reference(subset):
    hashes = hash_batches(subset)
    assert len(set(hashes)) == STEPS
    return hashes


def test_a_batch_is_what_its_indices_say(subset):
    (chunk,) = stream_chunks(subset, [(40, 43)], BATCH, SEED)
    chosen = batch_indices(41, BATCH, np.uint32(3000), np.uint32(SEED))
    inputs, labels = subset.read(chosen)
    assert (chunk["inputs"][1] == inputs).all()
    assert (chunk["labels"][1] == labels).all()


@pytest.mark.parametrize("hosts", [2, 8, 64])
def test_the_first_1000_batches_are_the_same_on_any_number_of_hosts(subset, reference, hosts):
    assert hash_batches(subset, hosts=hosts, per_chunk=50) == reference


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_first_1000_batches_are_the_same_with_any_number_of_workers(subset, reference, workers):
    assert hash_batches(subset, workers=workers) == reference


@pytest.mark.slow
def test_the_first_1000_batches_are_the_same_with_16_workers(subset, reference):
    assert hash_batches(subset, workers=16) == reference


def test_a_run_resumed_at_any_step_goes_on_with_the_same_batches(subset, reference):
    for first in np.random.default_rng(1).integers(0, STEPS, 8):
        assert hash_batches(subset, first=int(first), per_chunk=13) == reference[first:]


def test_augmented_batches_are_the_same_on_hosts_and_after_resuming(subset):
    spec = AugmentationSpec(crop=1, flip=True)
    whole = hash_batches(subset, augmentation=spec)
    assert whole != hash_batches(subset)
    assert hash_batches(subset, augmentation=spec, hosts=4) == whole
    assert hash_batches(subset, augmentation=spec, first=500) == whole[500:]


def test_chunks_end_at_stops_and_stay_small(subset):
    assert plan_chunks([4, 4, 9], 2, 3) == [(2, 4), (4, 7), (7, 9)]
    assert steps_per_chunk(subset, BATCH) == 64
    assert steps_per_chunk(subset, 1 << 20) == 1


def test_hosts_that_cannot_share_a_batch_are_refused(subset):
    with pytest.raises(InputError, match="batch_size=64 cannot be shared equally by 3 hosts"):
        stream_chunks(subset, [(0, 1)], BATCH, SEED, num_hosts=3)
