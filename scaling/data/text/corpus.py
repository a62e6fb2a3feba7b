"""A folder of tokens: what its manifest says, and how it is checked."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from scaling.specs.base import InputError, Spec, canonical_json, parse
from scaling.store.files import publish_text

FORMAT_VERSION = 1
MANIFEST, CHECKED = "manifest.json", "checked.json"
SIDES = ("train", "held_out")
FILES = tuple(f"{side}.{what}" for side in SIDES for what in ("tokens", "ends"))


class Counts(Spec):
    """What is on one side of the split; tokens include a boundary for each document, bytes are of UTF-8."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


class FileState(Spec):
    """A file as it was published."""

    sha256: str
    size: int
    mtime_ns: int


class Identity(Spec):
    """All that decides the tokens; None for what is not on this machine."""

    format_version: int = FORMAT_VERSION
    settings: dict[str, Any]
    tokenizer_sha256: str | None
    documents_sha256: str | None


class Tally(Spec):
    """What has been done with documents."""

    sides: dict[str, Counts]
    duplicates_dropped: int
    empty_skipped: int


class Manifest(Spec):
    """What a finished folder holds; `sha256` is of the other fields."""

    identity: Identity
    vocab_size: int
    dtype: str
    tally: Tally
    files: dict[str, FileState]
    sha256: str = ""

    def own_sha256(self) -> str:
        """Returns the sha256 of all fields but that one."""
        return hash_json(self.model_dump(mode="json", exclude={"sha256"}))


def hash_json(value: Any) -> str:
    """Returns the sha256 of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def token_dtype(vocab_size: int) -> str:
    """Returns the smallest type that holds the tokens of V, the boundary V and the mask V + 1, little-endian.

    >>> token_dtype(256), token_dtype(32_000), token_dtype(128_000)
    ('<u2', '<u2', '<i4')
    """
    return "|u1" if vocab_size + 2 <= 1 << 8 else "<u2" if vocab_size + 2 <= 1 << 16 else "<i4"


def open_manifest(folder: Path) -> Manifest:
    """Returns the manifest of a folder whose files are those that it lists.

    A file whose size or time of modification is another than at publication, a copy for instance, is hashed in full.
    When it is right, that is noted beside it, where the folder can be written, so that nobody hashes it again.

    Raises:
      InputError: manifest or files are damaged.
    """
    remedy = f"delete {folder} to tokenise again"
    try:
        manifest = parse(Manifest, (folder / MANIFEST).read_bytes(), MANIFEST)
    except (OSError, InputError) as error:
        raise InputError(f"{folder / MANIFEST} is damaged ({error}); {remedy}") from None
    if manifest.identity.format_version != FORMAT_VERSION:
        raise InputError(
            f"{folder / MANIFEST} is of version {manifest.identity.format_version}, not {FORMAT_VERSION}; {remedy}"
        )
    if manifest.own_sha256() != manifest.sha256 or set(manifest.files) != set(FILES):
        raise InputError(f"{folder / MANIFEST} does not match its own sha256; {remedy}")
    checked = _read_checked(folder, manifest)
    found = {}
    for name, state in manifest.files.items():
        path = folder / name
        try:
            stat = path.stat()
            found[name] = f"{stat.st_size} {stat.st_mtime_ns}"
            is_right = stat.st_size == state.size and (
                stat.st_mtime_ns == state.mtime_ns
                or checked.get(name) == found[name]
                or hash_file(path) == state.sha256
            )
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        if not is_right:
            raise InputError(f"{path} does not match its manifest; {remedy}")
    published = {name: f"{state.size} {state.mtime_ns}" for name, state in manifest.files.items()}
    if found not in (published, checked):
        with contextlib.suppress(OSError):  # a shared folder that others own
            publish_text(folder / CHECKED, canonical_json({"manifest": manifest.sha256, **found}))
    return manifest


def _read_checked(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Returns the states of files, `size mtime_ns`, whose content was found right."""
    try:
        states = json.loads((folder / CHECKED).read_bytes())
    except (OSError, ValueError):
        return {}
    return states if isinstance(states, dict) and states.pop("manifest", "") == manifest.sha256 else {}


def hash_file(path: Path) -> str:
    """Returns the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
