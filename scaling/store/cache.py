"""Prepared arrays, kept in the user's cache folder so that only the first process pays for them."""

import contextlib
import os
import sys
import uuid
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np


def cache_folder() -> Path:
    """Returns the folder of what can be made again: `$XDG_CACHE_HOME/scaling`, or `~/.cache/scaling`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling"


def lock_folder(folder: Path) -> IO[str]:
    """Returns a lock on what makes a folder, an open file beside it, once no other process has it; closing frees it.

    Processes of a machine are kept apart, and of machines whose shared file system has locks.

    Raises:
      OSError: the lock's file cannot be written.
    """
    lock = folder.with_name(folder.name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("a")
    try:
        import fcntl
    except ImportError:  # no POSIX: processes are not kept apart
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process, which prepares {folder}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def load_or_make(name: str, make: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Returns the arrays kept under a name, or makes and keeps them.

    The name must change with everything that the arrays depend on. Where the cache folder cannot be written, the
    arrays are made anew each time.
    """
    path = cache_folder() / f"{name}.npz"
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile, EOFError), np.load(path) as kept:
        return [kept[key] for key in kept.files]
    arrays = list(make())
    with contextlib.suppress(OSError):
        publish_arrays(path, *arrays)
    return arrays


def publish_arrays(path: Path, *arrays: np.ndarray, **named: np.ndarray) -> None:
    """Writes an .npz file that appears whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        with temporary.open("wb") as file:
            np.savez(file, *arrays, **named)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
