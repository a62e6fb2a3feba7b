"""Python's collector of cycles, paused while much is made that has none: it would look through all of it often."""

import contextlib
import gc
from collections.abc import Iterator

# Objects that take the collector a tenth of a second each time.
MUCH = 200_000


@contextlib.contextmanager
def paused_collection() -> Iterator[None]:
    """Pauses the collector of cycles while this is open, unless it is off already.

    Where very much has been made and is still there, the collector leaves it alone from then on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_count()[0] > MUCH:
                gc.freeze()
            gc.enable()
