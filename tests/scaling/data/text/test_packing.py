"""Packed sequences: they are the documents in the seed's order, they nest, and reading them takes no memory."""

import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from scaling.data.text import packing
from scaling.data.text.packing import MappedArray, PackedSequences
from scaling.specs.base import InputError

GENERATOR = np.random.default_rng(0)
LENGTHS = np.concatenate([GENERATOR.integers(1, 40, 400), GENERATOR.integers(100, 400, 20), [1, 1, 1]])
STATUS = Path("/proc/self/status")


def write(folder: Path, lengths: np.ndarray = LENGTHS) -> tuple[MappedArray, MappedArray]:
    """Returns documents of these lengths, whose tokens are all different."""
    ends = np.cumsum(GENERATOR.permuted(lengths)).astype("<i8")
    np.arange(ends[-1], dtype="<i4").tofile(folder / "tokens")
    ends.tofile(folder / "ends")
    return MappedArray(folder / "tokens", "<i4"), MappedArray(folder / "ends", "<i8")


@pytest.fixture
def corpus(tmp_path) -> tuple[MappedArray, MappedArray]:
    return write(tmp_path)


def stream_of(tokens: MappedArray, ends: MappedArray, seed: int | None) -> np.ndarray:
    """Returns all tokens in a seed's order, by joining the documents."""
    documents = np.split(tokens.values, ends.values[:-1])
    if seed is None:
        return tokens.values
    order = np.concatenate(list(packing.document_order(len(ends), seed)))
    assert sorted(order) == list(range(len(ends)))
    return np.concatenate([documents[index] for index in order])


@pytest.mark.parametrize("seed", [None, 0, 7, 2**40 + 7])
@pytest.mark.parametrize(("length", "stride"), [(17, 16), (16, 16), (65, 64), (300, 299)])
def test_sequences_are_windows_of_the_documents_in_the_seeds_order(corpus, seed, length, stride):
    stream = stream_of(*corpus, seed)
    sequences = PackedSequences(*corpus, length, seed=seed, stride=stride)
    expected = np.lib.stride_tricks.sliding_window_view(stream, length)[::stride]
    assert sequences.shape == expected.shape == (len(sequences), length)
    assert np.array_equal(sequences[:], expected)
    assert len(stream) - (len(sequences) * stride + length - stride) < stride  # no further sequence fits


@pytest.mark.parametrize("seed", [None, 3])
def test_any_index_reads_what_numpy_would(corpus, seed):
    sequences = PackedSequences(*corpus, 33, seed=seed, stride=32)
    array = np.asarray(sequences)
    n = len(sequences)
    chosen = GENERATOR.integers(-n, n, 500)
    for index in (
        chosen,
        chosen[:1],
        chosen[:0],
        [],
        [3, 1],
        slice(5, 90, 7),
        slice(None, None, -3),
        slice(9, 2),
        -1,
        4,
    ):
        assert np.array_equal(sequences[index], array[index])
        assert sequences[index].dtype == array.dtype == sequences.dtype
    for wrong in (n, [-n - 1], np.ones(n, bool), [0.5], np.zeros((2, 2), int)):
        with pytest.raises(IndexError):
            sequences[wrong]


@pytest.mark.parametrize("chunk", [3, 64, 1 << 16])
def test_a_smaller_subset_is_the_beginning_of_a_larger_one(corpus, monkeypatch, chunk):
    monkeypatch.setattr(packing, "CHUNK_DOCUMENTS", chunk)
    largest = PackedSequences(*corpus, 33, seed=5, stride=32)
    for size in (1, 2, 10, 99, len(largest)):
        smaller = PackedSequences(*corpus, 33, size, seed=5, stride=32)
        assert np.array_equal(smaller[:], largest[:size])
        assert np.array_equal(smaller.spans(slice(None)), largest.spans(np.arange(size)))
    assert len(PackedSequences(*corpus, 33, 0, seed=5)[:]) == 0


def test_only_the_documents_of_the_subset_are_looked_at(corpus):
    small = PackedSequences(*corpus, 16, 3, seed=1)
    assert len(small._shifts) < 20
    assert small._begins[-2] < 48 <= small._begins[-1]


@pytest.mark.parametrize("seed", [None, 3])
def test_spans_are_the_places_of_the_first_and_last_token(corpus, seed):
    sequences = PackedSequences(*corpus, 33, seed=seed, stride=32)
    spans = sequences.spans([4, 0, -1])
    assert spans.dtype == np.int64
    assert np.array_equal(spans, sequences[[4, 0, -1]][:, [0, -1]])  # the tokens of these documents are their places


def test_seeds_and_only_seeds_change_the_order(corpus):
    one, same, other = (PackedSequences(*corpus, 33, 50, seed=seed)[:] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert (one != other).mean() > 0.9


def test_the_order_of_a_seed_is_fixed_for_ever():
    assert [order.tolist() for order in packing.document_order(8, 1)] == [[7, 0, 3, 4, 5, 6, 2, 1]]


def test_threads_read_what_one_reads(corpus, monkeypatch):
    monkeypatch.setattr(packing, "MAPPED_BYTES", 1 << 10)  # let go of the memory while others read
    sequences = PackedSequences(*corpus, 33, seed=0, stride=32)
    array = sequences[:]
    rows = [GENERATOR.integers(0, len(sequences), 64) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for chosen, read in zip(rows, pool.map(sequences.__getitem__, rows), strict=True):
            assert np.array_equal(read, array[chosen])


@pytest.mark.parametrize("seed", [None, 3])
def test_sequences_pickle_as_their_paths(corpus, seed):
    sequences = PackedSequences(*corpus, 33, 20, seed=seed, stride=32)
    pickled = pickle.dumps(sequences)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled)[:], sequences[:])  # noqa: S301


def test_too_few_tokens_make_no_sequence_and_too_many_are_refused(tmp_path):
    corpus = write(tmp_path, np.array([3, 4]))
    assert PackedSequences(*corpus, 8, seed=1).shape == (0, 8)
    assert PackedSequences(*corpus, 8)[:].shape == (0, 8)
    assert PackedSequences(*corpus, 7)[:].shape == (1, 7)
    with pytest.raises(InputError, match=r"data\.size=3 exceeds the 2 sequences"):
        PackedSequences(*corpus, 3, 3, seed=1)


def resident_bytes() -> int:
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def ten_gigabytes(folder: Path, seed: int | None) -> PackedSequences:
    """Returns the sequences of a sparse corpus of 10,000 documents."""
    num_tokens, num_documents = 5 * 10**9, 10_000
    for name in ("tokens", "ends"):
        (folder / name).touch()
    os.truncate(folder / "tokens", 2 * num_tokens)
    (np.arange(1, num_documents + 1) * (num_tokens // num_documents)).astype("<i8").tofile(folder / "ends")
    tokens, ends = MappedArray(folder / "tokens", "<u2"), MappedArray(folder / "ends", "<i8")
    return PackedSequences(tokens, ends, 1025, seed=seed, stride=1024)


def growth_over(sequences: PackedSequences, batches: list[np.ndarray]) -> int:
    """Returns how much memory reading batches takes at most."""
    gc.collect()
    before = peak = resident_bytes()
    for number, batch in enumerate(batches):
        sequences[batch]
        if number % 20 == 0:
            peak = max(peak, resident_bytes())
    return max(peak, resident_bytes()) - before


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    ("seed", "num_bytes"), [(None, 500_000_000), pytest.param(0, 2_000_000_000, marks=pytest.mark.slow)]
)
def test_reading_much_of_ten_gigabytes_keeps_memory_flat(tmp_path, seed, num_bytes):
    sequences = ten_gigabytes(tmp_path, seed)
    in_order = np.array_split(np.arange(num_bytes // 2048), 2_000)
    assert growth_over(sequences, in_order) < 300e6
    # Scattered reads map the cached pages around them too: far more memory than they read.
    scattered = np.array_split(np.random.default_rng(1).permutation(in_order[-1][-1])[:30_000], 200)
    assert growth_over(sequences, scattered) < 300e6


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's /proc")
def test_a_scattered_epoch_of_ten_gigabytes_keeps_memory_flat(tmp_path):
    sequences = ten_gigabytes(tmp_path, 0)
    rows = np.random.default_rng(1).permutation(len(sequences))
    assert growth_over(sequences, np.array_split(rows, len(rows) // 256)) < 300e6
