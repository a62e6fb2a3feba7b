"""The Ray engine: allocations on a Ray cluster that exists, or on one of this machine alone."""

import contextlib
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launch.engines import EngineError, Order, Sighting, State
from launch.engines.ray.actors import Keeper, read_report
from launch.engines.ray.connection import (
    LOCAL,
    NAMESPACE,
    answers,
    connect_to,
    current_connection,
    disconnect,
    in_one_line,
)
from launch.engines.ray.settings import Settings
from scaling.specs.base import canonical_json
from scaling.store.store import Store

ANSWER_SECONDS = 30.0  # that a cluster may take to answer
BEGIN_SECONDS = 600.0  # that it may take to make the environment of a keeper: `pip` installs packages there


def connect(settings: Settings, store: Store) -> "RayEngine":
    """Returns the engine; the cluster is looked for when something is asked of it.

    Raises:
      EngineError: Ray is not installed here.
    """
    del store  # its agents know where it is
    try:
        import ray
    except ImportError:
        raise EngineError("the Ray engine needs the package ray; pip install 'scaling[ray]'") from None
    del ray
    return RayEngine(settings)


class RayEngine:
    """Machines of a Ray cluster.

    A handle is `ADDRESS/KEEPER/NUMBER`: the cluster, the actor there that keeps the allocations of one call of
    `submit`, and the allocation's number.

    Attributes:
      outlives_command: whether allocations go on when the process that has asked for them ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.outlives_command = settings.address is not None

    def describe(self, order: Order, count: int) -> str:
        """Returns exactly what `submit` would submit, as text."""
        settings = self._settings
        where = settings.address or "a new cluster of this machine, which ends with this command"
        if settings.topology is None:
            machines = f"{settings.hosts} of {canonical_json(settings.needs())}, each another node"
        else:
            machines = f"a TPU slice {settings.accelerator} {settings.topology}, of each node also "
            machines += canonical_json(settings.needs())
        lines = {
            "cluster": where,
            "keeper": f"detached actor {order.launch}-… in namespace {NAMESPACE}",
            "allocations": str(count),
            "machines of each": machines,
            "runtime_env": canonical_json(settings.runtime_env),
            "command": "python -P -m launch.cli " + shlex.join(order.words),
        }
        if settings.hosts > 1 or settings.topology is not None:
            lines["command"] += " --distributed --coordinator=… --num-processes=… --process-id=…"
        return "\n".join(f"{name}: {value}" for name, value in lines.items())

    def submit(self, order: Order, count: int) -> list[str]:
        """Asks for allocations, and returns a handle for each.

        Raises:
          EngineError: there is no cluster, it speaks another version, or its machines cannot run this package.
        """
        import ray

        address = connect_to(self._settings.address or LOCAL, self._settings.runtime_env).address
        name = f"{order.launch}-{uuid.uuid4().hex[:6]}"
        keeper = None
        try:
            with in_one_line(f"the Ray cluster {address} cannot start an actor"):
                keeper = _start_keeper(name, self._settings, order)
                ray.get(keeper.begin.remote(count), timeout=BEGIN_SECONDS)
        except BaseException:
            if keeper is not None:
                with contextlib.suppress(Exception):
                    ray.kill(keeper)
            raise
        return [f"{address}/{name}/{i}" for i in range(count)]

    def observe(self, handles: Sequence[str]) -> Mapping[str, Sighting]:
        """Returns what has become of allocations.

        Raises:
          EngineError: the cluster does not answer.
        """
        found: dict[str, Sighting] = {}
        for (address, keeper), numbers in _by_keeper(handles).items():
            names = {number: f"{address}/{keeper}/{number}" for number in numbers}
            if not self._connect_for(address):
                state: State = "running" if answers(address) else "ended"
                found |= dict.fromkeys(names.values(), Sighting(state, why=f"{state} with the command that began it"))
                continue
            with _asking(address):
                seen = self._look(keeper, numbers)
            found |= {names[number]: sighting for number, sighting in seen.items()}
        return {handle: found[handle] for handle in handles}

    def cancel(self, handles: Sequence[str]) -> None:
        """Ends allocations; agents that run get SIGTERM, and `grace_seconds` later SIGKILL.

        Raises:
          EngineError: the cluster does not answer.
        """
        for (address, keeper), numbers in _by_keeper(handles).items():
            if self._connect_for(address):
                with _asking(address):
                    _ask(keeper, "cancel", numbers)

    # --- keepers ----------------------------------------------------------------------------------------------------

    def _look(self, keeper: str, numbers: Sequence[int]) -> dict[int, Sighting]:
        reports = {number: read_report(f"{keeper}/{number}") for number in numbers}
        if None in reports.values():
            seen = _ask(keeper, "look")
            for number, report in reports.items():
                if report is None:
                    reports[number] = seen[number] if seen else read_report(f"{keeper}/{number}")
        lost = Sighting("preempted", why="what kept it in the cluster was lost, and so was the allocation")
        return {
            number: Sighting("waiting", why=self._why_waiting()) if seen == Sighting("waiting") else seen or lost
            for number, seen in reports.items()
        }

    def _why_waiting(self) -> str:
        """Returns why machines are not given: because there are none such, or because others have them."""
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"]]
        settings, needs = self._settings, self._settings.needs()
        if settings.topology is not None:
            fit = [node for node in nodes if node["Labels"].get("ray.io/tpu-topology") == settings.topology]
            if not fit:
                return f"no node of the cluster belongs to a TPU slice of topology {settings.topology}"
            return "the slices of this topology are in use or incomplete"
        fit = [node for node in nodes if all(node["Resources"].get(name, 0) >= needs[name] for name in needs)]
        if len(fit) >= settings.hosts:
            return "enough nodes have what is asked for: they are in use, or about to begin"
        most = {name: max((node["Resources"].get(name, 0) for node in nodes), default=0) for name in needs}
        return (
            f"{settings.hosts} nodes with {_in_words(needs)} are asked for, and {len(fit)} of {len(nodes)} have it "
            f"(the most that one has: {_in_words(most)}); add nodes, or ask for less"
        )

    def _connect_for(self, address: str) -> bool:
        """Connects to the cluster of some allocations; returns whether it can be asked.

        One that belongs to another command may have ended, or this process has its own, which would end.
        """
        here = current_connection()
        is_other = self._settings.address is None and (here is None or address != here.address)
        if is_other and ((here is not None and here.owns_cluster) or not answers(address)):
            return False
        connect_to(address)
        return True


@contextlib.contextmanager
def _asking(address: str) -> Iterator[None]:
    """Reports what goes wrong in one line; the next time starts with a new connection."""
    try:
        with in_one_line(f"the Ray cluster {address} does not answer"):
            yield
    except EngineError:
        here = current_connection()
        if here is not None and not here.owns_cluster:
            with contextlib.suppress(Exception):
                disconnect()
        raise


def _ask(keeper: str, method: str, *arguments: Any) -> Any:
    """Returns a keeper's answer; None if it has ended."""
    import ray
    from ray.exceptions import ActorUnavailableError, RayActorError

    try:
        actor = ray.get_actor(keeper, namespace=NAMESPACE)
        return ray.get(getattr(actor, method).remote(*arguments), timeout=ANSWER_SECONDS)
    except ActorUnavailableError:
        raise  # it may be there the next time
    except (ValueError, RayActorError):  # there is no actor of this name, or has just been one
        return None


def _start_keeper(name: str, settings: Settings, order: Order) -> Any:
    import ray

    actor = ray.remote(Keeper).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        # It hardly works, and is on the head because no other node's loss shall be an allocation's loss.
        resources={"node:__internal_head__": 0.001},
    )
    return actor.remote(name, settings, order)


def _by_keeper(handles: Sequence[str]) -> dict[tuple[str, str], list[int]]:
    """Returns the numbers of allocations by address and keeper."""
    found: dict[tuple[str, str], list[int]] = {}
    for handle in handles:
        address, keeper, number = handle.rsplit("/", 2)
        found.setdefault((address, keeper), []).append(int(number))
    return found


def _in_words(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts.items())
