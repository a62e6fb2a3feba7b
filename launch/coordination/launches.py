"""What was started on a store, by whom and how, and whether it was cancelled: one folder each in `launches/`."""

import datetime as dt
import json
import socket
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath
from pydantic import Field

from launch.coordination.provenance import Checkout, Code, user_name
from scaling.specs.base import InputError, Json, Spec, parse
from scaling.store.files import append_line, write_atomically
from scaling.store.record import CorruptStoreError
from scaling.store.store import Store

FILE, HANDLES, CANCELLED = "launch.json", "allocations.jsonl", "cancelled"


class Launch(Spec):
    """One call of `scaling run` that had something to train.

    Attributes:
      name: sorts by time.
      engine: that gives it machines.
      settings: the settings of the engine.
      allocations: how many of its machines, or gangs of machines, at a time.
      flags: the flags of the workers.
      began: when, by the clock of the machine that it was called on.
      user, host: who called, where.
      code: that it runs.
    """

    name: str
    engine: str
    settings: Json = Field(default_factory=dict)
    allocations: int = 1
    flags: tuple[str, ...] = ()
    began: str
    user: str
    host: str
    code: tuple[Code, ...] = ()


def begin_launch(store: Store, engine: str, checkouts: Sequence[Checkout] = (), **facts: Any) -> Launch:
    """Returns a new launch, which the store knows from now on; the code's differences are kept beside it."""
    now = dt.datetime.now(dt.UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    launch = Launch(
        name=name,
        engine=engine,
        began=now.isoformat(timespec="seconds"),
        user=user_name(),
        host=socket.gethostname(),
        code=tuple(code for code, _ in checkouts),
        **facts,
    )
    for code, diff in checkouts:
        if diff:
            write_atomically(_folder(store, name) / f"{code.folder}.diff", diff)
    write_atomically(_folder(store, name) / FILE, launch.canonical_json() + "\n")
    return launch


def read_launches(store: Store) -> Iterator[Launch]:
    """Yields a store's launches, oldest first.

    Raises:
      CorruptStoreError: one cannot be read.
    """
    folder = store.path / "launches"
    for path in sorted(folder.glob(f"*/{FILE}")) if folder.exists() else ():
        try:
            yield parse(Launch, path.read_text(), str(path))
        except InputError as error:
            raise CorruptStoreError(f"{error}; delete that launch's folder") from None


def cancel_launch(store: Store, launch: str) -> None:
    """Tells all processes of a launch, wherever they are, to save and to end; they look at every heartbeat."""
    write_atomically(_folder(store, launch) / CANCELLED, "")


def is_cancelled(store: Store, launch: str) -> bool:
    """Returns whether a launch was told to end."""
    return (_folder(store, launch) / CANCELLED).exists()


def note_allocations(store: Store, launch: str, handles: Sequence[str]) -> None:
    """Keeps what an engine calls the allocations that it was asked for, so that anybody finds them again."""
    if handles:
        append_line(_folder(store, launch) / HANDLES, json.dumps(list(handles)))


def read_allocations(store: Store, launch: str) -> list[str]:
    """Returns what an engine calls a launch's allocations, in the order in which it was asked for them."""
    path = _folder(store, launch) / HANDLES
    lines = path.read_text().splitlines() if path.exists() else []
    return [handle for line in lines for handle in json.loads(line)]


def _folder(store: Store, launch: str) -> epath.Path:
    return store.path / "launches" / launch
