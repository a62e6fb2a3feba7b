"""Files on any `etils.epath` path: written so that a killed or refused writer leaves nothing half-done."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from etils import epath
from etils.epath import backend

from scaling.specs.base import InputError

# What a file system without hard links answers.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def write_atomically(path: epath.Path, text: str, *, is_lasting: bool = True) -> None:
    """Writes a file that appears whole or not at all, also when the machine loses power in between.

    Args:
      path: the path of the file.
      text: what it holds.
      is_lasting: whether it matters after such a loss: then the disk has it when this returns, some milliseconds later.

    Raises:
      InputError: the folder cannot be written.
    """
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not is_local(path):  # object stores show an object when it is whole
            path.write_text(text)
            return
        publish_text(Path(os.fspath(path)), text, is_lasting=is_lasting)


def publish_text(path: Path, text: str, *, is_lasting: bool = True) -> None:
    """Writes a local file as `write_atomically` does.

    Raises:
      OSError: the folder is missing or cannot be written.
    """
    _write_beside(path, text, is_lasting).replace(path)


def publish_texts(texts: Mapping[Path, str]) -> None:
    """Writes many local files, each as `publish_text` does, while the disk is waited for once.

    Raises:
      OSError: a folder is missing or cannot be written.
    """
    waiting: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            waiting[path] = _write_beside(path, text, is_lasting=False)
        os.sync()
        for path in texts:
            waiting.pop(path).replace(path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)


def _write_beside(path: Path, text: str, is_lasting: bool) -> Path:
    """Returns a new file in the same folder as another."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if is_lasting:
            file.flush()
            os.fsync(file.fileno())
    return temporary


def create_once(path: epath.Path, text: str, *, is_lasting: bool = True) -> bool:
    """Creates a file that appears whole, unless it exists; returns whether this call made it. Of many, one does.

    Locally the new file is linked to its name, which is atomic on NFS too; object stores are asked for a first
    generation.

    Args:
      path: the path of the file.
      text: what it holds.
      is_lasting: as of `write_atomically`.

    Raises:
      InputError: the folder cannot be written.
    """
    with one_line_errors(path):
        if not is_local(path):
            try:
                backend.fsspec_backend.fs(path).pipe_file(os.fspath(path), text.encode(), mode="create")
            except FileExistsError:
                return False
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.fspath(path))
        temporary = _write_beside(target, text, is_lasting)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            raise InputError(
                f"{os.fspath(path)!r} is on a file system without hard links ({error.strerror}), so that two workers "
                "could not be kept apart; put the store on a disk, on NFS or Lustre, or on gs://"
            ) from None
        finally:
            temporary.unlink()
        return True


def append_line(path: epath.Path, line: str) -> None:
    """Appends a line to a text file; a last line that a killed writer left torn is closed off first.

    Raises:
      InputError: the folder cannot be written.
    """
    with one_line_errors(path):
        if not is_local(path):  # object stores have no append
            before = path.read_text() if path.exists() else ""
            path.write_text(before + ("\n" if before and not before.endswith("\n") else "") + line + "\n")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with Path(os.fspath(path)).open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else "\n" + line
            file.write(line.encode() + b"\n")


def read_file(path: epath.Path) -> bytes:
    """Returns what a file holds; of an object store in one request, where `path.read_bytes` asks four times.

    Raises:
      OSError: it is not there, or cannot be read.
    """
    if is_local(path):
        return path.read_bytes()
    client = backend.fsspec_backend.fs(path)
    return bytes(client.cat_file(client._strip_protocol(os.fspath(path))))


def is_local(path: epath.Path) -> bool:
    """Returns whether a path is on a file system of this machine."""
    return "://" not in os.fspath(path)


@contextlib.contextmanager
def one_line_errors(path: epath.Path, verb: str = "write") -> Iterator[None]:
    """Turns what a file system or an object store refuses, while this is open, into an `InputError` naming the path."""
    try:
        yield
    except (InputError, ImportError):
        raise
    except Exception as error:
        if is_local(path) and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        remedy = "choose a folder that can be read and written"
        if not is_local(path):  # clients of object stores have exceptions of their own
            remedy = (
                "check the name, the network, and that your credentials may use this bucket "
                "(for gs://, gcloud auth application-default login)"
            )
        raise InputError(f"cannot {verb} {os.fspath(path)!r} ({reason}); {remedy}") from None
