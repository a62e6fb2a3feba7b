"""Writing files on any `etils.epath` path so that a killed or refused writer leaves nothing half-done."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from scaling.spec import InputError


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes a file that appears whole or not at all, also when the machine loses power in between.

    Raises:
      InputError: the folder cannot be written.
    """
    with _one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not is_local(path):  # object stores show an object when it is whole
            path.write_text(text)
            return
        publish_text(Path(os.fspath(path)), text)


def publish_text(path: Path, text: str) -> None:
    """Writes a local file that appears whole or not at all, also when the machine loses power in between.

    Raises:
      OSError: the folder is missing or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def append_line(path: epath.Path, line: str) -> None:
    """Appends a line to a text file; a last line that a killed writer left torn is closed off first.

    Raises:
      InputError: the folder cannot be written.
    """
    with _one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else ""
        text = ("\n" if before and not before.endswith("\n") else "") + line + "\n"
        if is_local(path):
            with Path(os.fspath(path)).open("a", encoding="utf-8") as file:
                file.write(text)
        else:  # object stores have no append
            path.write_text(before + text)


def is_local(path: epath.Path) -> bool:
    """Returns whether a path is on a file system of this machine."""
    return "://" not in os.fspath(path)


@contextlib.contextmanager
def _one_line_errors(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {os.fspath(path)!r} ({reason}); choose a folder that can be written") from None
