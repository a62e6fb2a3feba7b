"""A clock that tests move, and beats of workers elsewhere."""

import json
import os
import subprocess
from pathlib import Path

from launch.coordination.presence import Presence, beat_path
from scaling.store.store import Store
from tests.places import ROOT

CELL = "0123456789ab"


class Clock:
    """A clock that goes as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Returns the time."""
        return self.now


def beat_from_afar(store: Store, worker: str, count: int) -> None:
    """Leaves the heartbeat of a worker on another machine."""
    with Presence(store, patience_seconds=60.0) as presence:
        text = beat_path(store, presence.worker).read_text()
    far = text.replace(presence.worker, worker).replace('"count":1,', f'"count":{count},')
    machine = far.index('"machine":"') + len('"machine":"')
    beat_path(store, worker).parent.mkdir(exist_ok=True)
    beat_path(store, worker).write_text(far[:machine] + "other " + far[machine:])


class Racer:
    """A process that claims and publishes when it is told to."""

    def __init__(self, python: str, store: Store) -> None:
        words = [python, str(Path(__file__).with_name("lease_racer.py")), str(store.path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def ask(self, *words: object) -> None:
        """Tells it what to do next."""
        print(*words, file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        """Returns how that went."""
        return json.loads(self.process.stdout.readline())
