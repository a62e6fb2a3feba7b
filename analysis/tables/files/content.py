"""The bytes and the text of a file: unpacked by its suffix, decoded by what it begins with."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError

if TYPE_CHECKING:
    from etils import epath

TEXTS = (".csv", ".tsv", ".txt")
JSONS = (".json", ".jsonl", ".ndjson")
SHEETS = (".xlsx", ".xls", ".ods")
SUFFIXES = (*TEXTS, *JSONS, ".parquet", *SHEETS)
# What a file of another kind begins with, and what it then is.
BEGINNINGS = {
    b"PAR1": "a Parquet file (.parquet)",
    b"PK\x03\x04": "an Excel file (.xlsx), an OpenDocument one (.ods) or a zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls) or one with a password",
    b"\x1f\x8b": "a file packed by gzip (.gz)",
    b"BZh": "a file packed by bzip2 (.bz2)",
    b"\xfd7zXZ\x00": "a file packed by xz (.xz)",
    b"\x28\xb5\x2f\xfd": "a file packed by zstd (.zst)",
    b"\x89HDF": "an HDF5 file",
}
# Longer marks first: UTF-32 begins as UTF-16 does.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


NAME_IT = "give it the suffix of what it is"


class BrokenError(Exception):
    """What is wrong with a file's content; whoever knows the file's name makes an `AnalysisError` of it."""

    def __init__(self, reason: str, remedy: str = "write it again") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def _unpack_zstd(content: bytes) -> bytes:
    import pyarrow as pa

    unpacked: bytes = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    return unpacked


UNPACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _unpack_zstd,
}


def split_name(source: str) -> tuple[str, str, str]:
    """Returns a file's name without folder and suffixes, its suffix and that of its packing, both in lower case.

    >>> split_name("runs/a.b.CSV.gz"), split_name("runs/notes.md"), split_name("x.gz")
    (('a.b', '.csv', '.gz'), ('notes.md', '', ''), ('x.gz', '', ''))
    """
    path = PurePath(source)
    packing = path.suffix.lower() if path.suffix.lower() in UNPACKERS else ""
    inner = PurePath(path.name[: -len(packing)]) if packing else PurePath(path.name)
    suffix = inner.suffix.lower()
    return (inner.stem, suffix, packing) if suffix in SUFFIXES else (path.name, "", "")


def check_address(source: str) -> None:
    """Checks that a source is no page of the web, which nothing here fetches.

    Raises:
      AnalysisError: it is.
    """
    if source.partition("://")[0] in ("http", "https"):
        raise AnalysisError(f"source={source!r} is a web address; download the file, and give its path")


def refuse_kind(source: str, *, exists: bool) -> AnalysisError:
    """Returns the error for a source that is no folder and has no name of a table."""
    reason = "is neither a folder nor" if exists else "does not exist; give a store folder or"
    kinds = f"{', '.join(SUFFIXES)} file ({', '.join(UNPACKERS)} too)"
    return AnalysisError(f"source={source!r} {reason} a {kinds}")


@contextlib.contextmanager
def one_line(source: str, done: str) -> Iterator[None]:
    """Has what a file system or a bucket refuses be one line, on what could not be `done` to a source.

    Raises:
      AnalysisError: it refuses, or the package that reaches it is not installed.
    """
    try:
        yield
    except AnalysisError:
        raise
    except ImportError as error:
        raise AnalysisError(
            f"source={source!r} needs a package that is not installed ({error}); for gs:// install scaling[gcs]"
        ) from None
    except (OSError, ValueError) as error:
        raise AnalysisError(
            f"source={source!r} cannot be {done} ({first_line(error)}); check its permissions"
        ) from None


def read_content(path: epath.Path, suffix: str, packing: str) -> bytes:
    """Returns what a file holds, unpacked.

    Raises:
      AnalysisError: if the file is a folder, may not be read, or is not packed as its suffix says.
    """
    source = str(path)
    with one_line(source, "read"):
        if not path.exists():
            raise refuse_kind(source, exists=False)
        if path.is_dir():
            raise AnalysisError(f"source={source!r} is a folder; give its files, like '{source.rstrip('/')}/*{suffix}'")
        content: bytes = path.read_bytes()
    if not packing:
        return content
    try:
        return UNPACKERS[packing](content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise AnalysisError(
            f"source={source!r} is no readable {packing} file ({first_line(error)}{hint(content, packing)}); "
            "write it again, or name it by what it is"
        ) from None


def first_line(error: BaseException) -> str:
    """Returns what an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def hint(content: bytes, suffix: str = "") -> str:
    """Returns what a file is by what it begins with, as the end of a sentence; nothing where that is not known.

    >>> hint(b"PAR1..."), hint(b"a,b")
    (', its content is that of a Parquet file (.parquet)', '')
    """
    for beginning, kind in BEGINNINGS.items():
        if content.startswith(beginning) and f"({suffix})" not in kind:
            return f", its content is that of {kind}"
    return ""


def decode(content: bytes) -> tuple[str, str]:
    """Returns the text of a file and, where it was guessed, the name of its encoding.

    Raises:
      BrokenError: if the bytes are no text.

    >>> decode("a,µ".encode("utf-16")), decode("a,µ".encode("cp1252"))
    (('a,µ', ''), ('a,µ', 'cp1252'))
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            try:
                text = content[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise BrokenError(f"it begins as {encoding} and is none at byte {error.start}") from None
            if "\0" in text:
                raise BrokenError("it holds characters that are no text", "write it as text in UTF-8")
            return text, ""
    if b"\0" in content:
        kind = hint(content)
        raise BrokenError(f"it holds bytes that are no text{kind}", NAME_IT if kind else "write it as text in UTF-8")
    try:
        return content.decode(), ""
    except UnicodeDecodeError:
        try:
            return content.decode("cp1252"), "cp1252"
        except UnicodeDecodeError as error:
            raise BrokenError(
                f"byte {error.start} is no text in UTF-8 or cp1252{hint(content)}", "write it as text in UTF-8"
            ) from None
