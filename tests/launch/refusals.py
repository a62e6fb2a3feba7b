"""What a refused call leaves: a status, and one line."""


def check_line(done, status, message):
    """Checks that a call has ended with a status, and has said one line, with these words in it."""
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    lines = [line for line in done.stderr.splitlines() if "cells to train" not in line]
    assert len(lines) == 1, done.stderr
