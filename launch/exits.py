"""What a process of this project ends with: `scaling`, its agents and workers, and what engines make of it."""

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

DONE = 0
WORK_FAILED = 1  # some cells failed; a fit did not converge
WRONG_CALL = 2  # nothing was begun
PREEMPTED = 75  # stopped, and saved: run me again (`EX_TEMPFAIL` of sysexits.h)

OF_AGENTS = (DONE, WORK_FAILED, PREEMPTED)  # that have done what they could; all else is a mishap


def leave(status: int) -> NoReturn:
    """Ends this process once its threads have and what is registered for its end is done.

    Modules are not torn down, which takes a second where JAX has compiled.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads
            stream.flush()
    os._exit(status)
