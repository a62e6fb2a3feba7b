"""Documents of text, one after another in an order that never changes, from files, the standard library or datasets."""

import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import platform
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from scaling.data.sources.stdlib import read_sources
from scaling.specs.base import InputError
from scaling.specs.data import CorpusSpec, FileDocuments, HuggingFaceDocuments, StdlibDocuments

FIELD = "data.source.documents"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Document(NamedTuple):
    """One text.

    Attributes:
      text: UTF-8.
      where: for messages: `corpus.jsonl line 3`.
    """

    text: bytes
    where: str


class MissingDocumentsError(InputError):
    """There is no such file, or none that the pattern matches."""


def read_documents(spec: CorpusSpec, field: str = FIELD) -> Iterator[Document]:
    """Yields the documents that a specification names; the same ones in the same order each time.

    Files are read as a stream: of lines, paragraphs and JSON-lines, one is in memory at a time. The byte order mark
    that some editors put before a file, the end of a line and blank lines between paragraphs or JSON objects belong to
    no document.

    Args:
      spec: what to read.
      field: dotted path of the specification, for messages.

    Raises:
      InputError: a file is missing, unreadable, not UTF-8 or not JSON-lines with the field.
    """
    if isinstance(spec, StdlibDocuments):
        for index, content in enumerate(read_sources()):
            if content.strip():
                where = f"standard library file {index}"
                yield Document(_checked(content, where, f"leave {field}.kind='stdlib'"), where)
    elif isinstance(spec, FileDocuments):
        for name, path in _list_files(spec, field):
            with _readable(path, field):
                yield from _read_file(spec, name, path, field)
    elif isinstance(spec, HuggingFaceDocuments):
        from scaling.data.sources.hugging_face import iterate_texts

        yield from (Document(*found) for found in iterate_texts(spec, field))
    else:
        from scaling.data.sources.tfds import iterate_documents

        yield from (Document(*found) for found in iterate_documents(spec, field))


def document_files(spec: CorpusSpec, field: str = FIELD) -> list[list[str | int]]:
    """Returns what tells one state of the documents from another without reading them all, as JSON-like values.

    Of files [relative name, bytes, time of modification in ns] each; of the standard library Python's version and a
    sha256 of its content; of TFDS the full name, version included, and the split; of Hugging Face's datasets the
    fingerprint, the split and its number of rows.

    Raises:
      MissingDocumentsError: there are no such files.
    """
    if isinstance(spec, StdlibDocuments):
        return [[platform.python_version(), _hash_library()]]
    if isinstance(spec, FileDocuments):
        states: list[list[str | int]] = []
        for name, path in _list_files(spec, field):
            with _readable(path, field):
                state = path.stat()
            states.append([name, state.st_size, state.st_mtime_ns])
        return states
    if isinstance(spec, HuggingFaceDocuments):
        from scaling.data.sources.hugging_face import identify_texts

        try:
            return [identify_texts(spec, field)]
        except InputError as error:
            raise MissingDocumentsError(str(error)) from None
    from scaling.data.sources.tfds_folders import open_dataset

    try:
        return [[str(open_dataset(spec, field).info.full_name), spec.split]]
    except InputError as error:
        raise MissingDocumentsError(str(error)) from None


@functools.cache
def _hash_library() -> str:
    digest = hashlib.sha256()
    for content in read_sources():
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _list_files(spec: FileDocuments, field: str) -> list[tuple[str, Path]]:
    """Returns (relative name, path) of every file, in the order of the names."""
    root = Path(spec.path).expanduser()
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        raise MissingDocumentsError(f"{field}.path={spec.path!r} does not exist; name a file or a folder of files")
    _check_folders(root, spec.pattern, field)
    try:
        found = [(path.relative_to(root), path) for path in root.glob(spec.pattern) if path.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{field}.pattern={spec.pattern!r}: {error}; write a pattern such as '**/*.txt'") from None
    files = sorted(
        (relative.as_posix(), path)
        for relative, path in found
        if not any(part.startswith(".") for part in relative.parts)
    )
    if not files:
        raise MissingDocumentsError(
            f"{field}.pattern={spec.pattern!r} matches no file in {spec.path!r} that is not hidden; change pattern or "
            "path"
        )
    return files


def _check_folders(root: Path, pattern: str, field: str) -> None:
    """Checks that the folders that a pattern reaches into can be read: it would pass over them, and lose documents."""

    def fail(error: OSError) -> None:
        raise InputError(
            f"{field}: cannot read {error.filename} ({error.strerror}); make the folder readable, or name another"
        )

    for _, folders, _ in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if "**" in pattern and not name.startswith(".")]


def _read_file(spec: FileDocuments, name: str, path: Path, field: str) -> Iterator[Document]:
    lower = name.lower()
    remedy = f"convert the file to UTF-8, or leave it out by {field}.pattern"
    with _open(path, lower.endswith(".gz")) as file:
        if lower.removesuffix(".gz").endswith(".jsonl"):
            for number, line in _lines(file):
                if line.strip():
                    where = f"{name} line {number}"
                    yield Document(_text_of(_checked(line, where, remedy), where, spec.field, field), where)
        elif spec.unit == "file":
            yield Document(_checked(file.read().removeprefix(BYTE_ORDER_MARK), name, remedy), name)
        else:
            pieces = _lines(file) if spec.unit == "line" else _paragraphs(_lines(file))
            for number, piece in pieces:
                where = f"{name} line {number}"
                yield Document(_checked(piece, where, remedy), where)


@contextlib.contextmanager
def _readable(path: Path, field: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{field}: cannot read {path} ({reason}); repair the file, or leave it out") from None


def _open(path: Path, is_gzipped: bool) -> BinaryIO:
    if is_gzipped:
        return io.BufferedReader(gzip.open(path), 1 << 20)
    return path.open("rb", buffering=1 << 20)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields (number from 1, line without its end)."""
    for number, line in enumerate(file, 1):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        yield number, text.removesuffix(b"\n").removesuffix(b"\r")


def _paragraphs(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yields (number of its first line, paragraph)."""
    first, held = 0, list[bytes]()
    for number, line in lines:
        if line.strip():
            first = first if held else number
            held.append(line)
        elif held:
            yield first, b"\n".join(held)
            held = []
    if held:
        yield first, b"\n".join(held)


def _checked(text: bytes, where: str, remedy: str) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} is not UTF-8 (byte 0x{text[error.start]:02x} at offset {error.start}); {remedy}"
        ) from None
    return text


def _text_of(line: bytes, where: str, key: str, field: str) -> bytes:
    """Returns the text that a JSON object holds in a field."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}); write one JSON object a line") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is a JSON {type(value).__name__}; write one JSON object a line")
    if key not in value:
        known = ", ".join(map(repr, value)) or "none"
        raise InputError(f"{where} has no field {key!r}, its fields are {known}; set {field}.field")
    if not isinstance(value[key], str):
        raise InputError(
            f"{where}: field {key!r} is a {type(value[key]).__name__} and no string; set {field}.field, or repair the "
            "line"
        )
    try:
        return value[key].encode()
    except UnicodeEncodeError:  # a lone half of a surrogate pair, which JSON can spell and UTF-8 cannot
        raise InputError(
            f"{where}: field {key!r} holds half a character (\\ud800 … \\udfff); repair the line"
        ) from None
