"""Replies of a worker are read as what they were; a line that is none is refused."""

import pytest
from pydantic import ValidationError

from launch.workers.replies import CellEnded, JobDone, Planned, Ready, Stopped, Unusable, read_reply
from scaling.specs.execution import Execution

REPLIES = [
    Ready(worker="w"),
    Planned(execution=Execution(population=4), how="measured"),
    CellEnded(cell="a", status="again"),
    JobDone(),
    Stopped(),
    Unusable(error="full"),
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.event)
def test_a_reply_is_read_as_what_it_was(reply):
    line = reply.canonical_json()
    assert "\n" not in line
    assert read_reply(line) == reply


@pytest.mark.parametrize("line", ["torn", '{"event": "sleep"}', '{"event": "record", "cell": "a", "status": "fine"}'])
def test_a_line_that_is_no_reply_is_refused(line):
    with pytest.raises(ValidationError):
        read_reply(line)
