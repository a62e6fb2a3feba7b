"""Mixtures of corpora as a source of sequences: in every prefix each corpus has its share of the tokens.

Each document stands where its middle would be if its corpus were spread evenly: at (tokens of the corpus before it +
half of its own) / share. So in a prefix no corpus is off by much more than half a document, and the order is a function
of the seed alone. Within a corpus it is the order in which the corpus is read alone.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.source import SPLIT_SEED, Source
from scaling.data.text.corpus import SIDES, hash_json
from scaling.data.text.packing import CHUNK_DOCUMENTS, FAULT_BYTES, MappedArray, PackedSequences, document_order
from scaling.data.text.source import Prepared, name_text, prepare
from scaling.specs.base import InputError
from scaling.specs.data import MixtureDocuments, TextSource
from scaling.store.columns import MIXTURE

Corpora = tuple[tuple[MappedArray, MappedArray, float], ...]  # tokens, ends and share of each


def load_mixture(spec: TextSource, evaluation_size: int) -> Source:
    """Returns sequences of several corpora, each with its share of every subset and of the evaluation set.

    A text that is in several corpora is on the same side of the split in all. Documents to evaluate on, where they are
    given, are those of the evaluation set, unmixed.

    Raises:
      InputError: documents or tokenizer cannot be read, the tokens cannot be kept, or there are too few.
    """
    assert isinstance(spec.documents, MixtureDocuments)  # noqa: S101  (loading.py)
    shares, parts = spec.documents.shares(), _prepare_parts(spec)
    length = spec.sequence_length + (spec.objective == "next_token")  # the last target is no input
    if spec.evaluation_documents is None:
        weights = dict.fromkeys(SIDES, shares)
    else:
        first = next(iter(shares))  # the documents to evaluate on are the same beside every part
        weights = {"train": shares, "held_out": {first: 1.0}}
    corpora = {side: _open(parts, side, of) for side, of in weights.items()}
    most = {side: _count_sequences(of, length, spec.sequence_length) for side, of in corpora.items()}
    for side in SIDES:
        if most[side] < 1:
            raise InputError(
                f"data.source.sequence_length={spec.sequence_length} needs {length} tokens, but the {side} documents "
                f"of {name_text(spec)} hold fewer in these proportions; choose shorter sequences, more text or other "
                "weights"
            )

    def tally(name: str, side: str) -> Any:
        return parts[name].manifest.tally.sides[side]

    def identify(side: str, *more: Any) -> str:
        files = {name: parts[name].manifest.files for name in weights[side]}
        hashes = [[files[name][f"{side}.{what}"].sha256 for what in ("tokens", "ends")] for name in files]
        return hash_json([hashes, list(weights[side].values()), f"{length} {spec.sequence_length}", *more])

    manifest = next(iter(parts.values())).manifest
    vocab_size = manifest.vocab_size + 1 + (spec.objective == "masked")  # the boundary, and the mask
    scarce = min(shares, key=lambda name: tally(name, "train").tokens / shares[name])
    evaluated = weights["held_out"]
    return Source(
        name=name_text(spec),
        inputs=_pack(corpora["train"], length, spec.sequence_length, None, most["train"]),
        labels=None,
        eval_inputs=_pack(
            corpora["held_out"], length, spec.sequence_length, SPLIT_SEED, min(evaluation_size, most["held_out"])
        ),
        eval_labels=None,
        num_classes=vocab_size,
        objective=spec.objective,
        vocab_size=vocab_size,
        pack=functools.partial(_pack, corpora["train"], length, spec.sequence_length),
        boundary=manifest.vocab_size,
        bytes_per_token=sum(
            share * tally(name, "held_out").bytes / tally(name, "held_out").tokens for name, share in evaluated.items()
        ),
        scarce=scarce if len(shares) > 1 else None,
        facts={
            "tokenizer_sha256": str(manifest.identity.tokenizer_sha256),
            **{f"{MIXTURE}{name}": share for name, share in shares.items()},
            **{f"tokens_{name}": tally(name, "train").tokens for name in shares},
            **{f"documents_{name}": tally(name, "train").documents for name in shares},
            **{f"evaluation_documents_{name}": tally(name, "held_out").documents for name in evaluated},
        },
        known_hashes=(identify("train"), identify("held_out", evaluation_size)),
    )


def _prepare_parts(spec: TextSource) -> dict[str, Prepared]:
    """Returns the tokens of each part, which are those of the part alone."""
    assert isinstance(spec.documents, MixtureDocuments)  # noqa: S101  (loading.py)
    found = {}
    for part in spec.documents.parts:
        folder = None if spec.prepared is None else str(Path(spec.prepared) / part.name)
        alone = spec.model_copy(update={"documents": part.documents, "prepared": folder})
        try:
            found[part.name] = prepare(alone)
        except InputError as error:
            raise InputError(f"part {part.name!r} of data.source.documents: {error}") from None
    return found


def _open(parts: dict[str, Prepared], side: str, shares: dict[str, float]) -> Corpora:
    return tuple(
        (
            MappedArray(parts[name].folder / f"{side}.tokens", parts[name].manifest.dtype),
            MappedArray(parts[name].folder / f"{side}.ends", "<i8"),
            share,
        )
        for name, share in shares.items()
    )


def _pack(corpora: Corpora, length: int, stride: int, seed: int | None, num_sequences: int) -> "MixedSequences":
    return MixedSequences(corpora, length, num_sequences, seed, stride)


def _count_sequences(corpora: Corpora, length: int, stride: int) -> int:
    """Returns how many sequences there are under every seed before a corpus runs out.

    When the first one does, of another one as much as its share is taken, but for half a document.
    """
    until = min(len(tokens) / share for tokens, _, share in corpora)
    num_tokens = 0
    for tokens, ends, share in corpora:
        is_used_up = len(tokens) <= share * until * (1 + 1e-12)
        num_tokens += len(tokens) if is_used_up else max(0, int(share * until - _longest(ends) / 2))
    return max(0, (num_tokens - length) // stride + 1)


def _longest(ends: MappedArray) -> int:
    longest = before = 0
    for first in range(0, len(ends), CHUNK_DOCUMENTS):
        chunk = ends.values[first : first + CHUNK_DOCUMENTS]
        longest = max(longest, int(np.diff(chunk, prepend=before).max()))
        before = int(chunk[-1])
        ends.touched(chunk.nbytes)
    return longest


class MixedSequences(PackedSequences):
    """Sequences cut from the documents of several corpora, which are interleaved by their shares of the tokens.

    Offsets, those of `spans` included, count the tokens of the corpora one after the other. Subsets of a seed nest.
    """

    def __init__(
        self, corpora: Corpora, length: int, num_sequences: int, seed: int | None = None, stride: int | None = None
    ) -> None:
        """Takes note of the corpora; which documents make the sequences is looked up at the first read.

        Args:
          corpora: the corpora, whose tokens have one dtype.
          length: L.
          num_sequences: n, which the shares allow.
          seed: of the order of each corpus's documents; None for that on the disk.
          stride: as for `PackedSequences`.
        """
        self._corpora, self._own_seed = corpora, seed
        self._seed = 0  # what is read is looked up, in any order
        self._length, self._stride = length, length if stride is None else stride
        self.shape, self.dtype = (num_sequences, length), corpora[0][0].dtype
        self._bases = np.cumsum([0, *(len(tokens) for tokens, _, _ in corpora)])

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return MixedSequences, (self._corpora, self._length, len(self), self._own_seed, self._stride)

    @functools.cached_property
    def _found(self) -> tuple[np.ndarray, np.ndarray]:
        needed = (len(self) - 1) * self._stride + self._length if len(self) else 0
        longest = sum(_longest(ends) for _, ends, _ in self._corpora)
        per_corpus = [self._place(number, needed + longest) for number in range(len(self._corpora))]
        middle, size, on_disk = (np.concatenate(arrays) for arrays in zip(*per_corpus, strict=True))
        order = np.argsort(middle, kind="stable")
        ends = np.cumsum(size[order])
        used = order[: int(np.searchsorted(ends, needed)) + 1]
        begins = np.concatenate([[0], ends[: len(used)]]).astype(np.int64)
        return begins, on_disk[used] - begins[:-1]

    @property
    def _begins(self) -> np.ndarray:  # type: ignore[override]
        return self._found[0]

    @property
    def _shifts(self) -> np.ndarray:  # type: ignore[override]
        return self._found[1]

    def _place(self, number: int, until: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns place of the middle, tokens and offset of a corpus's documents in their order, [k] each."""
        _, ends, share = self._corpora[number]
        filled, found = 0, [(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))]
        for order in document_order(len(ends), self._own_seed):
            if filled >= until * share:
                break
            on_disk = np.where(order > 0, ends.values[np.maximum(order, 1) - 1], 0)
            size = ends.values[order] - on_disk
            after = filled + np.cumsum(size)
            ends.touched(len(order) * FAULT_BYTES)
            found.append(((after - size / 2) / share, size, on_disk + self._bases[number]))
            filled = int(after[-1])
        middle, sizes, offsets = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return middle, sizes, offsets

    def _read_pieces(self, starts: np.ndarray, out: np.ndarray) -> None:
        places = starts[:, None] + np.arange(self._length)  # [S, L]
        offsets = places + self._shifts[self._find(places)]
        owner = np.searchsorted(self._bases, offsets, side="right") - 1
        for number, (tokens, _, _) in enumerate(self._corpora):
            mine = owner == number
            out[mine] = tokens.values[offsets[mine] - self._bases[number]]
            pieces = int(np.count_nonzero(np.diff(offsets[mine]) != 1)) + 1
            tokens.touched(int(mine.sum()) * tokens.dtype.itemsize + pieces * FAULT_BYTES)
