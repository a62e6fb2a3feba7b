"""The making of a folder of tokens, so that a kill at any moment loses little and leaves nothing half-done."""

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from scaling.data.text.corpus import (
    FILES,
    MANIFEST,
    SIDES,
    Counts,
    FileState,
    Identity,
    Manifest,
    Tally,
    hash_file,
    open_manifest,
    token_dtype,
)
from scaling.data.text.tokenizers import Tokenizer
from scaling.specs.base import InputError, Spec, parse
from scaling.store.cache import lock_folder
from scaling.store.files import publish_text

PROGRESS, SEEN = "progress.json", "seen"
SEEN_BYTES = 16  # of a document's sha256, by which equal ones are known; about 100 bytes of memory each

# What a killed preparation loses at most, and what is tokenised at once.
CHECKPOINT_BYTES, CHECKPOINT_DOCUMENTS = 64 << 20, 1 << 18
BATCH_BYTES, BATCH_DOCUMENTS = 4 << 20, 4096


class Progress(Spec):
    """How far a preparation has come: documents read, and bytes of each file that belong to them."""

    identity: Identity
    consumed: int
    tally: Tally
    sizes: dict[str, int]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process of a machine, or of machines whose shared file system has locks, prepare a folder at a time.

    Raises:
      InputError: the lock's file cannot be written.
    """
    with writing(folder.with_name(folder.name + ".lock")):
        lock = lock_folder(folder)
    with lock:
        yield


@contextlib.contextmanager
def writing(path: Path, needed: str = "") -> Iterator[None]:
    """Turns what the file system refuses into one line.

    Args:
      path: what is written.
      needed: what is known of the space that it takes, for the message.
    """
    try:
        yield
    except OSError as error:
        elsewhere = "set data.source.prepared or XDG_CACHE_HOME to a folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(
                f"cannot write {path} ({error.strerror}){needed}; free space, or {elsewhere} with space; what was done "
                "is kept, and the next run goes on from there"
            ) from None
        raise InputError(f"cannot write {path} ({error.strerror or error}); {elsewhere} that can be written") from None


def complete(folder: Path, identity: Identity) -> bool:
    """Returns whether there is a finished folder, after giving one that was killed at its very end its name."""
    partial = _partial(folder)
    if not (folder / MANIFEST).exists() and (partial / MANIFEST).exists():
        with contextlib.suppress(InputError):
            if open_manifest(partial).identity == identity:
                with writing(folder):
                    _give_name(folder)
    return (folder / MANIFEST).exists()


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _give_name(folder: Path) -> None:
    for path in _partial(folder).iterdir():
        if path.name not in (*FILES, MANIFEST):  # what served the preparation, or a kill has left
            path.unlink()
    _partial(folder).replace(folder)


class Preparation:
    """Tokens on their way to a folder: appended in batches, and kept at checkpoints.

    The work is done in `<folder>.partial` and renamed at the end, so a folder exists if and only if it is complete.

    Attributes:
      consumed: documents that need not be given again.
      sides: what is in the files.
      duplicates_dropped, empty_skipped: documents that are not.
    """

    def __init__(self, folder: Path, identity: Identity, tokenizer: Tokenizer, expected_bytes: int | None) -> None:
        """Takes up what an earlier preparation of the same tokens has left, or begins.

        Args:
          folder: to make; nothing or an empty folder now.
          identity: the identity of the tokens.
          tokenizer: the tokenizer of the identity.
          expected_bytes: the bytes of all documents, where known, to say how much space is needed.
        """
        self._folder, self._partial = folder, _partial(folder)
        self._identity, self._tokenizer, self._expected_bytes = identity, tokenizer, expected_bytes
        self._dtype = np.dtype(token_dtype(tokenizer.vocab_size))
        self._files: dict[str, BinaryIO] = {}
        with writing(self._partial):
            progress = self._take_up()
            if progress is None:
                shutil.rmtree(self._partial, ignore_errors=True)
                self._partial.mkdir(parents=True, exist_ok=True)
                tally = Tally(sides={side: Counts() for side in SIDES}, duplicates_dropped=0, empty_skipped=0)
                sizes = dict.fromkeys((*FILES, SEEN), 0)
                progress = Progress(identity=identity, consumed=0, tally=tally, sizes=sizes)
            for name, size in progress.sizes.items():
                (self._partial / name).touch()
                os.truncate(self._partial / name, size)
            digests = (self._partial / SEEN).read_bytes()
        self.consumed, self.sides = progress.consumed, dict(progress.tally.sides)
        self.duplicates_dropped, self.empty_skipped = progress.tally.duplicates_dropped, progress.tally.empty_skipped
        self._seen = {digests[at : at + SEEN_BYTES] for at in range(0, len(digests), SEEN_BYTES)}
        self._batch: list[tuple[str, bytes]] = []
        self._digests: list[bytes] = []
        self._batch_bytes = self._new_bytes = self._new_documents = 0

    def _take_up(self) -> Progress | None:
        """Returns where an earlier preparation of the same tokens was, if its files still hold as much."""
        try:
            progress = parse(Progress, (self._partial / PROGRESS).read_bytes(), PROGRESS)
            is_whole = all((self._partial / name).stat().st_size >= size for name, size in progress.sizes.items())
        except (OSError, InputError):
            return None
        return progress if is_whole and progress.identity == self._identity else None

    def __enter__(self) -> Self:
        with writing(self._partial):
            self._files = {name: (self._partial / name).open("ab", buffering=1 << 20) for name in (*FILES, SEEN)}
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # of a full disk; what is not in a checkpoint does not count
                file.close()

    def discard(self) -> None:
        """Removes what was done, which cannot become a folder."""
        self.__exit__()
        shutil.rmtree(self._partial, ignore_errors=True)

    def skip_empty(self) -> None:
        """Counts a document without text."""
        self.empty_skipped += 1
        self._count()

    def add(self, text: bytes, side: str, digest: bytes) -> None:
        """Takes a document that no earlier one equals, or counts it as a duplicate.

        Args:
          text: UTF-8.
          side: the side of the split.
          digest: sha256 of the text.
        """
        key = digest[:SEEN_BYTES]
        if key in self._seen:
            self.duplicates_dropped += 1
        else:
            self._seen.add(key)
            self._digests.append(key)
            self._batch.append((side, text))
            self._batch_bytes += len(text)
        self._count()

    def _count(self) -> None:
        self.consumed += 1
        self._new_documents += 1
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_DOCUMENTS:
            self._flush()
        if self._new_documents >= CHECKPOINT_DOCUMENTS or self._new_bytes >= CHECKPOINT_BYTES:
            self.checkpoint()
            if not sys.stderr.isatty():  # where there is no bar
                print(f"tokenised {self.consumed} documents into {self._partial}", file=sys.stderr)

    def _flush(self) -> None:
        """Tokenises the batch, and appends it to the files."""
        boundary = np.array([self._tokenizer.vocab_size], self._dtype)
        encoded = self._tokenizer.encode_batch([text for _, text in self._batch]) if self._batch else []
        with writing(self._partial, self._space_needed()):
            for side in SIDES:
                counts = self.sides[side]
                chosen = [index for index, (its_side, _) in enumerate(self._batch) if its_side == side]
                if not chosen:
                    continue
                pieces = [piece for index in chosen for piece in (encoded[index], boundary)]
                tokens = np.concatenate(pieces, dtype=self._dtype, casting="unsafe")
                ends = counts.tokens + np.cumsum([len(encoded[index]) + 1 for index in chosen])
                self._files[f"{side}.tokens"].write(tokens.data)
                self._files[f"{side}.ends"].write(ends.astype("<i8").data)
                self._new_bytes += tokens.nbytes
                self.sides[side] = Counts(
                    documents=counts.documents + len(chosen),
                    tokens=counts.tokens + len(tokens),
                    bytes=counts.bytes + sum(len(self._batch[index][1]) for index in chosen),
                )
            self._files[SEEN].write(b"".join(self._digests))
        self._batch, self._digests, self._batch_bytes = [], [], 0

    def checkpoint(self) -> None:
        """Writes the batch, makes what is in the files last, and notes how far it goes."""
        self._flush()
        with writing(self._partial, self._space_needed()):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
            sizes = {name: file.tell() for name, file in self._files.items()}
            progress = Progress(identity=self._identity, consumed=self.consumed, tally=self._tally(), sizes=sizes)
            publish_text(self._partial / PROGRESS, progress.canonical_json())
        self._new_bytes = self._new_documents = 0

    def _tally(self) -> Tally:
        return Tally(
            sides=dict(self.sides), duplicates_dropped=self.duplicates_dropped, empty_skipped=self.empty_skipped
        )

    def _space_needed(self) -> str:
        tokens, done = (sum(getattr(side, what) for side in self.sides.values()) for what in ("tokens", "bytes"))
        if self._expected_bytes is None:
            return f" after {done / 1e6:.1f} MB of text"
        per_byte = tokens / done if done else 1.0  # a guess before the first batch
        needed_bytes = self._expected_bytes * per_byte * self._dtype.itemsize
        return f"; about {needed_bytes / 1e6:.1f} MB are needed in all"

    def finish(self) -> None:
        """Writes the manifest, after a checkpoint, and gives the folder its name."""
        self.__exit__()
        with writing(self._partial):
            files = {}
            for name in FILES:
                stat, sha256 = (self._partial / name).stat(), hash_file(self._partial / name)
                files[name] = FileState(sha256=sha256, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
            manifest = Manifest(
                identity=self._identity,
                vocab_size=self._tokenizer.vocab_size,
                dtype=self._dtype.str,
                tally=self._tally(),
                files=files,
            )
            manifest = manifest.model_copy(update={"sha256": manifest.own_sha256()})
            publish_text(self._partial / MANIFEST, manifest.canonical_json())
            _give_name(self._folder)
