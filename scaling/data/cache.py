"""Prepared arrays, kept in the user's cache folder so that only the first process pays for them."""

import contextlib
import os
import uuid
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def cache_folder() -> Path:
    """Returns the folder of what can be made again: `$XDG_CACHE_HOME/scaling`, or `~/.cache/scaling`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling"


def load_or_make(name: str, make: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Returns the arrays kept under a name, or makes and keeps them.

    The name must change with everything that the arrays depend on. Where the cache folder cannot be
    written, the arrays are made anew each time.
    """
    path = cache_folder() / f"{name}.npz"
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile, EOFError), np.load(path) as kept:
        return [kept[key] for key in kept.files]
    arrays = list(make())
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}.npz")
        np.savez(temporary, *arrays)
        temporary.replace(path)
    return arrays
