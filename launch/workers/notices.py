"""Preemption notices as a worker takes them: what can be saved is saved first, and the rest ends at once."""

import contextlib
import signal
from collections.abc import Iterator

import jax

from scaling.devices.processes import Notices, Preempted


class StopNotices(Notices):
    """Notices, and Ctrl-C as one of them, which raise `Preempted` wherever there is nothing to save.

    A second Ctrl-C does not wait for a checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waits = self._is_one = False

    def __enter__(self) -> "StopNotices":
        self._is_one = jax.process_count() == 1
        super().__enter__()
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._hear)
        return self

    @contextlib.contextmanager
    def held_back(self, can_save: bool) -> Iterator[None]:
        """Lets notices wait, while it is open, until `heard` is asked, if something can be saved then."""
        self._waits = can_save
        try:
            yield
        finally:
            self._waits = False

    def _hear(self, *received: object) -> None:
        again = self._heard and received[0] == signal.SIGINT
        super()._hear()
        if self._is_one and (again or not self._waits):
            raise Preempted
