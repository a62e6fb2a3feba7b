"""One launcher at a time on a local store: an advisory lock that the kernel drops with its last holder."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from scaling.files import is_local
from scaling.record import Store
from scaling.spec import InputError

# Workers of a launcher that was killed hold the lock until they notice, which takes them milliseconds.
PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def hold_store(store: Store) -> Iterator[tuple[int, ...]]:
    """Holds a store against other launchers; yields the file descriptors that worker processes must inherit.

    Raises:
      InputError: another launcher holds the store.
    """
    path = _lock_path(store)
    if path is None:  # not a local folder: there is nothing to lock
        yield ()
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(
            f"store {str(store.path)!r} cannot be written (lock: {error.strerror}); choose a writable --store"
        ) from None
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise InputError(
                    f"store {str(store.path)!r} is in use by another `scaling run`; wait for it, or choose another one"
                )
            time.sleep(0.05)
        yield (descriptor,)
    finally:
        os.close(descriptor)


def is_held(store: Store) -> bool:
    """Returns whether a launcher is at work on a store."""
    path = _lock_path(store)
    if path is None or not path.exists():
        return False
    with path.open() as file:
        return not _try_lock(file.fileno(), fcntl.LOCK_SH)


def _lock_path(store: Store) -> Path | None:
    return Path(os.fspath(store.path)) / ".lock" if is_local(store.path) else None


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
