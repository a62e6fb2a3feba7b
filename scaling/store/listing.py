"""One file of many cells at once: which cells have it, its signature, and what it holds."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from etils.epath import backend

from scaling.store.files import is_local, one_line_errors, publish_texts, write_atomically

# Files that are asked for together, so that what they hold need not be in memory all at once.
TOGETHER = 1_000
# So few are written to a disk one by one.
FEW = 16
# What means something in a glob; a folder whose name has such is listed, and looked through here.
MAGIC = frozenset("*?[]{}\\")
# What tells, in the listing of an object store or of a file system, that a file was written again.
MARKS = ("generation", "etag", "ETag", "checksum", "mtime", "LastModified", "last_modified", "created", "size")


def find_files(folder: epath.Path, name: str, cells: Collection[str]) -> dict[str, str]:
    """Returns a file's signature for each of the cells that have it, in the order in which they were given.

    A signature is another one as soon as the file was written again: it is made of size, time and inode on a disk, and
    of the generation in a bucket. On a disk each file is asked for; elsewhere the folder is listed, whose pages have a
    thousand files.

    Args:
      folder: that has a folder for each cell.
      name: of the file, below a cell's folder.
      cells: fingerprints.
    """
    if not cells:
        return {}
    found = _stat_files(os.fspath(folder), name, cells) if is_local(folder) else _list_files(folder, name)
    return {cell: found[cell] for cell in cells if cell in found}


def read_files(folder: epath.Path, name: str, cells: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yields what a file of each cell holds; cells that have none are left out. Of object stores many are read at once.

    Raises:
      OSError: a file is there, and cannot be read.
    """
    if is_local(folder):
        root = os.fspath(folder)
        for cell in cells:
            try:
                with open(f"{root}/{cell}/{name}", "rb", buffering=0) as file:  # noqa: PTH123  a third of the time
                    yield cell, file.read()
            except FileNotFoundError:
                continue
        return
    client, root = _client(folder)
    for part in _batches(list(cells)):
        contents = client.cat_ranges([f"{root}/{cell}/{name}" for cell in part], None, None)
        for cell, content in zip(part, contents, strict=True):
            if isinstance(content, FileNotFoundError):
                continue
            if isinstance(content, BaseException):
                raise content
            yield cell, bytes(content)


def write_files(folder: epath.Path, name: str, texts: Mapping[str, str]) -> None:
    """Writes a file of each of some cells, which appears whole or not at all; to object stores many at once.

    Raises:
      InputError: the folder cannot be written.
    """
    if len(texts) < (FEW if is_local(folder) else 2):
        for cell, text in texts.items():
            write_atomically(folder / cell / name, text)
        return
    with one_line_errors(folder):
        if is_local(folder):
            paths = {cell: Path(os.fspath(folder), cell, name) for cell in texts}
            for path in paths.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            for some in _batches(list(texts)):
                publish_texts({paths[cell]: texts[cell] for cell in some})
            return
        client, root = _client(folder)
        client.pipe({f"{root}/{cell}/{name}": text.encode() for cell, text in texts.items()})


def _batches(cells: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(cells), TOGETHER):
        yield cells[first : first + TOGETHER]


def _stat_files(root: str, name: str, cells: Iterable[str]) -> dict[str, str]:
    found = {}
    for cell in cells:
        try:
            stat = os.stat(f"{root}/{cell}/{name}")  # noqa: PTH116  half of the time
        except (FileNotFoundError, NotADirectoryError):
            continue
        found[cell] = f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
    return found


def _list_files(folder: epath.Path, name: str) -> dict[str, str]:
    client, root = _client(folder)
    end = f"/{name}"
    listed = _list_objects(client, root, name) if _is_google(client) else _walk(client, root)
    return {
        path[len(root) + 1 : -len(end)]: signature
        for path, signature in listed
        if path.endswith(end) and path.count("/") == root.count("/") + 1 + end.count("/")
    }


def _list_objects(client: Any, root: str, name: str) -> Iterator[tuple[str, str]]:
    """Yields paths and signatures of a bucket's files of one name, for which the service looks.

    The client's own `find` would list each cell's other files too.
    """
    bucket, _, prefix = root.partition("/")
    query = {"prefix": f"{prefix}/", "maxResults": TOGETHER, "fields": "items(name,generation,size),nextPageToken"}
    if MAGIC.isdisjoint(prefix):
        query["matchGlob"] = f"{prefix}/*/{name}"
    while True:
        try:
            page = client.call("GET", "b/{}/o", bucket, json_out=True, **query)
        except FileNotFoundError:  # no such bucket
            return
        for item in page.get("items", ()):
            yield f"{bucket}/{item['name']}", f"{item['generation']}-{item['size']}"
        if not (token := page.get("nextPageToken")):
            return
        query["pageToken"] = token


def _walk(client: Any, root: str) -> Iterator[tuple[str, str]]:
    for path, facts in client.find(root, detail=True).items():
        yield path, "-".join(str(facts[mark]) for mark in MARKS if facts.get(mark) is not None)


def _is_google(client: Any) -> bool:
    protocols = client.protocol if isinstance(client.protocol, tuple | list) else (client.protocol,)
    return "gs" in protocols and hasattr(client, "call")


def _client(folder: epath.Path) -> tuple[Any, str]:
    """Returns the fsspec file system of a folder, and what that calls it."""
    client = backend.fsspec_backend.fs(folder)
    return client, client._strip_protocol(os.fspath(folder)).rstrip("/")
