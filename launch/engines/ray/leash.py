"""Runs a command that cannot outlive who asked for it: when this process's input ends, so does the command.

A service that ends its workers with SIGKILL, or their children too, forgets an agent or gives it no time to save. This
process is no child of the service's: it stands between the two, tells the agent to stop, waits, and then ends it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

KILL = b"kill"  # written before the input is closed: there is no time to save


def main(arguments: list[str]) -> None:
    """Runs `SECONDS COMMAND…`, and writes the exit status to standard output: negative for a signal's number.

    When standard input ends, the command gets SIGTERM, and so many seconds later its process group SIGKILL.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    grace_seconds, command = float(arguments[0]), arguments[1:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)

    def end_with_input() -> None:
        if os.read(sys.stdin.fileno(), len(KILL)) != KILL:
            child.terminate()
            time.sleep(grace_seconds)
        _kill_group(child)

    threading.Thread(target=end_with_input, daemon=True).start()
    status = child.wait()
    _kill_group(child)  # what it may have left
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), b"%d\n" % status)


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
