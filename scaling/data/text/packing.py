"""Sequences of equal length, cut on demand from documents that lie on disk as tokens, in any order of the documents.

Dims: N tokens of the corpus, S sequences read at once, L tokens of a sequence, P pieces of documents in them.
"""

import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.permutation import mix, permute
from scaling.specs.base import InputError

# Keeps the order of documents apart from those of batches, which are keyed by (seed, epoch).
ORDER_SALT = np.uint32(0xD0C5)
# Documents whose place is looked up at once; changing it changes nothing but time and memory.
CHUNK_DOCUMENTS = 1 << 16
# Tokens read at once: their indices, 8 bytes each, stay in a processor's cache.
BLOCK_TOKENS = 1 << 17
# Mapped memory after which it is given back, and what one read of a cached page maps around it: 64 KiB on Linux until
# 6.17, then all that the system caches as one, up to 2 MiB. So 128 scattered reads are the most in between.
MAPPED_BYTES = 64 << 20
FAULT_BYTES = 512 << 10


class MappedArray:
    """A file of numbers, [n], mapped into memory and read-only; pickles as its path.

    Attributes:
      values: [n].
    """

    def __init__(self, path: str | os.PathLike[str], dtype: Any) -> None:
        """Maps a file."""
        self.path, self.dtype = Path(path), np.dtype(dtype)
        self._map: mmap.mmap | None = None
        self.values = np.empty(0, self.dtype)
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:  # an empty file cannot be mapped
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self.values = np.frombuffer(self._map, self.dtype)
        self._lock = threading.Lock()
        self._touched_bytes = 0

    def __len__(self) -> int:
        return len(self.values)

    def __reduce__(self) -> tuple[type, tuple[Path, np.dtype]]:
        return MappedArray, (self.path, self.dtype)

    def touched(self, num_bytes: int) -> None:
        """Counts mapped memory; after every 64 MiB of a larger file the process lets go of it all.

        The pages stay in the system's cache, and another thread that reads at this moment maps its own anew. Without
        it, a process that walks through a corpus seems to hold all of it, and is killed where memory is counted so.
        """
        with self._lock:
            self._touched_bytes += num_bytes
            if self._touched_bytes < MAPPED_BYTES:
                return
            self._touched_bytes = 0
        if self._map is not None and len(self._map) > MAPPED_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class PackedSequences:
    """Sequences cut from documents that follow one another in corpus order, or in that of a seed.

    Sequence k holds the tokens k · stride … k · stride + L - 1 of the documents in their order, so it does not depend
    on how many sequences are asked for: subsets nest. Only so many documents are looked at as the sequences need, 16
    bytes of memory each; in corpus order none is. May be read by several threads, and pickled: the files are then
    opened again by their paths.

    Attributes:
      shape: (n, L).
      dtype: the dtype of the tokens.
    """

    def __init__(
        self,
        tokens: MappedArray,
        ends: MappedArray,
        length: int,
        num_sequences: int | None = None,
        seed: int | None = None,
        stride: int | None = None,
    ) -> None:
        """Looks up which documents make the sequences.

        Args:
          tokens: [N], the documents one after the other.
          ends: [documents] int64, where each ends in `tokens`; the last is N.
          length: L.
          num_sequences: n; None for all.
          seed: the seed of the order of the documents; None for that of the corpus.
          stride: tokens from one sequence's beginning to the next one's; None for L. L - 1 where the last token of a
            sequence is a target alone, and the first input of the next.

        Raises:
          InputError: there are fewer sequences than asked for.
        """
        self._tokens, self._ends, self._seed = tokens, ends, seed
        self._length, self._stride = length, length if stride is None else stride
        most = max(0, (len(tokens) - length) // self._stride + 1)
        if num_sequences is not None and num_sequences > most:
            raise InputError(
                f"data.size={num_sequences} exceeds the {most} sequences of {length} tokens in {tokens.path}; "
                "choose fewer"
            )
        self.shape = (most if num_sequences is None else num_sequences, length)
        self.dtype = tokens.dtype
        # All stretches of L tokens, and the sequences of the corpus order: two views of the file, which copy nothing.
        self._stretches = np.lib.stride_tricks.sliding_window_view(tokens.values, length) if most else None
        if seed is not None:
            self._begins, self._shifts = self._look_up()

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return PackedSequences, (self._tokens, self._ends, self._length, len(self), self._seed, self._stride)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("sequences are cut on demand, which copies them")
        return np.asarray(self[:], dtype)

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Returns sequences [S, L] by a slice or an array [S]; one, [L], by a number."""
        starts = self._starts(indices)
        out = np.empty((len(starts), self._length), self.dtype)  # [S, L]
        block = max(1, BLOCK_TOKENS // self._length)
        for first in range(0, len(starts), block):
            read = self._read_stretches if self._seed is None else self._read_pieces
            read(starts[first : first + block], out[first : first + block])
        return out[0] if np.ndim(indices) == 0 and not isinstance(indices, slice) else out

    def spans(self, indices: Any) -> np.ndarray:
        """Returns where sequences begin and end, [S, 2] int64: the offsets in the corpus of their first and last token.

        They tell sequences apart, whatever their content, so they serve to prove that subsets nest.
        """
        starts = self._starts(indices)
        ends = np.stack([starts, starts + self._length - 1], axis=1)  # [S, 2]
        return ends if self._seed is None else ends + self._shifts[self._find(ends)]

    def _starts(self, indices: Any) -> np.ndarray:
        """Returns where sequences begin among the tokens in their order, [S] int64."""
        n = len(self)
        if isinstance(indices, slice):
            return np.arange(*indices.indices(n), dtype=np.int64) * self._stride
        index = np.atleast_1d(np.asarray(indices))
        if index.ndim != 1 or (index.dtype.kind not in "iu" and index.size):
            raise IndexError(
                f"sequences are read by a slice or an array [S] of integers, not {index.dtype}{index.shape}"
            )
        index = index.astype(np.int64)
        if index.size and not (-n <= index.min() and index.max() < n):
            raise IndexError(f"there are {n} sequences; {index.min()} … {index.max()} were asked for")
        return np.where(index < 0, index + n, index) * self._stride

    def _look_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns, of each document in the seed's order, where it begins and how far that is from its place on disk.

        [documents] int64 both; the first also has one entry more, for the end.
        """
        needed = (len(self) - 1) * self._stride + self._length if len(self) else 0
        begins, shifts, filled = [np.zeros(1, np.int64)], [np.empty(0, np.int64)], 0
        for order in document_order(len(self._ends), self._seed or 0):
            if filled >= needed:
                break
            begin_on_disk = np.where(order > 0, self._ends.values[np.maximum(order, 1) - 1], 0)
            end = filled + np.cumsum(self._ends.values[order] - begin_on_disk)
            self._ends.touched(len(order) * FAULT_BYTES)
            used = int(np.searchsorted(end, needed)) + 1  # a document that ends at `needed` is the last
            end, begin_on_disk = end[:used], begin_on_disk[:used]
            begins.append(end)
            shifts.append(begin_on_disk - np.concatenate([[filled], end[:-1]]))
            filled = int(end[-1])
        return np.concatenate(begins), np.concatenate(shifts)

    def _find(self, positions: np.ndarray) -> np.ndarray:
        """Returns the place in the order of the documents that hold these tokens, int64 of the same shape."""
        return np.searchsorted(self._begins, positions, side="right") - 1

    def _read_stretches(self, offsets: np.ndarray, out: np.ndarray) -> None:
        """Copies tokens that are together on disk, from offsets [S] to sequences [S, L]."""
        assert self._stretches is not None  # noqa: S101  (there is no index without a sequence)
        out[:] = self._stretches[offsets]
        scattered = int(np.count_nonzero(np.diff(offsets) != self._stride)) + 1
        self._tokens.touched(out.nbytes + scattered * FAULT_BYTES)

    def _read_pieces(self, starts: np.ndarray, out: np.ndarray) -> None:
        """Copies the documents' tokens, from starts [S] in the seed's order to sequences [S, L]."""
        first, last = self._find(starts), self._find(starts + (self._length - 1))  # [S]
        whole = first == last
        if whole.all():
            self._read_stretches(starts + self._shifts[first], out)
        elif not whole.any():
            self._gather(starts, first, last, out)
        else:
            part = np.empty((int(whole.sum()), self._length), self.dtype)
            self._read_stretches((starts + self._shifts[first])[whole], part)
            out[whole] = part
            part = np.empty((len(starts) - len(part), self._length), self.dtype)
            self._gather(starts[~whole], first[~whole], last[~whole], part)
            out[~whole] = part

    def _gather(self, starts: np.ndarray, first: np.ndarray, last: np.ndarray, out: np.ndarray) -> None:
        """Copies the tokens of documents first … last, all [S], to sequences [S, L]."""
        num_pieces = last - first + 1  # [S]
        before = np.cumsum(num_pieces) - num_pieces  # [S], pieces of the sequences before
        owner = np.repeat(np.arange(len(starts)), num_pieces)  # [P], the sequence of each piece
        document = np.arange(len(owner)) + (first - before)[owner]  # [P]
        begin = np.maximum(self._begins[document], starts[owner])
        end = np.minimum(self._begins[document + 1], starts[owner] + self._length)
        offsets = np.repeat(self._shifts[document], end - begin).reshape(out.shape)  # [S, L]
        offsets += starts[:, None]
        offsets += np.arange(self._length)
        np.take(self._tokens.values, offsets, out=out, mode="clip")  # "raise" would copy to a buffer first
        self._tokens.touched(out.nbytes + len(owner) * FAULT_BYTES)


def document_order(num_documents: int, seed: int | None) -> Iterator[np.ndarray]:
    """Yields the documents in a seed's order, None for that on disk; [at most CHUNK_DOCUMENTS] int64 at a time."""
    if seed is None:
        for first in range(0, num_documents, CHUNK_DOCUMENTS):
            yield np.arange(first, min(first + CHUNK_DOCUMENTS, num_documents))
        return
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
    key = mix(np, mix(np, low, high), ORDER_SALT)
    for first in range(0, num_documents, CHUNK_DOCUMENTS):
        positions = np.arange(first, min(first + CHUNK_DOCUMENTS, num_documents), dtype=np.uint32)
        yield permute(np, positions, np.uint32(num_documents), key).astype(np.int64)
