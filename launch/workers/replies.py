"""What a worker process answers its agent: one JSON document a line, each a reply of one kind."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from launch.progress import EndStatus
from scaling.specs.base import Spec
from scaling.specs.execution import Execution

# How a cell that a worker was given ended there: for good, with a failure that may be tried again, or because others
# have it.
CellEnd = EndStatus | Literal["again", "held"]


class Ready(Spec):
    """The process takes requests; `worker` is its name in the store."""

    event: Literal["ready"] = "ready"
    worker: str


class Planned(Spec):
    """How a program shall be executed, and how that was found out, in words."""

    event: Literal["plan"] = "plan"
    execution: Execution
    how: str


class CellEnded(Spec):
    """One cell of a job has ended."""

    event: Literal["record"] = "record"
    cell: str
    status: CellEnd


class JobDone(Spec):
    """All cells of a job have ended, each with its own reply before this one."""

    event: Literal["done"] = "done"


class Stopped(Spec):
    """The process was told to stop, has saved what it could, and ends."""

    event: Literal["preempted"] = "preempted"


class Unusable(Spec):
    """The store cannot be used; the process ends."""

    event: Literal["unusable"] = "unusable"
    error: str


Reply = Ready | Planned | CellEnded | JobDone | Stopped | Unusable

_READER: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="event")])


def read_reply(line: str) -> Reply:
    """Returns the reply that a line holds."""
    return _READER.validate_json(line)
