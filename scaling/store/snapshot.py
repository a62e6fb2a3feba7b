"""The snapshot of a large store: Parquet files that can be made again at any time, and are never the truth.

`STORE/snapshot/records.<version>.parquet` has the rows of complete cells, each with the signature that its record's
file had, and the record itself; it stands for records whose files still have that signature. `study.<version>.parquet`
has the fingerprints, labels and fields of the cells, for the study.json whose hash it names. The version is the hash of
the code that the content follows from, so that two versions of this package do not take each other's.

Who has read many files anew writes it. A store that cannot be written, of somebody else, say, has its snapshot in the
user's cache folder: analysts look at such stores most, and those in buckets would take seconds each time.
"""

import contextlib
import functools
import hashlib
import os
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etils import epath

from scaling.store.files import is_local, read_file

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "snapshot"
# Of the layout of the files; what the columns hold goes by the code that makes them.
SCHEMA = 1
# How many files must be new before they are worth a snapshot: on a disk a thousand are read while Arrow is imported,
# elsewhere each is a request. Of a store that grows a twentieth must be, so that it is not written again at each look.
MANY_ON_DISK, MANY_ELSEWHERE, SHARE = 1_000, 200, 20
# Files of other versions that are left in the folder: somebody may be using them.
LEFT = 2

Kind = Literal["records", "study"]


def is_worth_it(store: epath.Path, num_new: int, num_all: int) -> bool:
    """Returns whether so many files of a store that were read anew, of so many, are worth a snapshot."""
    return num_new >= max(MANY_ON_DISK if is_local(store) else MANY_ELSEWHERE, num_all // SHARE)


def read_snapshot(
    store: epath.Path, kind: Kind, columns: Collection[str] | None = None, without: Collection[str] = (), **facts: str
) -> "pa.Table | None":
    """Returns a part of a store's snapshot; None where there is none, or it is damaged or of another version.

    Args:
      store: the store's folder.
      kind: which file.
      columns: that are wanted, as far as they are there; all by default.
      without: columns that are not.
      facts: with which it must have been written.
    """
    # The cache's was written where the store's was not good enough.
    for path in (epath.Path(_cached(store) / _name(kind)), store / FOLDER / _name(kind)):
        found = _read(path, columns, without, facts)
        if found is not None:
            return found
    return None


def write_snapshot(store: epath.Path, kind: Kind, table: "pa.Table", **facts: str) -> None:
    """Writes a part of a store's snapshot, atomically; where neither the store nor the cache can be written, nothing.

    Args:
      store: the store's folder.
      kind: which file.
      table: what it holds.
      facts: kept in the metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    marked = table.replace_schema_metadata({**facts, "schema": str(SCHEMA), "version": version()})
    # Checksums: a damaged page would else be read as other numbers.
    pq.write_table(marked, sink, compression="zstd", write_page_checksum=True, row_group_size=1 << 17)
    content = sink.getvalue()
    if not _write(store / FOLDER / _name(kind), content):
        _write(epath.Path(_cached(store) / _name(kind)), content)


@functools.cache
def version() -> str:
    """Returns what tells apart versions of the code that a snapshot follows from: 12 hex digits."""
    here = Path(__file__).parent
    files = [*sorted((here.parent / "specs").glob("*.py")), *sorted(here.glob("*.py"))]
    digest = hashlib.sha256(str(SCHEMA).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _name(kind: Kind) -> str:
    return f"{kind}.{version()}.parquet"


def _cached(store: epath.Path) -> Path:
    from scaling.store.cache import cache_folder  # which imports NumPy

    place = os.fspath(store) if not is_local(store) else str(Path(os.fspath(store)).resolve())
    return cache_folder() / FOLDER / hashlib.sha256(place.encode()).hexdigest()[:16]


def _read(
    path: epath.Path, columns: Collection[str] | None, without: Collection[str], facts: Mapping[str, str]
) -> "pa.Table | None":
    if is_local(path) and not Path(os.fspath(path)).exists():  # Arrow is not imported for nothing
        return None
    try:
        content = os.fspath(path) if is_local(path) else read_file(path)
    except Exception:  # noqa: BLE001  clients of object stores have exceptions of their own; the records are there
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pa.BufferReader(content) if isinstance(content, bytes) else content
        with pq.ParquetFile(source, memory_map=True, page_checksum_verification=True) as file:
            held = file.schema_arrow.metadata or {}
            wanted = {**facts, "schema": str(SCHEMA), "version": version()}
            if any(held.get(name.encode()) != value.encode() for name, value in wanted.items()):
                return None
            names = [name for name in file.schema_arrow.names if name not in without]
            return file.read([name for name in names if columns is None or name in columns])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def _write(path: epath.Path, content: "pa.Buffer") -> bool:
    try:
        if is_local(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            target = Path(os.fspath(path))
            temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        else:  # object stores show an object when it is whole
            path.write_bytes(content.to_pybytes())
    except Exception:  # noqa: BLE001  as above; it is only faster with it
        return False
    with contextlib.suppress(Exception):
        _tidy(path)
    return True


def _tidy(path: epath.Path) -> None:
    """Removes what old versions have left beside a file."""
    if not is_local(path):
        return  # a listing and a request each; buckets have rules for what is old
    target = Path(os.fspath(path))
    kind = target.name.partition(".")[0]
    others = [file for file in target.parent.glob(f"{kind}.*.parquet") if file != target]
    for file in sorted(others, key=lambda file: file.stat().st_mtime)[:-LEFT]:
        file.unlink(missing_ok=True)
