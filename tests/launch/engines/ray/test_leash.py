"""The leash: a command ends when whoever asked for it does, however that was, and has time to save."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from launch.engines.ray import leash

SAVES = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('up', flush=True)\n"
    "signal.pause()"
)
REFUSES = (
    "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', os.getpid(), flush=True)\n"
    "while True: signal.pause()"
)


def start(grace_seconds, program) -> subprocess.Popen:
    """Starts a program on a leash, and waits until it says something."""
    held = subprocess.Popen(
        [sys.executable, "-P", leash.__file__, str(grace_seconds), sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    held.stderr.readline()
    return held


def let_go(held, said: bytes = b"") -> int:
    """Closes a leash's input, and returns the status that it tells."""
    out, _ = held.communicate(said)
    return int(out)


def test_a_command_that_ends_by_itself_is_told_with_its_status():
    held = start(10, "import sys; print('up', flush=True); sys.exit(3)")
    assert int(held.stdout.readline()) == 3
    held.communicate()


def test_a_command_is_told_to_stop_when_the_input_ends_and_its_own_status_counts():
    assert let_go(start(30, SAVES)) == 75


def test_a_command_that_does_not_stop_is_killed_after_the_grace():
    held = start(0.3, REFUSES)
    began = time.monotonic()
    assert let_go(held) == -signal.SIGKILL
    assert time.monotonic() - began >= 0.3


def test_a_command_is_killed_at_once_when_it_is_urgent():
    assert let_go(start(60, SAVES), leash.KILL) == -signal.SIGKILL


def test_a_command_ends_when_whoever_asked_for_it_is_killed():
    asks = (
        "import subprocess, sys\n"
        f"words = [sys.executable, '-P', {leash.__file__!r}, '0.2', sys.executable, '-c', {REFUSES!r}]\n"
        "held = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "held.wait(); held.stdout.read()"
    )
    asker = subprocess.Popen([sys.executable, "-c", asks], stderr=subprocess.PIPE, start_new_session=True)
    pid = int(asker.stderr.readline().split()[1])
    assert is_alive(pid)
    os.killpg(asker.pid, signal.SIGKILL)  # with its children, as a service does
    asker.wait()
    asker.stderr.close()
    deadline = time.monotonic() + 10
    try:
        while is_alive(pid):
            assert time.monotonic() < deadline, "the command has outlived who asked for it"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
