"""What gives machines to a store's agents: the few functions that every engine has, and how one is chosen.

An engine knows nothing of cells. It is asked for *allocations*, each a machine or a gang of machines that start the
same command, and says what becomes of them; agents there find their work in the store. A new engine is one module here,
named in `ENGINES`, with `Settings` (a `Spec`) and `connect(settings, store) → Engine`.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from scaling.specs.base import InputError, Json, Spec, override
from scaling.store.store import Store

ENGINES = ("local", "slurm", "ray", "cloud_tpu", "gke")

State = Literal["waiting", "running", "ended", "preempted", "failed"]

LIVE: tuple[State, ...] = ("waiting", "running")


class EngineError(RuntimeError):
    """An engine cannot run anything: something is wrong with the machines, not with a cell."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What every machine of every allocation shall do.

    Attributes:
      launch: name of the launch, letters, digits and `-`.
      store: where agents find their work; a path that machines see, or a URL.
      words: arguments of the `scaling` command that starts the agent, which ends by itself: status 0 when nothing is
        left for it, 1 when cells have failed, 75 when it was told to stop and has saved.
    """

    launch: str
    store: str
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sighting:
    """What has become of an allocation.

    Attributes:
      state: `waiting` for machines, `running`, `ended` by itself, `preempted` (or lost with its machines), `failed`.
      place: its machines, in the engine's words.
      why: the cause of the last two, and of waiting where the engine says.
    """

    state: State
    place: str = ""
    why: str = ""


class Engine(Protocol):
    """Machines for agents.

    Attributes:
      outlives_command: whether allocations go on when the process that has asked for them ends.
    """

    outlives_command: bool

    def describe(self, order: Order, count: int) -> str:
        """Returns exactly what `submit` would submit, as text."""

    def submit(self, order: Order, count: int) -> list[str]:
        """Asks for allocations, and returns what the engine calls each: a handle that another process can use.

        Raises:
          EngineError: they are refused; one line says by whom, why, and what to do.
        """

    def observe(self, handles: Sequence[str]) -> Mapping[str, Sighting]:
        """Returns what has become of allocations; those that the engine has forgotten have `ended`.

        Raises:
          EngineError: the engine cannot be asked now; the next time may do.
        """

    def cancel(self, handles: Sequence[str]) -> None:
        """Ends allocations, running or waiting, and lets go of their machines; those that have ended do not matter.

        Raises:
          EngineError: the engine cannot be asked now.
        """


def ask_for(count: int, ask: Callable[[], str]) -> list[str]:
    """Asks for allocations one by one, and returns their handles: fewer where some were given and the next refused.

    Raises:
      EngineError: the first is refused.
    """
    handles: list[str] = []
    for _ in range(count):
        try:
            handles.append(ask())
        except EngineError:
            if not handles:
                raise
            break  # what was given is worth having; the next time asks for the rest
    return handles


def connect(name: str, assignments: Sequence[str], store: Store) -> tuple[Engine, Spec]:
    """Returns an engine, and its settings, with `PATH=VALUE` assignments over the defaults.

    Raises:
      InputError: a setting does not exist or does not take this value.
      EngineError: what the engine needs is not there.
    """
    module = importlib.import_module(f"launch.engines.{name}")
    settings = _settings(module, assignments)
    return module.connect(settings, store), settings


def find_anywhere(name: str, assignments: Sequence[str]) -> list[Json]:
    """Returns what an engine has given to launches on any store and not got back, as rows of a table.

    Raises:
      InputError: the engine cannot tell without a store.
      EngineError: it cannot be asked now.
    """
    module = importlib.import_module(f"launch.engines.{name}")
    if not hasattr(module, "find"):
        raise InputError(f"--engine {name} knows its allocations from a store alone; give STORE")
    return [dataclasses.asdict(row) for row in module.find(_settings(module, assignments))]


def _settings(module: Any, assignments: Sequence[str]) -> Spec:
    try:
        (settings,) = override([module.Settings()], assignments)
    except InputError as error:
        raise InputError(str(error).replace("--set", "--option")) from None
    return settings


def reconnect(name: str, settings: Mapping[str, Any], store: Store) -> Engine:
    """Returns the engine of a launch that was begun earlier, perhaps elsewhere."""
    module = importlib.import_module(f"launch.engines.{name}")
    return module.connect(module.Settings.model_validate(settings, strict=False), store)
