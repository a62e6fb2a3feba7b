"""Proof that a folder still holds what was written: a sealed manifest with the size and sha256 of every file."""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from scaling.specs.base import canonical_json
from scaling.store.files import is_local

# Bytes read at once: large enough that the hash, which runs outside Python's lock, takes nearly all of the time.
READ_BYTES = 4 * 2**20

# Files read at once. A local disk is served by a few; object stores answer slowly, and are asked for several.
READERS = 8


class DamageError(ValueError):
    """A file is not what was written; the message says which and how."""


class FileProof(NamedTuple):
    """Size in bytes and sha256 of one file."""

    size: int
    sha256: str


def seal(content: Mapping[str, Any]) -> str:
    """Returns a JSON text of the content that carries its own sha256, so that any change to it shows.

    >>> seal({"step": 3})
    '{"content":{"step":3},"sha256":"f2c76473acac2fa2146cd9615b918e8ae33033c5a78dd320338b04ac6fa438ab"}'
    """
    digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return canonical_json({"content": content, "sha256": digest})


def unseal(text: str) -> dict[str, Any]:
    """Returns the content of a sealed text.

    Raises:
      DamageError: the text is not, to the character, what `seal` returned.
    """
    try:
        content: dict[str, Any] = json.loads(text)["content"]
        intact = seal(content) == text
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise DamageError("has other bytes than were written")
    return content


def prove_files(folder: epath.Path) -> dict[str, FileProof]:
    """Returns the proof of every file below a folder, by its path there; all are on the disk when it returns.

    Raises:
      OSError: a file cannot be read.
    """
    names = list(_walk(folder))
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        proofs = pool.map(lambda name: _prove_file(folder / name, durable=True), names)
        proved = dict(zip(names, proofs, strict=True))
    if is_local(folder):
        for name in sorted({str(Path(name).parent) for name in names}):
            sync_folder(folder / name)
    return proved


def find_damage(folder: epath.Path, proofs: Iterable[tuple[str, FileProof]]) -> str | None:
    """Returns what is wrong with the first file, in the order given, that is not what was proved; None if all are.

    Sizes are looked at first, of all files: that costs nothing and shows what is cut off or missing.
    """
    proofs = list(proofs)
    for name, proof in proofs:
        try:
            size = (folder / name).stat().length
        except OSError as error:
            return f"{name} is missing or cannot be read ({error.strerror or error})"
        if size != proof.size:
            return f"{name} has {size} bytes where {proof.size} were written"
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        for verdict in pool.map(lambda proof: _compare(folder, *proof), proofs):
            if verdict is not None:
                return verdict
    return None


def _compare(folder: epath.Path, name: str, proof: FileProof) -> str | None:
    try:
        read = _prove_file(folder / name, durable=False)
    except OSError as error:
        return f"{name} cannot be read ({error.strerror or error})"
    return None if read == proof else f"{name} has other bytes than were written"


def _prove_file(path: epath.Path, *, durable: bool) -> FileProof:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        if durable and is_local(path):
            os.fsync(file.fileno())
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileProof(size, digest.hexdigest())


def _walk(folder: epath.Path, prefix: str = "") -> Iterator[str]:
    """Yields the paths of all files below a folder, sorted within each."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir():
            yield from _walk(path, f"{prefix}{path.name}/")
        else:
            yield f"{prefix}{path.name}"


def sync_folder(folder: epath.Path) -> None:
    """Makes a local folder's entries, new and removed, survive a loss of power; does nothing for an object store."""
    if is_local(folder):
        descriptor = os.open(os.fspath(folder), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
